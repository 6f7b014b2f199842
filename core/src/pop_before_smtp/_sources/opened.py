"""One open log file: how far it has been read, and how it is told that this position still means anything."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pop_before_smtp._record import Checkpoint

from .lines import BLOCK, read_block

DAY = 86400.0
"""Where a position is known, only what is more than a day away is history, in seconds: hosts that log into one file
may disagree by a time zone."""
_HEAD = 256
"""How many of a file's first bytes, with those before the position, tell it from others."""
_BEFORE = 64
"""How many bytes before the position tell that the file is still the one that was read."""
_TRAIL = 64
"""How many earlier positions are remembered, to know a copy that was made before the latest lines came."""


class Truncated(Exception):  # noqa: N818 - no error: a log was cut short, as copytruncate does
    """The bytes that have been read are no longer there."""


class Opened:
    """A regular file and a position in it.

    Args:
        fd: the file, or a copy of what it holds; closed with this.
        status: what the file is.
        packed: the file was compressed, and nobody will add to it.
    """

    def __init__(self, fd: int, status: os.stat_result, *, packed: bool = False) -> None:
        self.fd = fd
        self.key = status.st_dev, status.st_ino
        self.packed = packed
        self.active = 0.0
        """When it last grew, on the lease clock."""
        self.beside = False
        """It was never at the log's path while we watched, but was found beside it."""
        self._begin(status.st_mtime)

    @classmethod
    def at(cls, path: Path) -> Self:
        """Open a file that is not compressed, never waiting for it.

        Raises:
            OSError: it cannot be opened or is no regular file.
        """
        if stat.S_ISDIR(mode := path.stat().st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory, not a log file", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        return cls(fd, os.fstat(fd))

    def restart(self) -> None:
        """Begin at the first byte. What is there now was found: written when we did not watch."""
        self._begin(os.fstat(self.fd).st_mtime)

    def _begin(self, limit: float) -> None:
        self.found = self.size()
        """Lines that begin before this byte were found."""
        self.limit = limit
        """No found line can be later, in unix seconds."""
        self.history: tuple[float, float] | None = DAY, DAY
        """How far behind and ahead of ``limit`` a found line is history, in seconds; None where that was looked at."""
        self.seek(0)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def changed(self) -> float:
        """Return when it last changed, in unix seconds."""
        return self.limit if self.packed else os.fstat(self.fd).st_mtime

    def size(self) -> int:
        """Return the file's size in bytes."""
        return os.fstat(self.fd).st_size

    def seek(self, offset: int) -> None:
        """Go on at ``offset``; where that is inside a line, behind that line."""
        self.offset = offset
        size = min(_BEFORE, offset)
        self.before = os.pread(self.fd, size, offset - size)
        self.head = os.pread(self.fd, _HEAD, 0)
        self.trail = deque([self._mark()], _TRAIL)

    def read(self, *, last: bool = False) -> tuple[int, bytes]:
        """Read the next whole lines, found and live ones never together.

        Args:
            last: read a last line without newline too: nobody will finish it.

        Returns:
            The position of the lines, and the lines; empty at the end. A line that is longer than a block is cut, and
            its rest passed over.

        Raises:
            Truncated: this is not what was read before.
            OSError: the file cannot be read.
        """
        block = read_block(self.fd, self.offset)
        while block and self.before[-1:] not in {b"", b"\n"}:
            self._advance(block[: block.find(b"\n") + 1] or block)
            block = read_block(self.fd, self.offset)
        self._verify()
        position = self.offset
        lines = block[: self._whole(block)]
        if not lines and len(block) == BLOCK:
            self._advance(block)
            return position, block + b"\n"
        if not lines and last:
            lines = block
        self._advance(lines)
        return position, lines

    def _whole(self, block: bytes) -> int:
        """Return how much of ``block`` is whole lines, up to the end of the found ones or of all."""
        to_edge = self.found - self.offset - 1
        edge = block.find(b"\n", to_edge) if to_edge >= 0 else -1
        return (edge if edge >= 0 else block.rfind(b"\n")) + 1

    def _advance(self, read: bytes) -> None:
        self.offset += len(read)
        self.before = (self.before + read[-_BEFORE:])[-_BEFORE:]
        self.trail.append(self._mark())

    def _mark(self) -> Checkpoint:
        return Checkpoint(
            device=self.key[0],
            inode=self.key[1],
            offset=self.offset,
            fingerprint=_fingerprint(self.head, self.before),
            fingerprint_size=len(self.head),
        )

    def _verify(self) -> None:
        """Refuse a file that was truncated, even if it has grown beyond our position again.

        Looked at after the reading, since a line that begins in the middle of another could be anything.
        """
        head = os.pread(self.fd, _HEAD, 0)
        size = len(self.before)
        if not head.startswith(self.head) or os.pread(self.fd, size, self.offset - size) != self.before:
            raise Truncated
        self.head = head

    def continues(self, trail: Sequence[Checkpoint]) -> int | None:
        """Return where to go on in this file if it holds what was read of one that left ``trail``; else None.

        A copy by copytruncate may end before that position: what came after the copying went with the truncation.
        """
        size = self.size()
        for known in reversed(trail):
            if 0 < known.offset <= size:
                return min(trail[-1].offset, size) if self._matches(known) else None
        return None

    def _matches(self, known: Checkpoint) -> bool:
        """Tell whether this is what was read up to that position."""
        size = min(_BEFORE, known.offset)
        head, before = os.pread(self.fd, known.fingerprint_size, 0), os.pread(self.fd, size, known.offset - size)
        return _fingerprint(head, before) == known.fingerprint

    def begins(self, other: Opened) -> bool:
        """Tell whether ``other`` begins with all that this file holds."""
        size = self.size()
        last = min(_BEFORE, size)
        return other.size() >= size and all(
            os.pread(self.fd, count, at) == os.pread(other.fd, count, at)
            for count, at in ((min(_HEAD, size), 0), (last, size - last))
        )


def _fingerprint(head: bytes, before: bytes) -> bytes:
    return hashlib.blake2b(head + before, digest_size=16).digest()
