"""A unix datagram socket that a syslog daemon sends records to: no file, no rotation, no line to break."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from pop_before_smtp._clock import Clock
from pop_before_smtp._record import Layout, Records
from pop_before_smtp._sockets import identity, make
from pop_before_smtp.api import Record

from .condition import Condition
from .watch import TICK

_log = logging.getLogger("pop_before_smtp.source")

_LONGEST = 8192 + 512
"""Bytes of a record that are read: a header, and as much of a message as is looked at."""
_MANY = 256
"""Records that are taken together."""
_BUFFER = 4 * 1024 * 1024
"""What the kernel may hold for us, in bytes, where it asks (Linux counts records: net.unix.max_dgram_qlen)."""
_PAUSE = 5.0
"""How often a socket that cannot be made is tried again, in seconds."""


class SocketSource(Condition):
    """The records that come in over a socket, which is made here and removed at the end. One datagram is one record.

    Args:
        name: how records, messages and the state call it.
        path: where the socket is to be.
        layout: how records are taken apart.
        clock: the time.
        mode: the socket's permissions: who may send.
        group: the socket's group; None is our own.
    """

    def __init__(
        self, name: str, path: Path, layout: Layout, clock: Clock, *, mode: int = 0o600, group: str | None = None
    ) -> None:
        super().__init__(name)
        self._path = path
        self._layout = layout
        self._clock = clock
        self._mode = mode
        self._group = group
        self._socket: socket.socket | None = None
        self._ours: tuple[int, int] | None = None  # device and inode of our socket

    async def batches(self) -> AsyncIterator[Records]:
        """Yield what comes, for ever."""
        try:
            while True:
                self._keep()
                self.caught_up.set()
                await self._wait(TICK if self.up else _PAUSE)
                while (records := self._take()) is not None:
                    if records:
                        yield Records(source=self.name, records=records, trust=self._layout.trust)
                    await asyncio.sleep(0)
        finally:
            if self._socket:
                self._socket.close()
                if identity(self._path) == self._ours:
                    self._path.unlink()

    def _keep(self) -> None:
        """Make the socket, unless it is there."""
        if self._socket and identity(self._path) == self._ours:
            return
        try:
            made = make(self._path, self._mode, self._group)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._ours = identity(self._path)
        except OSError as error:
            self.up = False
            if not self.problem:
                self.problem = f"{self._path}: {error.strerror}"
                _log.warning("%s; trying again", self.problem)
            return
        if self._socket:
            _log.warning("%s was removed or replaced; listening there again", self._path)
            self._socket.close()
        elif self.problem:
            _log.info("%s is listened at now", self._path)
        self._socket = made
        self.up, self.problem = True, None

    async def _wait(self, seconds: float) -> None:
        """Return when something has come, at the latest after ``seconds``."""
        if not self._socket:
            await asyncio.sleep(seconds)
            return
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, ready.set)
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            pass
        finally:
            loop.remove_reader(self._socket)

    def _take(self) -> list[Record] | None:
        """Return the records that are waiting, at most so many; None if nothing is."""
        datagrams: list[bytes] = []
        while self._socket and len(datagrams) < _MANY:
            try:
                datagrams.append(_cleaned(self._socket.recv(_LONGEST + 1)))
            except BlockingIOError:
                break
        return self._records(datagrams) if datagrams else None

    def _records(self, datagrams: list[bytes]) -> list[Record]:
        received = self._clock.wall()
        return [
            Record(
                time=head[0],
                received=received,
                host=head[1],
                program=head[2],
                pid=head[3],
                message=head[4],
                source=self.name,
                limit=received,
            )
            for head in self._layout.heads(datagrams, received, live=True)
            if head
        ]


def _cleaned(datagram: bytes) -> bytes:
    """Return a record without its end. One that is too long gets a newline: no pattern takes it for a whole message."""
    if len(datagram) > _LONGEST:
        return datagram[:_LONGEST] + b"\n"
    return datagram.rstrip(b"\n\0")
