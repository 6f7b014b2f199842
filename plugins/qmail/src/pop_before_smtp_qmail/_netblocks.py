"""The networks that the administrator's rules let relay, in the order in which tcpserver tries the rules."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from itertools import takewhile
from pathlib import Path

from pop_before_smtp.api import Network

from ._map import Settings, spellings
from ._rules import RulesError, read, relays

_PARTS4, _PARTS6 = 4, 8
_GROUP = re.compile("[1-9a-f][0-9a-f]{0,3}")


def netblocks(settings: Settings) -> Iterator[tuple[Network, bool]]:
    """Yield each rule's network and whether qmail relays for it, the longest rule first.

    Rules for names (``=name``) and users (``user@address``) are about no network. Where it cannot be said which
    addresses a rule is for, its network is not permitted, so that its clients get leases.
    """
    try:
        first = read(Path(settings.rules)).first
    except RulesError as error:
        warnings.warn(f"{error}; so only this machine itself may relay without a lease", stacklevel=2)
        return
    for key in sorted(first, key=len, reverse=True):
        yield from _networks(key.decode("latin-1"), permitted=relays(first[key]))


def _networks(key: str, *, permitted: bool) -> Iterator[tuple[Network, bool]]:
    if not key:
        yield from ((ip_network(every), permitted) for every in ("0.0.0.0/0", "::/0"))
    if _whole(key):
        yield ip_network(key), permitted
    if key.endswith("."):
        yield from _prefix4(key, permitted=permitted)
    elif key.endswith(":"):
        yield from _prefix6(key, permitted=permitted)


def _whole(key: str) -> bool:
    """Tell whether tcpserver spells an address so."""
    try:
        return spellings(str(ip_address(key)))[0] == key
    except ValueError:
        return False


def _prefix4(key: str, *, permitted: bool) -> Iterator[tuple[Network, bool]]:
    parts = key[:-1].split(".")
    if len(parts) < _PARTS4 and _whole(".".join([*parts, *["0"] * (_PARTS4 - len(parts))])):
        yield ip_network((key + "0." * (_PARTS4 - len(parts)))[:-1] + f"/{8 * len(parts)}"), permitted


def _prefix6(key: str, *, permitted: bool) -> Iterator[tuple[Network, bool]]:
    """Yield the network of an IPv6 beginning; which addresses are spelt with a zero or ``::`` there depends on more."""
    parts = key[:-1].split(":")
    known = list(takewhile(lambda part: part not in {"", "0"}, parts))
    if len(parts) < _PARTS6 and all(map(_GROUP.fullmatch, known)):
        network = ip_network(f"{':'.join(known)}::/{16 * len(known)}")
        yield network, permitted and known == parts
