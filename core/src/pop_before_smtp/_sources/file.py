"""A log file, followed through rotation, truncation and absence."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from pop_before_smtp._clock import Clock
from pop_before_smtp._record import Batch, Checkpoint, Layout

from .lines import AHEAD, HEAD, fresh
from .opened import Opened, Truncated
from .rotated import find, predecessors
from .watch import TICK, Watch

_log = logging.getLogger("pop_before_smtp.source")

_LINGER = 30.0
"""How long a rotated file is read on after it last grew, in seconds: its writer may not have let go of it yet."""
_HALF = 1.0
"""After this time without the rest, in seconds, the last line of a rotated file is taken as it is."""
_PATIENCE = 5.0
"""How long nothing is said of a missing file while its predecessor is open, in seconds: it is being rotated."""


_TEXT = bytes({*range(0x20, 0x100), *b"\t\n\r\f\x1b"})
"""The bytes that text is made of."""


class FileSource:
    """The lines of one log file, exactly once each.

    Args:
        name: how batches, messages and the state call it.
        path: the log; it need not exist yet.
        layout: how its lines are taken apart; given the file's first lines here.
        clock: the time.
        checkpoint: how far it was read before.
        horizon: how old a line may be to matter, in seconds: the longest grace.
        watch: tells when to look.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        layout: Layout,
        clock: Clock,
        *,
        checkpoint: Checkpoint | None = None,
        horizon: float,
        watch: Watch,
    ) -> None:
        self.name = name
        self.up = False
        """The file is there and can be read."""
        self.problem: str | None = None
        """Why it is not, for people."""
        self.caught_up = asyncio.Event()
        """What was there at the start has been read, or there was nothing."""
        self._path = path
        self._layout = layout
        self._clock = clock
        self._checkpoint = checkpoint
        self._horizon = horizon
        self._bell = watch.bell(path)
        self._files: list[Opened] = []  # oldest first; the last one is that at the path, if any is there
        self._furthest: Opened | None = None  # the newest one of them that was read; the checkpoint is in it
        self._known: set[tuple[int, bytes]] = set()  # rotated files that hold nothing new: inode and first bytes
        self._there = False  # something is at the path, the last of the files
        self._failures = 0
        self._said = False
        self._failing = 0.0  # since when, on the lease clock

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what is there and what comes, for ever."""
        try:
            self._bell.follow(())
            for file in self._unknown():
                file.close()
            while True:
                try:
                    self._notice()
                    async for batch in self._read():
                        yield batch
                    if self._there:
                        self._recover()
                    pause = self._pause()
                except OSError as error:
                    self._close()
                    self._fail(error)
                    pause = self._pause()
                self.caught_up.set()
                await self._bell.wait(pause)
        finally:
            self._close()
            self._bell.close()

    def _close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []

    # -- which files there are

    def _notice(self) -> None:
        """Open what is at the path if it is not what we read."""
        try:
            status = self._path.stat()
            self._there = True
            if not self._files or self._files[-1].key != (status.st_dev, status.st_ino):
                self._turn_to(Opened(self._path))
            elif not self._files[-1].head:
                # It was empty, and what was written then may have been copied and truncated before we came.
                self._insert_rotated(self._files[-1])
        except OSError as error:
            self._there = False
            self._fail(error)

    def _turn_to(self, file: Opened) -> None:
        """Put what is at the path now behind what has yet to be read."""
        again = next((each for each in self._files if each.key == file.key), None)
        if again:  # it was moved away and back
            file.close()
            self._files.remove(again)
            self._files.append(again)
        elif self._files:
            old = self._files[-1]
            old.active = self._clock.now()
            self._files.append(file)
            self._insert_rotated(old)
        else:
            self._start(file)
        self._follow()

    def _follow(self) -> None:
        self._bell.follow(each.fd for each in self._files)

    def _start(self, file: Opened) -> None:
        """Go on from the checkpoint, wherever its file is by now; without one, from the fresh end of the log."""
        since = 0.0
        old = find(self._path, self._checkpoint) if self._checkpoint else None
        self._files = [file]
        if old is None or self._checkpoint is None:
            file.history = self._horizon, AHEAD
        else:
            old.seek(self._checkpoint.offset)
            old.active = self._clock.now()
            if old.key == file.key:
                file.close()
                self._files = [old]
            else:
                since = old.limit
                self._known = set()
                self._files = [old, file]
        for each in self._unknown():
            if each.limit >= since:
                self._files.insert(-1, each)
            else:
                each.close()

    def _insert_rotated(self, old: Opened) -> None:
        """Read what was rotated since ``old`` was opened, in the order of the last changes.

        What changed before ``old`` did came out of it, by copytruncate; in the first copy we are where we were in it.
        """
        current = self._files[-1] if self._there else None
        changed = math.inf if old is current else os.fstat(old.fd).st_mtime
        for file in self._unknown():
            if (offset := file.continues(old)) is not None:
                file.seek(offset)
            following = old if file.limit < changed else current
            self._furthest = None if following is old else self._furthest
            self._files.insert(self._files.index(following) if following else len(self._files), file)
        self._follow()

    def _unknown(self) -> list[Opened]:
        """Open the rotated files that were not there when this was called last, the oldest first."""
        files = predecessors(self._path)
        known, self._known = self._known, {_identity(file) for file in files}
        ours = {file.key for file in self._files}
        unknown = []
        for file in files:
            if file.key in ours or _identity(file) in known:
                file.close()
            else:
                file.active = self._clock.now()
                file.beside = True
                ours.add(file.key)  # it may have two names
                unknown.append(file)
        return unknown

    def _truncated(self, file: Opened) -> list[Opened]:
        """Return what to read in place of a file that lost its old bytes: what copies hold of them, and it anew."""
        first = self._files.index(file)
        if file is self._files[-1]:
            _log.info("%s was truncated; reading it from its start", self._path)
            self._insert_rotated(file)
        file.restart()
        return self._files[first:]

    def _retire(self) -> None:
        """Let go of rotated files that have not grown for a while."""
        now = self._clock.now()
        for file in self._files[:-1]:
            if now - file.active >= _LINGER and file.offset >= file.size():
                self._known.add(_identity(file))
                self._files.remove(file)
                self._follow()
                file.close()

    # -- what is in them

    async def _read(self) -> AsyncIterator[Batch]:
        """Yield what can be read now, from the oldest file to the newest."""
        waiting = self._files[:]
        while waiting:
            try:
                batch = await self._next(waiting[0])
            except Truncated:
                waiting = self._truncated(waiting[0])
                continue
            if batch is None:
                del waiting[0]
                continue
            yield batch
            await asyncio.sleep(0)
        self._retire()

    async def _next(self, file: Opened) -> Batch | None:
        """Read the next lines of a file; None at its end."""
        if file.history:
            await self._walk(file, *file.history)
        position, lines = file.read(last=self._abandoned(file))
        if not lines:
            return None
        file.active = self._clock.now()
        self._layout.sniff(lines[:HEAD])
        if self._furthest not in self._files[self._files.index(file) :]:
            self._furthest = file
        self._checkpoint = self._furthest.checkpoint()
        received = self._clock.wall()
        live = position >= file.found
        return Batch(
            source=self.name,
            data=lines,
            position=position,
            received=received,
            limit=received if live else min(received, file.limit),
            live=live,
            checkpoint=self._checkpoint,
            layout=self._layout,
        )

    async def _walk(self, file: Opened, behind: float, ahead: float) -> None:
        """Pass over the history in what was found."""
        file.history = None
        self._layout.sniff(os.pread(file.fd, HEAD, 0))
        limit = min(self._clock.wall(), file.limit)
        read = partial(os.pread, file.fd)
        layout = self._layout
        file.seek(await fresh(read, file.offset, file.found, layout, limit=limit, behind=behind, ahead=ahead))

    def _abandoned(self, file: Opened) -> bool:
        """Tell whether nobody will finish the last line of a file, because it was rotated.

        Its writer has gone on to another file, or has been silent for a while; a copy may still be in the making.
        """
        later = self._files[self._files.index(file) + 1 :]
        quiet = self._clock.now() - file.active >= _HALF
        return bool(later) and (quiet or (not file.beside and any(each.size() for each in later)))

    # -- how it goes

    def _pause(self) -> float:
        """Return after how many seconds to look again even if nothing is noticed."""
        if self._failures:
            return min(0.5 * 2.0 ** min(self._failures, 10), TICK)
        if any(file.offset < file.size() for file in self._files[:-1]):
            return _HALF
        return TICK

    def _fail(self, error: OSError) -> None:
        now = self._clock.now()
        if not self._failures:
            self._failing = now
        self._failures += 1
        self.up = False
        self.problem = explain(self._path, error)
        if not self._said and (not self._files or now - self._failing >= _PATIENCE):
            self._said = True
            _log.warning("%s; trying again", self.problem)

    def _recover(self) -> None:
        if self._said:
            _log.info("%s can be read again", self._path)
        self.up, self.problem, self._failures, self._said = True, None, 0, False


def _identity(file: Opened) -> tuple[int, bytes]:
    return file.key[1], file.head


def explain(path: Path, error: OSError) -> str:
    """Return for people why a log cannot be read."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return f"{path} does not exist"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"{path} may not be read by this user; put it into the group of the log (often adm)"
    return f"{path}: {error.strerror}"


def check(path: Path) -> str | None:
    """Return what speaks against a file as a log, for people; None if nothing does, or if it does not exist yet."""
    try:
        file = Opened(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return explain(path, error)
    head = os.pread(file.fd, HEAD, 0).lstrip(b"\0")  # a hole comes from a writer that does not append
    file.close()
    # A hostile client may get a few odd bytes into a log.
    odd = len(head.translate(None, _TEXT))
    return f"{path} is no text file; name the log itself" if b"\0" in head and odd * 20 > len(head) else None
