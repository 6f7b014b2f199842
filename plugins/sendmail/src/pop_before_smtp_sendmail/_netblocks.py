"""The clients that sendmail lets relay without a lease: class R, then the access map (ruleset Relay_ok in sendmail.cf).

Both hold leading parts of an address: ``192.0.2`` is a /24, ``IPv6:2001:db8`` a /32. What cannot be listed is left out,
and its clients get leases that they do not need.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from pop_before_smtp.api import Network

from ._cf import CommandError, Declared, ask, declared, file_of
from ._maps import Settings, split

_LOOPBACK = (ip_network("127.0.0.1"), ip_network("::1"))
_NUMBER = r"(?:0|[1-9][0-9]{0,2})"
_GROUP = r"(?:0|[1-9a-f][0-9a-f]{0,3})"
_V4 = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}")
_V6 = re.compile(rf"ipv6:({_GROUP}(?::{_GROUP}){{0,7}})")
_LISTABLE = ("hash", "btree", "dbm")
_MOST = 10_000
_SHOWN = 3


def netblocks(settings: Settings) -> Iterator[tuple[Network, bool]]:
    """Yield (network, permitted) in the order in which sendmail decides."""
    yield from ((network, True) for network in _LOOPBACK)
    try:
        maps = declared(settings.config_file)
    except OSError as error:
        _warn(f"config_file: {settings.config_file}: {error.strerror}; sendmail is not installed, or is elsewhere")
        return
    if not (settings.map.startswith("socketmap:") or any(_is_ours(each, settings) for each in maps.values())):
        _warn(f"{settings.config_file} declares no {settings.map}: leases do not count until the hack is installed")
    yield from ((network, True) for network in _class_r(settings))
    yield from _access(maps, settings)


def network(phrase: str) -> Network | None:
    """Return the network of all addresses that begin with a phrase, None for a name or what matches no address.

    Args:
        phrase: in lower case; ``192.0.2``, ``ipv6:2001:db8``.
    """
    if _V4.fullmatch(phrase):
        parts = [int(part) for part in phrase.split(".")]
        if max(parts) > 255:  # noqa: PLR2004 - of an octet
            return None
        packed = bytes(parts)
        return IPv4Network((packed.ljust(4, b"\0"), 8 * len(packed)))
    if match := _V6.fullmatch(phrase):
        packed = b"".join(int(part, 16).to_bytes(2) for part in match[1].split(":"))
        return IPv6Network((packed.ljust(16, b"\0"), 8 * len(packed)))
    return None


def _class_r(settings: Settings) -> Iterator[Network]:
    try:
        said = ask("sendmail", "-C", settings.config_file, "-bt", text="$=R\n")
    except CommandError as error:
        _warn(f"cannot list class R (relay-domains): {error}")
        return
    names = []
    for line in ("\n" + said).partition("\n> ")[2].splitlines():
        phrase = line.removeprefix("> ").strip().lower()
        found = network(phrase) or _open_ended(phrase)
        if found:
            yield found
        elif phrase not in {"", ">"}:
            names.append(phrase)
    if names:
        more = ", ..." if len(names) > _SHOWN else ""
        _warn(f"class R: {', '.join(sorted(names)[:_SHOWN])}{more} are no networks; clients there get leases, too")


def _open_ended(phrase: str) -> Network | None:
    """Return the network of ``172.16.`` or ``ipv6:2001:db8:``, which in class R match like those without their end."""
    found = network(phrase[:-1]) if phrase[-1:] in {".", ":"} else None
    return found if found and found.prefixlen < found.max_prefixlen else None


def _access(maps: dict[str, Declared], settings: Settings) -> Iterator[tuple[Network, bool]]:
    """Yield the access map's entries: the longest first, ``connect:`` before none, anything but RELAY an exclusion."""
    found: dict[tuple[Network, bool], bool] = {}
    for name in _members("access", maps):
        for line in _listed(name, maps[name], settings):
            key, _, value = line.partition("\t")
            bare = key.removeprefix("connect:")
            if listed := network(bare):
                found.setdefault((listed, bare == key), value.strip().lower() == "relay")
    for (listed, _), permitted in sorted(found.items(), key=lambda each: (-each[0][0].prefixlen, each[0][1])):
        yield listed, permitted


def _members(name: str, maps: dict[str, Declared]) -> Iterator[str]:
    """Yield the map itself, or the members of a sequence, the first of which counts."""
    if name in maps and maps[name].kind == "sequence":
        yield from (member for member in maps[name].words if member in maps)
    elif name in maps:
        yield name


def _listed(name: str, entry: Declared, settings: Settings) -> list[str]:
    if _is_ours(entry, settings):
        return []
    if entry.kind not in _LISTABLE or entry.file is None:
        _warn(f"access map: {name} cannot be listed ({entry.kind}); clients there get leases they do not need")
        return []
    try:
        lines = ask("makemap", "-u", entry.kind, entry.words[0]).splitlines()
    except CommandError as error:
        _warn(f"access map: {name} cannot be listed, so clients there get leases they do not need: {error}")
        return []
    if len(lines) > _MOST:
        _warn(f"access map: {name} has more than {_MOST:,} entries and is not looked at")
        return []
    return lines


def _is_ours(entry: Declared, settings: Settings) -> bool:
    kind, path = split(settings.map)
    return entry.kind == kind and entry.file == file_of(kind, path)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
