"""One outlet: what it wants, its safety nets, and the net change it hands over."""

import ipaddress
from pathlib import Path

import attrs
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp import LOGIN, LoginEvent, Map, Writer
from pop_before_smtp._config import OutletSettings, PolicySettings, WriterSettings
from pop_before_smtp._networks import Netblocks
from pop_before_smtp._outlet import Outlet
from pop_before_smtp.api import Changes

GRACE = 1800.0


@frozen(kw_only=True)
class Settings:
    map: str = "test:/map"


class NoMap(Map):
    def __init__(self) -> None:
        self.path = Path("/map")

    def write(self, changes: Changes) -> None:
        raise AssertionError(changes)

    def clear(self) -> None:
        raise AssertionError


def outlet(netblocks: Netblocks | None = None, policy: PolicySettings | None = None, **settings: object) -> Outlet:
    writer = Writer(name="test", settings=Settings, open=lambda _: NoMap())
    table = OutletSettings(use="test", **settings)  # type: ignore[arg-type]  # test data
    configured = WriterSettings(outlet=table, writer=writer, settings=Settings(), index=0)
    return Outlet(configured, GRACE, netblocks or Netblocks(), policy or PolicySettings())


def login(address: str | None = "203.0.113.7", **fields: object) -> LoginEvent:
    known: dict[str, object] = {"at": 0.0, "received": 0.0, "user": "ann", "service": "imap"}
    return LoginEvent(kind=LOGIN, address=address, **{**known, **fields})  # type: ignore[arg-type]  # test data


def test_a_login_is_worth_a_lease_of_what_is_left_of_the_grace() -> None:
    one = outlet()
    assert one.apply(login(), 100.0, 300.0) is None
    assert one.leases.deadline("203.0.113.7") == 100.0 + GRACE - 300.0
    assert one.changes() == {"203.0.113.7": True}
    assert one.changes() == {}


def test_a_renewal_changes_no_key() -> None:
    one = outlet()
    one.apply(login(), 0.0, 0.0)
    one.changes()
    one.apply(login(), 60.0, 0.0)
    assert one.changes() == {}
    assert one.leases.deadline("203.0.113.7") == 60.0 + GRACE


def test_a_login_past_its_deadline_grants_nothing() -> None:
    one = outlet()
    assert one.apply(login(), 0.0, GRACE) == "expired_on_arrival"
    assert one.changes() == {}


def test_expiry_hands_over_a_removal() -> None:
    one = outlet()
    one.apply(login(), 0.0, 0.0)
    one.changes()
    assert one.expire(GRACE - 1) == []
    assert one.expire(GRACE) == ["203.0.113.7"]
    assert one.changes() == {"203.0.113.7": False}


def test_netblocks_need_no_lease_and_their_exclusions_do() -> None:
    blocks = Netblocks(
        [(ipaddress.ip_network("203.0.113.9/32"), False), (ipaddress.ip_network("203.0.113.0/24"), True)]
    )
    one = outlet(blocks)
    assert one.apply(login(), 0.0, 0.0) == "netblocks"
    assert one.apply(login("203.0.113.9"), 0.0, 0.0) is None


def test_the_filter_counts_for_renewals_too() -> None:
    one = outlet(services=("pop3",), users=("ann",))
    assert one.apply(login(), 0.0, 0.0) == "service"
    assert one.apply(login(service="pop3", user="bob"), 0.0, 0.0) == "user"
    assert one.apply(login(service="pop3"), 0.0, 0.0) is None
    assert one.apply(login(), 900.0, 0.0) == "service"
    assert one.leases.deadline("203.0.113.7") == GRACE


def test_no_more_than_max_leases_but_renewals(caplog: pytest.LogCaptureFixture) -> None:
    one = outlet(policy=PolicySettings(max_leases=2))
    for number in (1, 2):
        assert one.apply(login(f"203.0.113.{number}", user=None), 0.0, 0.0) is None
    assert one.apply(login("203.0.113.3", user=None), 0.0, 0.0) == "max_leases"
    assert one.apply(login("203.0.113.4", user=None), 0.0, 0.0) == "max_leases"
    assert one.apply(login("203.0.113.1", user=None), 5.0, 0.0) is None
    assert len([record for record in caplog.records if "no new ones" in record.message]) == 1


def test_the_newest_addresses_of_a_user_keep_their_lease() -> None:
    one = outlet(policy=PolicySettings(max_addresses_per_user=2))
    assert one.changes() == {}
    for number in (1, 2, 1, 3):
        one.apply(login(f"203.0.113.{number}"), 0.0, 0.0)
    assert set(one.leases) == {"203.0.113.1", "203.0.113.3"}
    assert one.changes() == {"203.0.113.1": True, "203.0.113.2": False, "203.0.113.3": True}


def test_expired_addresses_do_not_count_against_a_user() -> None:
    one = outlet(policy=PolicySettings(max_addresses_per_user=2))
    one.apply(login("203.0.113.1"), 0.0, 0.0)
    one.apply(login("203.0.113.2"), 0.0, 0.0)
    one.apply(login("203.0.113.2"), 1000.0, 0.0)
    one.expire(GRACE)
    one.apply(login("203.0.113.3"), GRACE, 0.0)
    assert set(one.leases) == {"203.0.113.2", "203.0.113.3"}


def test_users_without_leases_are_forgotten() -> None:
    one = outlet()
    for turn in range(4):
        for number in range(50):
            one.apply(login(f"10.0.{turn}.{number}", user=f"user{turn}-{number}"), turn * GRACE, 0.0)
    assert {user.partition("-")[0] for user in {**one._users, **one._earlier}} == {"user2", "user3"}


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.floats(0, 3000), st.floats(0, 3000)),
        min_size=1,
    )
)
def test_logins_commute(logins: list[tuple[int, float, float]]) -> None:
    """Neither order nor repetition matters: the lease runs from the last login."""
    now = 3000.0
    tables = []
    for order in (logins, logins[::-1], logins + logins):
        one = outlet()
        for number, _, age in order:
            one.apply(login(f"203.0.113.{number}"), now, age)
        tables.append({address: one.leases.deadline(address) for address in one.leases})
    youngest = {f"203.0.113.{n}": min(age for m, _, age in logins if m == n) for n, _, _ in logins}
    model = {address: now + GRACE - age for address, age in youngest.items() if age < GRACE}
    assert tables == [model] * 3


def test_the_settings_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        OutletSettings(use="x").use = "y"  # type: ignore[misc]  # that is the point
