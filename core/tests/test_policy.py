"""Who may ever relay."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp import LOGIN, LoginEvent
from pop_before_smtp._config import PolicySettings
from pop_before_smtp._host import Host
from pop_before_smtp._networks import Netblocks
from pop_before_smtp._policy import Policy


def net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


def login(address: str | None = "203.0.113.7", **fields: object) -> LoginEvent:
    known: dict[str, object] = {"at": 0.0, "received": 0.0, "user": "ann", "service": "imap", "tls": True}
    return LoginEvent(kind=LOGIN, address=address, **{**known, **fields})  # type: ignore[arg-type]  # test data


def judge(event: LoginEvent, host: Host | None = None, **settings: object) -> str | None:
    return Policy(PolicySettings(**settings), host or Host()).judge(event)  # type: ignore[arg-type]  # test data


@pytest.mark.parametrize(
    "address", ["203.0.113.7", "2001:db8:c::7", "198.51.100.1", "192.168.1.4", "100.64.0.9", "fd00::1"]
)
def test_clients_may_relay(address: str) -> None:
    assert judge(login(address)) is None


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "ff02::1"],
)
def test_addresses_of_no_client_never_may(address: str) -> None:
    assert judge(login(address)) == "never"


def test_this_machine_and_its_gateway_never_may() -> None:
    host = Host(own=frozenset({"203.0.113.1"}))
    assert judge(login("203.0.113.1"), host) == "own_address"


def test_a_new_look_at_the_machine_counts() -> None:
    policy = Policy(PolicySettings(), Host())
    assert policy.judge(login("203.0.113.1")) is None
    policy.refresh(Host(own=frozenset({"203.0.113.1"})))
    assert policy.judge(login("203.0.113.1")) == "own_address"


def test_networks_of_the_policy() -> None:
    settings = {
        "trusted_proxies": (net("203.0.113.250/32"),),
        "refuse": (net("2001:db8:bad::/48"),),
        "exempt": (net("198.51.100.0/24"),),
    }
    assert judge(login("203.0.113.250"), **settings) == "trusted_proxy"
    assert judge(login("2001:db8:bad::66"), **settings) == "refused_network"
    assert judge(login("198.51.100.66"), **settings) == "exempt"
    assert judge(login("203.0.113.251"), **settings) is None


@pytest.mark.parametrize("address", ["10.1.2.3", "172.17.0.1", "192.168.0.5", "100.64.1.1", "fd12::1"])
def test_private_addresses_where_every_client_looks_alike(address: str) -> None:
    assert judge(login(address), Host(container=True)) == "container"
    assert judge(login(address), Host(container=True), private_addresses="allow") is None
    assert judge(login(address), private_addresses="refuse") == "private_address"


def test_a_container_bridge_refuses_only_its_own_network() -> None:
    host = Host(bridges=(net("172.17.0.0/16"),))
    assert judge(login("172.17.0.1"), host) == "container"
    assert judge(login("172.18.0.1"), host) is None


def test_services_tls_and_users() -> None:
    assert judge(login(service="submission")) == "service"
    assert judge(login(service="submission"), services=("submission",)) is None
    assert judge(login(tls=False), require_tls=True) == "no_tls"
    assert judge(login(tls=None), require_tls=True) == "no_tls"
    assert judge(login(user="bob"), users=("scan*", "ann")) == "user"
    assert judge(login(user="scanner-3"), users=("scan*", "ann")) is None
    assert judge(login(user=None), users=("*",)) == "user"
    assert judge(login(None)) == "no_address"


def test_netblocks_first_match_wins() -> None:
    blocks = Netblocks([(net("192.0.2.5/32"), False), (net("192.0.2.0/24"), True), (net("192.0.2.6/32"), False)])
    assert "192.0.2.5" not in blocks
    assert "192.0.2.6" in blocks
    assert "192.0.3.1" not in blocks
    assert "2001:db8::1" not in blocks
    assert "192.0.2.5" not in Netblocks()


@pytest.mark.parametrize(
    ("networks", "everything"),
    [
        (["0.0.0.0/0"], True),
        (["::/0"], True),
        (["0.0.0.0/1", "128.0.0.0/1"], True),
        (["0.0.0.0/1", "10.0.0.0/8", "2001:db8::/32"], False),
        ([], False),
    ],
)
def test_netblocks_that_cover_everything(networks: list[str], everything: bool) -> None:
    assert Netblocks.of(map(net, networks)).everything() is everything


def network4(prefix: int, number: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network((number << 24, prefix), strict=False)


NETWORKS = st.builds(network4, st.integers(0, 8), st.integers(0, 255)) | st.builds(
    lambda prefix, number: ipaddress.IPv6Network((number << 120, prefix), strict=False),
    st.integers(0, 8),
    st.integers(0, 255),
)


@given(st.lists(st.tuples(NETWORKS, st.booleans()), max_size=12), st.data())
def test_netblocks_answer_for_each_address_what_the_first_entry_says(
    entries: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, bool]], data: st.DataObject
) -> None:
    blocks = Netblocks(entries)
    number = data.draw(st.integers(0, 255)) << 24 | data.draw(st.sampled_from([0, 1, (1 << 24) - 1]))
    for address in (ipaddress.IPv4Address(number), ipaddress.IPv6Address(number << 96)):
        first = next((permitted for network, permitted in entries if address in network), False)
        assert (str(address) in blocks) is first


@pytest.mark.parametrize("address", ["", "192.0.2", "192.0.2.1.1", "fe80::1%eth0", "1:2", "192.0.2.1\0"])
def test_what_is_no_address_grants_nothing(address: str) -> None:
    assert judge(login(address)) == "bad_address"
