"""Whatever is handed to a map of any type, by its reader's own rules it opens one address, the one that was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from maptypes import STATIC, TYPES, Entries, folder
from pop_before_smtp._address import canonical
from pop_before_smtp.api import Changes
from pop_before_smtp.errors import MapError

__all__ = ["folder"]

Address = IPv4Address | IPv6Address
Asks = Callable[[Address], Iterator[bytes]]

# -- what each mail server asks for when a client comes, as seen by experiment and read in its manual


def _cut(key: str, sign: str) -> Iterator[str]:
    """Yield a key, and it without its last part again and again."""
    yield key
    while sign in key:
        key = key.rpartition(sign)[0]
        yield key


def postfix(client: Address, end: bytes = b"\0") -> Iterator[bytes]:
    """Follow access(5): ``2001:db8::1``, ``2001:db8:``, ``2001:db8``, ``2001``."""
    return (key.encode() + end for key in _cut(str(client), "." if client.version == 4 else ":"))


def exim(client: Address) -> Iterator[bytes]:
    """Look up the whole address."""
    yield str(client).encode()


def _groups(client: Address) -> str:
    return ":".join(group.lstrip("0") or "0" for group in client.exploded.split(":"))


def popauth(client: Address) -> Iterator[bytes]:
    """Look up the whole address, as sendmail spells it without and with ``UseCompressedIPv6Addresses``."""
    spelt = {str(client)} if client.version == 4 else {f"ipv6:{_groups(client)}", f"ipv6:{client}"}
    return (key.encode() for key in spelt)


def access(client: Address) -> Iterator[bytes]:
    """Do as sendmail's ruleset ``A``: take ``::10`` or ``:10`` away, in either spelling."""
    for key in popauth(client):
        rest = key.decode()
        while rest:
            yield b"connect:" + rest.encode()
            sign = "." if client.version == 4 else ":"
            head, found, last = rest.rpartition(sign)
            rest = (head[:-1] if head.endswith(":") and last else head) if found else ""


def tcpserver(client: Address) -> Iterator[bytes]:
    """Ask as tcprules(1) says: the address, its beginnings that end in a dot or colon, nothing."""
    short = _groups(client).replace(":0:", "::", 1) if client.version == 6 else ""
    for key in {str(client), short} if short.count("::") == 1 else {str(client)}:
        yield key.encode()
        yield from (key[: end + 1].encode() for end, sign in enumerate(key) if sign in ".:")
    yield b""


def couriertcpd(client: Address) -> Iterator[bytes]:
    """Look up ``192.0.2.10``, ``192.0.2``, ``192.0``, ``192``; ``:2001:0db8`` and so on."""
    key = str(client) if client.version == 4 else f":{client.exploded}"
    return (part.encode() for part in _cut(key, "." if client.version == 4 else ":"))


ASKS: dict[str, Asks] = {
    "lmdb": postfix,
    "cdb": lambda client: postfix(client, b""),
    "hash": postfix,
    "btree": postfix,
    "popauth": popauth,
    "popauth.txt": popauth,
    "access": access,
    "tcp.smtp": tcpserver,
    "smtpaccess": couriertcpd,
}


def in_a_list(entries: Entries, client: Address) -> bool:
    """Match like exim's host lists and smtpd's tables, where a line may also be a network or the beginning of one."""
    for line in entries:
        text = line.decode()
        if "/" not in text and text.count(".") < 3 and ":" not in text:
            text = ".".join([*text.split("."), "0", "0", "0"][:4]) + f"/{8 * len(text.split('.'))}"
        if client in ip_network(text, strict=False):
            return True
    return False


def opens(name: str, entries: Entries, client: Address) -> bool:
    """Tell whether the mail server permits a client."""
    ours = {key: value for key, value in entries.items() if name != "tcp.smtp" or key not in STATIC}
    if name in ASKS:
        return any(key in ours for key in ASKS[name](client))
    return in_a_list({key: value for key, value in ours.items() if key != b"127.0.0.1"}, client)


def goes_on(spelt: str, other: Address) -> bool:
    """Tell whether an address begins with the whole of another, as ``2001:db8::1:2`` with ``2001:db8::1``.

    Postfix permits it then, in every table that it asks; docs/mta-postfix.md says so. Both are in one /64, unless
    there is only one number before the ``::``.
    """
    near = int(other) >> 64 == int(ip_address(spelt)) >> 64 or "::" in spelt[: len("2001::")]
    return str(other).startswith(f"{spelt}:") and near


# -- what is handed over

GROUP = st.sampled_from([0, 0, 0, 1, 0x10, 0xDB8, 0x2001])
SPARSE = st.lists(GROUP, min_size=8, max_size=8).map(lambda groups: IPv6Address(":".join(f"{g:x}" for g in groups)))
ADDRESSES = st.one_of(SPARSE, st.ip_addresses())


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Address, Address]:
    """Return an address and another that is often near it."""
    one = draw(ADDRESSES)
    if draw(st.booleans()):
        return one, draw(ADDRESSES)
    if draw(st.booleans()) and "::" in str(one):  # that goes on where the other ends
        try:
            return one, ip_address(f"{one}:{draw(st.sampled_from(['1', '1:2', '10:0:1', '1:2:3']))}")
        except ValueError:
            return one, draw(ADDRESSES)
    return one, type(one)(int(one) ^ 1 << draw(st.integers(0, one.max_prefixlen - 1)))


def unusual(address: Address, data: st.DataObject) -> str:
    """Return an address as somebody might spell it, or something that begins with it, or ends in it."""
    text = str(address)
    part = text[: data.draw(st.integers(0, len(text)))]
    spellings = [text, text, part, part + ".", part + ":", address.exploded, text.upper(), f"{text}%eth0", f"[{text}]"]
    spellings += [
        f"::ffff:{text}",
        f"{text}/8",
        f"{text}/128",
        f"ipv6:{text}",
        f" {text}",
        f"{text}\n",
        f"{text}\0",
        f"!{text}",
    ]
    return data.draw(st.sampled_from(spellings))


@pytest.mark.parametrize("name", TYPES)
def test_a_map_opens_the_address_that_was_meant_and_no_other(folder: Path, name: str) -> None:
    target = TYPES[name].open(folder / name)

    @hypothesis.settings(max_examples=100, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(pair=pairs(), data=st.data())
    @hypothesis.example(pair=(ip_address("192.0.2.1"), ip_address("192.0.2.10")), data=None)
    @hypothesis.example(pair=(ip_address("2001:db8:9::10"), ip_address("2001:db8:9::10:1")), data=None)
    @hypothesis.example(pair=(ip_address("2001:db8:9::"), ip_address("2001:db8:9::1")), data=None)
    @hypothesis.example(pair=(ip_address("2001::1"), ip_address("2001::1:2:3:4:5")), data=None)
    def check(pair: tuple[Address, Address], data: st.DataObject | None) -> None:
        meant, other = pair
        spelt = unusual(meant, data) if data else str(meant)
        try:
            target.write(Changes(added={spelt}, removed=frozenset(), current={spelt}))
        except MapError:
            logged, _ = canonical(spelt.encode())
            assert logged != spelt, "an address that the daemon gives leases to"
            return
        entries = TYPES[name].read(target.path)
        if other != ip_address(spelt) and not (TYPES[name].use == "postfix" and goes_on(spelt, other)):
            assert not opens(name, entries, other)
        unlisted = name == "tcp.smtp" and spelt.endswith((":", ":0"))  # no rule would be for this address alone
        assert unlisted or spelt.startswith(("127.", "198.18.")) or opens(name, entries, ip_address(spelt))

    check()
    target.close()
