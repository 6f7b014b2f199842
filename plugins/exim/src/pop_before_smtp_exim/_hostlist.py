"""Exim's host lists, read the way exim 4.96 was seen to read them with clients of its own.

What is no plain address can also end the matching for everybody: a name that DNS does not know, a malformed address
and an unreadable file make exim say no, or nothing, without looking at the rest of the list.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from string import punctuation

from pop_before_smtp.api import Network

Entry = tuple[Network, bool]

_LIST = re.compile(r"^(?:hide )?hostlist(?:_cache)? +(\w+) *= *(.*)$", re.MULTILINE)
_NETWORK = re.compile(r"(?P<address>[0-9A-Fa-f.:]+)(?:/(?P<prefix>[0-9]*))?")
_EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_FLAGS = frozenset({"+ignore_unknown", "+include_unknown", "+ignore_defer", "+include_defer"})
_DEPTH = 8


class UnlistableError(Exception):
    """An item after which nobody knows whom exim lets relay; the text says which, and why."""


def named_lists(configuration: str) -> dict[str, str]:
    """Return name and text of each host list in what ``exim -bP config`` printed."""
    return dict(_LIST.findall(configuration))


def entries(name: str, lists: Mapping[str, str], ours: Path, depth: int = 0) -> Iterator[Entry]:
    """Yield (network, permitted) in the order of a named list; the first match wins.

    Args:
        name: of the list.
        lists: all named host lists.
        ours: our own directory; the lines of files in it are leases, of whichever writer, and are left out.
        depth: how many lists refer to this one.

    Raises:
        UnlistableError: what was yielded until then holds, of the rest nothing is known.
    """
    if name not in lists or depth > _DEPTH:
        raise UnlistableError(f"there is no host list {name}" if name not in lists else f"+{name} goes in circles")
    permitted = True
    for item, permitted in _items(lists[name], ours):
        if item.startswith("+"):
            yield from _sublist(item[1:], lists, ours, depth + 1, permitted=permitted)
        else:
            yield from ((network, permitted) for network in _networks(item, permitted=permitted))
    if not permitted:  # a list that ends in an exclusion permits all the rest
        yield from ((network, True) for network in _EVERYTHING)


def _sublist(name: str, lists: Mapping[str, str], ours: Path, depth: int, *, permitted: bool) -> Iterator[Entry]:
    """Yield what ``+name`` matches; what it excludes goes on to the next item of the list around it."""
    found: list[Entry] = []
    try:
        found.extend(entries(name, lists, ours, depth))
    except UnlistableError:
        if permitted:
            yield from ((network, True) for network in _matched(found))
        raise
    yield from ((network, permitted) for network in _matched(found))


def _matched(found: Iterable[Entry]) -> Iterator[Network]:
    """Yield the networks that are permitted, without those that were excluded before."""
    excluded: list[Network] = []
    for network, permitted in found:
        if not permitted:
            excluded.append(network)
            continue
        pieces = [network]
        for hole in excluded:
            pieces = [rest for piece in pieces for rest in _without(piece, hole)]
        yield from pieces


def _without(network: Network, hole: Network) -> Iterable[Network]:
    if not network.overlaps(hole):
        return [network]
    if network.prefixlen >= hole.prefixlen:
        return []
    return network.address_exclude(hole)  # type: ignore[arg-type]  # overlapping ones are of one family


def _items(text: str, ours: Path) -> Iterator[tuple[str, bool]]:
    """Yield every item and whether it permits, files replaced by their lines; none for files of ours."""
    for word in _split(text):
        if word in _FLAGS:
            continue
        item, permitted = _negation(word)
        if "$" in item or "\\" in item:
            raise UnlistableError(f"{item} is worked out for each client")
        if not item.startswith("/") or ";" in item:
            yield item, permitted
            continue
        yield "", permitted  # what an empty file is worth at the end of the list
        if Path(os.path.realpath(item)).parent != Path(os.path.realpath(ours)):
            for line, permits in map(_negation, _lines(item)):
                if line.startswith("+"):
                    raise UnlistableError(f"{line} in {item} is taken for a name")
                yield line, permits == permitted


def _split(text: str) -> Iterator[str]:
    """Split at colons, or what stands behind a leading ``<``; a doubled separator is one in the item."""
    text, separator = text.strip(), ":"
    if text[:1] == "<" and text[1:2] in frozenset(punctuation):
        text, separator = text[2:], text[1]
    doubled = "\0"
    words = text.replace(2 * separator, doubled).split(separator)
    if words[-1].strip() == "":
        words.pop()
    yield from (word.replace(doubled, separator).strip() for word in words)


def _negation(word: str) -> tuple[str, bool]:
    return (word[1:].strip(), False) if word.startswith("!") else (word, True)


def _lines(file: str) -> list[str]:
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise UnlistableError(f"{file} cannot be read ({error.strerror})") from error
    lines = (line.partition("#")[0].strip() for line in os.fsdecode(data).splitlines())
    return [line for line in lines if line]


def _networks(item: str, *, permitted: bool) -> Iterator[Network]:
    """Yield the networks of one item that is neither a file nor a named list.

    Raises:
        UnlistableError: it is none, and exim may look no further.
    """
    if item in {"", "@[]"}:  # local submission; our own addresses, which never get a lease
        return
    if item == "*":
        yield from _EVERYTHING
    elif item.startswith("net") and ";" in item:
        if not permitted:
            raise UnlistableError(f"!{item} is a lookup that cannot be listed")
        warnings.warn(f"{item} cannot be listed; clients there get leases they do not need", stacklevel=2)
    elif (match := _NETWORK.fullmatch(item)) and (found := _network(match["address"], match["prefix"])):
        yield found
    else:
        raise UnlistableError(f"{item} is no address (put names behind all addresses)")


def _network(address: str, prefix: str | None) -> Network | None:
    """Make a network as exim does: bits behind the prefix are ignored, ``/`` alone is 0, too long is whole."""
    try:
        base = ip_address(address)
    except ValueError:
        return None
    longest = base.max_prefixlen
    length = longest if prefix is None else min(int(prefix or "0"), longest)
    return ip_network(f"{base}/{length}", strict=False)
