"""One open log file: how far it has been read, and how it is told that this position still means anything."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import deque
from pathlib import Path

from pop_before_smtp._record import Checkpoint

from .lines import BLOCK, read_block

DAY = 86400.0
"""Where a position is known, only what is more than a day away is history, in seconds: hosts that log into one file
may disagree by a time zone."""
_HEAD = 256
"""How many of a file's first bytes tell it from others."""
_BEFORE = 64
"""How many bytes before the position tell that the file is still the one that was read."""
_TRAIL = 64
"""How many earlier positions are remembered, to know a copy that was made before the latest lines came."""


class Truncated(Exception):  # noqa: N818 - no error: a log was cut short, as copytruncate does
    """The bytes that have been read are no longer there."""


class Opened:
    """A regular file and a position in it.

    Args:
        path: the file; opened, never waited for.

    Raises:
        OSError: it cannot be opened or is no regular file.
    """

    def __init__(self, path: Path) -> None:
        if stat.S_ISDIR(mode := path.stat().st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory, not a log file", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        self.key = status.st_dev, status.st_ino
        self.active = 0.0
        """When it last grew, on the lease clock."""
        self.beside = False
        """It was never at the log's path while we watched, but was found beside it."""
        self.restart()

    def restart(self) -> None:
        """Begin at the first byte. What is there now was found: written when we did not watch."""
        status = os.fstat(self.fd)
        self.found = status.st_size
        """Lines that begin before this byte were found."""
        self.limit = status.st_mtime
        """No found line can be later, in unix seconds."""
        self.history: tuple[float, float] | None = DAY, DAY
        """How far behind and ahead of ``limit`` a found line is history, in seconds; None where that was looked at."""
        self.seek(0)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def size(self) -> int:
        """Return the file's size in bytes."""
        return os.fstat(self.fd).st_size

    def seek(self, offset: int) -> None:
        """Go on at ``offset``; where that is inside a line, behind that line."""
        self.offset = offset
        size = min(_BEFORE, offset)
        self.before = os.pread(self.fd, size, offset - size)
        self.trail = deque([(offset, self.before)], _TRAIL)
        self.head = os.pread(self.fd, _HEAD, 0)

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
        self.trail.append((self.offset, self.before))

    def _verify(self) -> None:
        """Refuse a file that was truncated, even if it has grown beyond our position again.

        Looked at after the reading, since a line that begins in the middle of another could be anything.
        """
        head = os.pread(self.fd, _HEAD, 0)
        if not head.startswith(self.head) or not self.holds(self.offset, self.before):
            raise Truncated
        self.head = head

    def holds(self, offset: int, before: bytes) -> bool:
        """Tell whether ``before`` is what stands before ``offset``."""
        return os.pread(self.fd, len(before), offset - len(before)) == before

    def continues(self, other: Opened) -> int | None:
        """Return where to go on in this file, if it is a copy of what we have read of ``other``; None if it is not.

        A copy by copytruncate may end before our position: what came after the copying went with the truncation.
        """
        size = self.size()
        for offset, before in reversed(other.trail):
            if 0 < offset <= size:
                same = self.head.startswith(other.head) and self.holds(offset, before)
                return min(other.offset, size) if same else None
        return None

    def checkpoint(self) -> Checkpoint:
        """Return how far this file has been read."""
        return Checkpoint(
            device=self.key[0],
            inode=self.key[1],
            offset=self.offset,
            fingerprint=_fingerprint(self.head),
            fingerprint_size=len(self.head),
        )

    def matches(self, checkpoint: Checkpoint) -> bool:
        """Tell whether this file begins as the checkpoint's did and is as long at least."""
        head = self.head[: checkpoint.fingerprint_size]
        return self.size() >= checkpoint.offset and _fingerprint(head) == checkpoint.fingerprint


def _fingerprint(head: bytes) -> bytes:
    return hashlib.blake2b(head, digest_size=16).digest()
