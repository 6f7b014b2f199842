"""A named pipe, whose writers come and go."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from pop_before_smtp._clock import Clock
from pop_before_smtp._record import Batch, Layout

from .condition import Condition
from .stream import StreamSource
from .watch import Watch

_log = logging.getLogger("pop_before_smtp.source")

_PAUSE = 5.0
"""How often a pipe that cannot be opened is tried again, in seconds, if nothing happens at its path."""


class PipeSource(Condition):
    """The lines of a named pipe. It never ends, and nobody knows how far it has been read.

    Args:
        name: how batches, messages and the state call it.
        path: the pipe; another one that is put in its place is noticed.
        layout: how its lines are taken apart; given the first lines here.
        clock: the time.
        horizon: how old a line may be to matter, in seconds.
        watch: tells when to look at the path.
    """

    def __init__(self, name: str, path: Path, layout: Layout, clock: Clock, *, horizon: float, watch: Watch) -> None:
        super().__init__(name)
        self._path = path
        self._layout = layout
        self._clock = clock
        self._horizon = horizon
        self._bell = watch.bell(path)

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what is waiting and what comes, for ever."""
        try:
            self._bell.follow(())
            while True:
                try:
                    pipe = _open(self._path)
                except OSError as error:
                    self._fail(error)
                    await self._bell.wait(_PAUSE)
                    continue
                self._recover()
                stream = StreamSource(self.name, pipe, self._layout, self._clock, horizon=self._horizon)
                stream.caught_up = self.caught_up
                watching = asyncio.create_task(self._finish_replaced(pipe, stream))
                try:
                    async for batch in stream.batches():
                        yield batch
                finally:
                    watching.cancel()
                    os.close(pipe)
                if stream.problem:
                    await asyncio.sleep(_PAUSE)
        finally:
            self._bell.close()

    async def _finish_replaced(self, pipe: int, stream: StreamSource) -> None:
        """Let the stream end when its pipe is no longer the one at the path."""
        ours = os.fstat(pipe)
        while True:
            try:
                if not os.path.samestat(ours, self._path.stat()):
                    break
            except OSError:
                break
            await self._bell.wait()
        stream.finish()

    def _fail(self, error: OSError) -> None:
        self.up = False
        if not self.problem:
            self.problem = explain(self._path, error)
            _log.warning("%s; trying again", self.problem)
        self.caught_up.set()

    def _recover(self) -> None:
        if self.problem:
            _log.info("%s can be read again", self._path)
        self.up, self.problem = True, None


def is_pipe(path: Path) -> bool:
    """Return whether there is a named pipe at a path."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def check(path: Path) -> str | None:
    """Return what speaks against reading a named pipe, for people; None if nothing does."""
    try:
        os.close(_open(path))
    except OSError as error:
        return explain(path, error)
    return None


def explain(path: Path, error: OSError) -> str:
    """Return for people why a named pipe cannot be read."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"{path} may not be read and written by this user, which a named pipe without an end needs; chown it"
    return f"{path} does not exist" if error.errno == errno.ENOENT else f"{path}: {error.strerror}"


def _open(path: Path) -> int:
    """Open a pipe for writing too: it would end with its last writer. Raises OSError where there is none."""
    if not is_pipe(path) and path.exists():
        raise OSError(errno.EINVAL, "is no named pipe any more; send SIGHUP to read it as what it is")
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
