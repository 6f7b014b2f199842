"""The first pass over a log: which lines hold one of some literals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import takewhile
from typing import Any

import re2  # type: ignore[import-untyped]  # google-re2 ships no types

from ._pattern import options

_SHORTEST = 6
"""Bytes that all literals must begin with alike to be looked for by those."""

Lines = Iterator[tuple[int, int]]
"""Start and end of lines, without their newlines."""


def scanner(literals: Collection[bytes]) -> Callable[[bytes], Lines]:
    """Return what finds, in order, the lines that hold one of the literals."""
    if not literals:
        return lambda _: iter(())
    low, high = min(literals), max(literals)
    prefix = bytes(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    if len(prefix) >= _SHORTEST:
        return lambda data: _by_prefix(data, prefix, tuple(literals))
    alternation = re2.compile(b"|".join(re2.escape(literal) for literal in sorted(literals)), options())
    return lambda data: _by_pattern(data, alternation)


def _by_prefix(data: bytes, prefix: bytes, literals: tuple[bytes, ...]) -> Lines:
    """Find the prefix: half the price of a pattern for each hit, which is what counts where hits are many."""
    hit = data.find(prefix)
    while hit >= 0:
        if data.startswith(literals, hit):
            start, hit = _line(data, hit)
            yield start, hit
        hit = data.find(prefix, hit + 1)


def _by_pattern(data: bytes, alternation: Any) -> Lines:
    """Find all at once: the more literals there are, the better than one search for each."""
    end = -1
    for match in alternation.finditer(data):
        hit = match.start()
        if hit > end:
            start, end = _line(data, hit)
            yield start, end


def _line(data: bytes, at: int) -> tuple[int, int]:
    end = data.find(b"\n", at)
    return data.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(data)
