"""A log file, followed through rotation, truncation and absence."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Hashable, Iterator
from functools import partial
from pathlib import Path

from pop_before_smtp._clock import Clock
from pop_before_smtp._record import Batch, Checkpoint, Layout

from .condition import Condition
from .ledger import Ledger
from .lines import AHEAD, HEAD, fresh
from .opened import Opened, Truncated
from .packed import Damaged, Unreadable, unpack
from .rotated import Member, members
from .watch import TICK, Watch

_log = logging.getLogger("pop_before_smtp.source")

_LINGER = 30.0
"""How long a rotated file is read on after it last grew, in seconds: its writer may not have let go of it yet."""
_HALF = 1.0
"""After this time without the rest, in seconds, the last line of a rotated file is taken as it is."""
_PATIENCE = 5.0
"""How long nothing is said of a missing file while its predecessor is open, in seconds: it is being rotated."""
_GONE = {errno.ENOENT, errno.ENOTDIR}
_SLICES = 16
"""So many slices are decompressed before the log is looked at again."""

_TEXT = bytes({*range(0x20, 0x100), *b"\t\n\r\f\x1b"})
"""The bytes that text is made of."""


class FileSource(Condition):
    """The lines of one log file, exactly once each.

    Args:
        name: how batches, messages and the state call it.
        path: the log; it need not exist yet.
        layout: how its lines are taken apart; given the file's first lines here.
        clock: the time.
        checkpoint: how far it was read before.
        horizon: how old a line may be to matter, in seconds.
        watch: tells when to look.
        ends: once the file is gone and all that it held has been read, do not wait for another.
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
        ends: bool = False,
    ) -> None:
        super().__init__(name)
        self._path = path
        self._layout = layout
        self._clock = clock
        self._first = checkpoint is None  # nothing has been read yet, now or ever
        self._ledger = Ledger(checkpoint)
        self._horizon = horizon
        self._ends = ends
        self._bell = watch.bell(path)
        self._files: list[Opened] = []  # oldest first; the last one is that at the path, if any is there
        self._packed: list[Member] = []  # compressed ones that have yet to be opened
        self._unpacking: Iterator[Opened | None] | None = None  # the first of them
        self._gathered = 0.0  # when it was last looked what lies beside the log, on the lease clock
        self._vanished = False  # something was renamed meanwhile
        self._warned: set[Hashable] = set()  # what has been said of compressed files
        self._there = False  # something is at the path, the last of the files
        self._gone = False  # nothing is there
        self._failures = 0
        self._said = False
        self._failing = 0.0  # since when, on the lease clock

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what is there and what comes, for ever."""
        try:
            self._bell.follow(())
            while True:
                try:
                    self._notice()
                    async for batch in self._read():
                        yield batch
                    while self._packed:
                        await self._unpack()
                        async for batch in self._read():
                            yield batch
                    if self._there:
                        self._recover()
                except OSError as error:
                    self._close()
                    self._fail(error)
                self._first &= not self._there
                self.caught_up.set()
                if self._ends and self._is_over():
                    return
                await self._bell.wait(self._pause())
        finally:
            self._close()
            self._bell.close()

    def _close(self) -> None:
        while self._files:
            self._let_go(self._files[0])
        self._ledger.look_again()
        self._unpacking, self._packed = None, []

    def _let_go(self, file: Opened) -> None:
        self._ledger.add(file.trail)
        self._files.remove(file)
        file.close()

    # -- which files there are

    def _notice(self) -> None:
        """Open what is at the path if it is not what we read, and what is beside it if anything can be new there."""
        try:
            status = self._path.stat()
            self._there, self._gone = True, False
            last = self._files[-1] if self._files else None
            turned = last is None or last.key != (status.st_dev, status.st_ino)
            if turned:
                self._turn_to(Opened.at(self._path))
            # While we have read nothing, what was written may have been copied and truncated unnoticed.
            turned |= not self._files[-1].offset and status.st_size > 0
        except OSError as error:
            self._there, turned = False, True
            self._fail(error)
        if turned or self._vanished or self._clock.now() - self._gathered >= TICK / 2:
            self._gather()

    def _turn_to(self, file: Opened) -> None:
        """Put what is at the path now behind what has yet to be read."""
        again = next((each for each in self._files if each.key == file.key), None)
        if again:  # it was moved away and back
            file.close()
            self._files.remove(again)
            file = again
        else:
            self._prepare(file)
        for each in self._files[-1:]:
            each.active = self._clock.now()
        self._files.append(file)
        self._follow()

    def _prepare(self, file: Opened) -> None:
        """Go to where what is new in a file begins."""
        if offset := self._ledger.resume(file, self._files):
            file.seek(offset)
        if self._first:
            file.history = self._horizon, AHEAD

    def _follow(self) -> None:
        self._bell.follow(each.fd for each in self._files if not each.packed)

    def _gather(self) -> None:
        """Open what rotation has left beside the log, as far as it can matter and holds what we have not read."""
        self._gathered = self._clock.now()
        oldest = self._clock.wall() - self._horizon
        found = [each for each in members(self._path, self._ledger.inodes) if each.status.st_mtime >= oldest]
        ours = {file.key for file in self._files}
        self._packed, waiting = [], self._packed
        self._vanished = False
        for member in self._ledger.unseen([each for each in found if each.key not in ours]):
            if not member.packed:
                self._look_into(member)
            elif not member.path.with_suffix("").exists():  # else it is still being written
                self._packed.append(member)
        if [each.signature for each in self._packed[:1]] != [each.signature for each in waiting[:1]]:
            self._unpacking = None
        if not self._packed:
            self._ledger.forget({member.key[1] for member in found if member.key not in ours})
        self._follow()

    def _look_into(self, member: Member) -> None:
        try:
            file = Opened.at(member.path)
        except OSError as error:
            self._vanished |= isinstance(error, FileNotFoundError)
            return
        self._admit(file, member)

    def _admit(self, file: Opened, member: Member) -> None:
        """Read a file that was found beside the log, unless all that it holds is in one that we read."""
        if member.key != file.key:
            file.close()
            self._vanished = True
            return
        if any(file.begins(other) for other in self._files):
            file.close()
        else:
            self._prepare(file)
            file.active = self._clock.now()
            file.beside = True
            current = [self._files.pop()] if self._there else []
            self._files = [*sorted([*self._files, file], key=Opened.changed), *current]
        self._ledger.look(member.key, member.signature)

    async def _unpack(self) -> None:
        """Decompress a little of the first compressed file; open it when all is done."""
        member = self._packed[0]
        self._unpacking = self._unpacking or unpack(member.path)
        try:
            for _ in range(_SLICES):
                if file := next(self._unpacking):
                    self._admit(file, member)
                    break
                await asyncio.sleep(0)
            else:
                return
        except Unreadable as error:
            self._ledger.look(member.key, member.signature)
            self._skip(member, str(error), once=str(error))
        except Damaged as error:
            self._ledger.look(member.key, member.signature)
            self._skip(member, f"damaged ({error})", once=member.key)
        except FileNotFoundError:
            self._vanished = True
        except OSError as error:
            self._skip(member, str(error.strerror), once=member.key)
        self._unpacking = None
        del self._packed[0]

    def _skip(self, member: Member, reason: str, *, once: Hashable) -> None:
        if once not in self._warned:
            self._warned.add(once)
            _log.warning("%s is skipped: %s", member.path, reason)

    def _truncated(self, file: Opened) -> None:
        """Read a file that lost its old bytes anew, after what copies hold of them."""
        if self._there and file is self._files[-1]:
            _log.info("%s was truncated; reading it from its start", self._path)
        self._ledger.add(file.trail)
        self._ledger.look_again()
        file.restart()
        self._gather()

    def _retire(self) -> None:
        """Let go of rotated files that have not grown for a while."""
        now = self._clock.now()
        for file in [each for each in self._files if each.packed or each is not self._files[-1]]:
            if (file.packed or now - file.active >= _LINGER) and file.offset >= file.size():
                if not file.packed:
                    status = os.fstat(file.fd)
                    self._ledger.look(file.key, (status.st_size, status.st_mtime_ns))
                self._let_go(file)
                self._follow()

    # -- what is in them

    async def _read(self) -> AsyncIterator[Batch]:
        """Yield what can be read now, from the oldest file to the newest."""
        waiting = self._files[:]
        while waiting:
            try:
                batch = await self._next(waiting[0])
            except Truncated:
                self._truncated(waiting[0])
                waiting = self._files[:]
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
        received = self._clock.wall()
        live = position >= file.found
        return Batch(
            source=self.name,
            data=lines,
            position=position,
            received=received,
            limit=received if live else min(received, file.limit),
            live=live,
            checkpoint=self._ledger.checkpoint(self._files),
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

        Its writer has gone on to another file, or has been silent for a while, longer where there is no other yet; a
        copy may still be in the making.
        """
        if file.packed:
            return True
        later = self._files[self._files.index(file) + 1 :]
        quiet = self._clock.now() - file.active >= _HALF
        if not later:
            return self._gone and self._clock.now() - file.active >= _LINGER
        return quiet or (not file.beside and any(each.size() for each in later))

    # -- how it goes

    def _pause(self) -> float:
        """Return after how many seconds to look again even if nothing is noticed."""
        if self._failures:
            return min(0.5 * 2.0 ** min(self._failures, 10), TICK)
        if self._vanished or any(file.offset < file.size() for file in self._files[:-1]):
            return _HALF
        return TICK

    def _is_over(self) -> bool:
        """Tell whether the file is gone for good, as far as one can say, and all that it held has been read."""
        late = self._clock.now() - _LINGER
        return (
            self._failures > 0
            and self._gone
            and self._failing <= late
            and all(file.active <= late and file.offset >= file.size() for file in self._files)
        )

    def _fail(self, error: OSError) -> None:
        now = self._clock.now()
        if not self._failures:
            self._failing = now
        self._failures += 1
        self._gone = error.errno in _GONE
        self.up = False
        self.problem = explain(self._path, error)
        if self._ends and self._gone:
            return
        if not self._said and (not self._files or now - self._failing >= _PATIENCE):
            self._said = True
            _log.warning("%s; trying again", self.problem)

    def _recover(self) -> None:
        if self._said:
            _log.info("%s can be read again", self._path)
        self.up, self.problem, self._failures, self._said = True, None, 0, False


def explain(path: Path, error: OSError) -> str:
    """Return for people why a log cannot be read."""
    if error.errno in _GONE:
        return f"{path} does not exist"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"{path} may not be read by this user; put it into the group of the log (often adm)"
    return f"{path}: {error.strerror}"


def check(path: Path) -> str | None:
    """Return what speaks against a file as a log, for people; None if nothing does, or if it does not exist yet."""
    try:
        file = Opened.at(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return explain(path, error)
    head = os.pread(file.fd, HEAD, 0).lstrip(b"\0")  # a hole comes from a writer that does not append
    file.close()
    # A hostile client may get a few odd bytes into a log.
    odd = len(head.translate(None, _TEXT))
    return f"{path} is no text file; name the log itself" if b"\0" in head and odd * 20 > len(head) else None
