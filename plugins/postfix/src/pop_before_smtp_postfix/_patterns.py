"""Postfix's pattern lists (``mynetworks``): words, exclusions, files in place of words, and networks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from ipaddress import IPv6Network, ip_network
from pathlib import Path

from pop_before_smtp.api import Network

_DEPTH = 8
_NETWORK = re.compile(
    r"\[(?P<inner>[0-9A-Fa-f.:]+)\](?P<prefix>/[0-9]+)?|(?P<open>\[)?(?P<all>[0-9A-Fa-f.:]+(/[0-9]+)?)(?(open)\])"
)


class UnlistableError(Exception):
    """A pattern whose addresses cannot be told; the text goes behind its name (``has conditions``)."""


def patterns(text: str, *, permitted: bool = True, inside: tuple[str, ...] = ()) -> Iterator[tuple[str, bool]]:
    """Yield every pattern of a list and whether it permits, files replaced by what is in them.

    A ``#`` at the start of a word drops the rest of the line. A file that cannot be read is yielded itself.

    Args:
        text: the list, or one line of a file in it.
        permitted: False below ``!/file``.
        inside: the files that led here.
    """
    for word in split(text):
        if word.startswith("#"):
            return
        pattern = word.lstrip("!")
        permits = permitted ^ bool((len(word) - len(pattern)) % 2)
        lines = _lines(pattern) if pattern.startswith("/") and pattern not in inside and len(inside) < _DEPTH else None
        if lines is None:
            yield pattern, permits
        for line in lines or ():
            yield from patterns(line, permitted=permits, inside=(*inside, pattern))


def split(text: str) -> Iterator[str]:
    """Split at commas and blanks that are not inside braces (``inline:{a=b, c=d}``)."""
    word, depth = "", 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth <= 0 and char in ", \t\r\n":
            if word:
                yield word
            word = ""
        else:
            word += char
    if word:
        yield word


def network(pattern: str) -> Iterator[Network]:
    """Yield the network of a pattern: ``192.0.2.1``, ``192.0.2.0/24``, ``[2001:db8::]/32``, ``[2001:db8::/32]``.

    A v4-mapped one (Debian's ``[::ffff:127.0.0.0]/104``) yields nothing: clients are IPv4 addresses by then, and
    Postfix compares those with no IPv6 pattern.

    Raises:
        UnlistableError: it is none.
    """
    match = _NETWORK.fullmatch(pattern)
    if match is None:
        raise UnlistableError("is no network")
    try:
        found = ip_network(match["all"] or match["inner"] + (match["prefix"] or ""))
    except ValueError as error:
        raise UnlistableError(f"is no network ({error})") from error
    if not (isinstance(found, IPv6Network) and found.network_address.ipv4_mapped):
        yield found


def _lines(file: str) -> list[str] | None:
    try:
        data = Path(file).read_bytes()
    except OSError:
        return None
    return [line for line in os.fsdecode(data).splitlines() if not line.startswith("#")]
