"""Whole lines out of blocks, and the fresh tail of what was found: shared by files and streams."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable

from pop_before_smtp._record import Layout

BLOCK = 120 * 1024
"""The most that is read at a time, in bytes: a batch stays below the size from which malloc maps each block anew."""
HEAD = 4096
"""How much of a source's beginning its layout is told from, in bytes."""
AHEAD = 300.0
"""A stamp that is further ahead of its file's last change, in seconds, is more likely last year's."""
_SECOND = re.compile(rb"(?:[A-Z][a-z]{2} [ 0-9]{2}|(?:<[0-9]{1,3}>1 )?[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]) ?[0-9:]{8}")
"""A stamp up to its second; the lines of one second need one look."""
_PROBE = 4096
"""Where a block ends is looked for in its last bytes, so that it can be read up to there and needs no second copy."""
_LONGEST = 8192
"""How much of a line its stamp is looked for in, in bytes."""
_STAMPLESS = 16 * 1024 * 1024
"""After as many bytes without any stamp the walk ends: found lines without a stamp grant nothing."""


def read_block(fd: int, position: int) -> bytes:
    """Read at most a block, one that ends with a line where that is possible.

    Args:
        fd: a regular file.
        position: where to begin, in bytes.
    """
    probe = os.pread(fd, _PROBE, position + BLOCK - _PROBE)
    newline = probe.rfind(b"\n")
    return os.pread(fd, BLOCK - _PROBE + newline + 1 if newline >= 0 else BLOCK, position)


async def fresh(
    read: Callable[[int, int], bytes],
    start: int,
    end: int,
    layout: Layout,
    *,
    limit: float,
    behind: float,
    ahead: float = AHEAD,
) -> int:
    """Walk backwards over found bytes to the last line that is history, letting others run after each block.

    Every line is looked at, none is jumped over: a log of stamps without a year can hold a line of exactly one year
    ago, which only the lines between it and the end tell from one of now.

    Args:
        read: gives ``size`` bytes at ``position``, as :func:`os.pread` does.
        start: where to stop, the beginning of a line.
        end: where to begin; what follows the last newline before it is not judged.
        layout: finds the lines' stamps; lines without one are passed over.
        limit: no line can be later, in unix seconds.
        behind: a line that is as many seconds before ``limit`` is history.
        ahead: so is one that is as many seconds after it.

    Returns:
        The position behind that line; ``start`` if there is none.
    """
    edge = stamped = good = end
    rest, terminated, same = b"", False, b"\n"
    while edge > start and stamped - edge < _STAMPLESS:
        size = min(BLOCK, edge - start)
        edge -= size
        block = read(size, edge)
        stop = len(block)
        while stop >= 0:
            newline = block.rfind(b"\n", 0, stop)
            line = (block[newline + 1 : stop] + rest)[:_LONGEST]
            if newline < 0 and edge > start:
                rest = line
                break
            if line.startswith(same):
                stamped = edge
            elif terminated and (stamp := layout.stamp(line, limit)) is not None:
                if not limit - behind <= stamp <= limit + ahead:
                    return good
                stamped = edge
                second = _SECOND.match(line)
                same = second[0] if second else b"\n"
            good, stop, rest, terminated = edge + newline + 1, newline, b"", True
        await asyncio.sleep(0)
    return good


class Cutter:
    """Cuts a stream that is read block by block into whole lines.

    A line longer than a block is cut there and its rest passed over: a line only ever begins behind a newline.

    Args:
        position: where the stream begins, in bytes.
    """

    def __init__(self, position: int = 0) -> None:
        self._position = position  # of the first byte held back
        self._held = b""
        self._passing = False

    def feed(self, block: bytes) -> tuple[int, bytes]:
        """Take a block and return the lines that end in it, with the position of the first."""
        if self._passing:
            newline = block.find(b"\n")
            self._passing = newline < 0
            begin = newline + 1 if newline >= 0 else len(block)
            self._position += begin
            block = block[begin:]
        cut = block.rfind(b"\n") + 1
        if cut:
            lines = b"".join((self._held, memoryview(block)[:cut]))
            self._held = block[cut:]
            return self._pass(len(lines)), lines
        self._held += block
        if len(self._held) < BLOCK:
            return self._position, b""
        self._passing = True
        position, line = self.finish()
        return position, line + b"\n"

    def finish(self) -> tuple[int, bytes]:
        """Return what was held back, as the last line without its newline, with its position."""
        lines, self._held = self._held, b""
        return self._pass(len(lines)), lines

    def _pass(self, size: int) -> int:
        self._position += size
        return self._position - size
