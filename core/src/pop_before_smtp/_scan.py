"""The first pass over a log: which lines hold one of some literals."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from typing import Any

import re2  # type: ignore[import-untyped]  # google-re2 ships no types

from ._pattern import options, spans_of

_DENSE = 8192
"""Bytes per hit, below which a search for bytes is quicker than a pattern."""
_STEADY = 8
"""After so many blocks for which the choice between the two was wrong, it is made anew."""
_PASSES = 6
"""As many literals that begin differently are worth a pass each."""

Lines = list[tuple[int, int]]
"""Start and end of lines, without their newlines, in order."""


def scanner(literals: Collection[bytes]) -> Callable[[bytes], Lines]:
    """Return what finds the lines that hold one of the literals, as quickly as their number allows.

    Literals that begin alike are looked for together: RE2 jumps from one place where they can begin to the next, and
    where it cannot, going through the text byte by byte takes as long as several such passes.
    """
    needed = [each for each in literals if not any(other in each for other in literals if other != each)]
    alike = [list(group) for _, group in groupby(sorted(needed), key=lambda each: each[:1])]
    passes = [_Scanner(group) for group in (alike if len(alike) <= _PASSES else [needed])]
    if len(passes) == 1:
        return passes[0]
    return lambda data: sorted({spot for scan in passes for spot in scan(data)})


class _Scanner:
    """One pass. A pattern goes through the text more quickly than a search for bytes, but takes longer for each hit.

    So the literal that nearly all lines hold, where many hold one, is searched for, and the pattern finds the others.
    """

    def __init__(self, literals: Sequence[bytes]) -> None:
        self._literals = sorted(literals)
        self._choose(None)

    def __call__(self, data: bytes) -> Lines:
        lines = self._by_pattern(data)
        right = len(lines) * _DENSE <= len(data)
        if self._frequent:
            found = _search(data, self._frequent)
            right &= len(found) * _DENSE >= len(data)
            lines = sorted({*lines, *found}) if lines else found
        self._steady -= not right
        if not self._steady:
            dense = len(lines) * _DENSE > len(data)
            self._choose(max(self._literals, key=data.count) if dense else None)
        return lines

    def _choose(self, frequent: bytes | None) -> None:
        self._frequent = frequent
        self._others = _finder([each for each in self._literals if each != frequent])
        self._steady = _STEADY

    def _by_pattern(self, data: bytes) -> Lines:
        lines = []
        end = -1
        for match in self._others(data):
            hit = spans_of(match)[0][0]
            if hit > end:
                start = data.rfind(b"\n", 0, hit) + 1
                end = data.find(b"\n", hit)
                end = end if end >= 0 else len(data)
                lines.append((start, end))
        return lines


def _finder(literals: Sequence[bytes]) -> Callable[[bytes], Iterable[Any]]:
    """Return what yields a match for each place where one of the literals is."""
    if not literals:
        return lambda _: ()
    finditer: Callable[[bytes], Iterable[Any]] = re2.compile(b"|".join(map(re2.escape, literals)), options()).finditer
    return finditer


def _search(data: bytes, literal: bytes) -> Lines:
    """Return the lines that hold a literal."""
    lines = []
    find, rfind = data.find, data.rfind
    hit = find(literal)
    while hit >= 0:
        start = rfind(b"\n", 0, hit) + 1
        end = find(b"\n", hit)
        if end < 0:
            end = len(data)
        lines.append((start, end))
        hit = find(literal, end)
    return lines
