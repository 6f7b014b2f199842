"""The sockets of all lookup services, and who is connected to them: bounded in number, memory and time."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable, Mapping

from pop_before_smtp._sockets import identity
from pop_before_smtp.api import Lookup

from .connection import BUFFER, Connection
from .dialogue import DIALOGUES
from .place import BACKLOG, bind, path_of

_log = logging.getLogger("pop_before_smtp.lookup")

Leased = Callable[[str], bool]
"""Whether an address has a lease at this moment."""

_MOST = 2500
"""Connections to one service at a time; one more is ended at once. Postfix opens one for each process that asks."""
_OTHER_FILES = 500
"""Open files that all the rest may need."""
_AT_ONCE = 32
"""Connections that are accepted before others have their turn."""
_PATIENCE = 10.0
"""Seconds that a request may take to arrive, or a buffer of answers to be fetched."""
_SWEEP = 2.0
"""Seconds between two looks for connections that take longer."""
_RETRY = 5.0
"""Seconds until a socket that cannot be made is tried again,"""
_LOOK = 20.0
"""and between two looks whether a unix socket still is where it was made."""
_NAMED = 1000
"""Up to this many changes at a time are logged one by one."""


class Server:
    """Answers one lookup's questions until it is closed.

    Args:
        lookup: what to listen at and how to answer.
        leased: whether an address has a lease.
    """

    written: float | None = None
    """When the map was last right: there is none."""

    def __init__(self, lookup: Lookup, leased: Leased) -> None:
        self.leased = leased
        self.problem: str | None = None
        """Why nobody can ask at present, for people."""
        self.questions = 0
        """Answered so far."""
        self.most = _MOST
        """Connections at a time."""
        self.buffer = bytearray(BUFFER)
        self._lookup = lookup
        self._path = path_of(lookup)
        self._listening: asyncio.Server | None = None
        self._ours: tuple[int, int] | None = None  # device and inode of our socket
        self._connections: set[Connection] = set()
        self._waiting: dict[Connection, float] = {}
        self._sweep: asyncio.TimerHandle | None = None

    async def keep(self) -> None:
        """Listen, for ever: again where the socket was removed or could not be made."""
        while True:
            await self.listen()
            await asyncio.sleep(_RETRY if self.problem else _LOOK)

    async def listen(self) -> None:
        """Make the socket, unless it is there."""
        if self._listening and (not self._path or identity(self._path) == self._ours):
            self.problem = None
            return
        try:
            made = bind(self._lookup)
        except OSError as error:
            if not self.problem:
                _log.warning("%s: %s; trying again", self._lookup.listen, error.strerror)
            self.problem = f"{self._lookup.listen}: {error.strerror}"
            return
        if self._listening:
            _log.warning("%s was removed or replaced; listening there again", self._lookup.listen)
            self._listening.close()
        elif self.problem:
            _log.info("%s is listened at now", self._lookup.listen)
        self.problem = None
        self._ours = identity(self._path) if self._path else None
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._talk, sock=made, backlog=_AT_ONCE, start_serving=False)
        try:
            await self._listening.start_serving()
        finally:
            made.listen(BACKLOG)  # in the kernel more may wait than are accepted at once

    def start(self, changes: Mapping[str, bool]) -> None:
        """Be told of the leases that there are at the start."""
        _log.info("%d leases at %s", len(changes), self._lookup.listen)

    def submit(self, changes: Mapping[str, bool]) -> None:
        """Be told of a net change, which a map would need: address to True (added) or False (removed)."""
        if len(changes) > _NAMED:
            _log.info("%s: %d leases began or ended", self._lookup.listen, len(changes))
            return
        for address, added in sorted(changes.items()):
            _log.info("added %s to %s" if added else "removed %s from %s", address, self._lookup.listen)

    def close(self) -> None:
        """Stop listening, end all connections and remove the socket."""
        if self._listening:
            _log.info("%s: %d questions answered", self._lookup.listen, self.questions)
            self._listening.close()
            if self._path and identity(self._path) == self._ours:
                self._path.unlink(missing_ok=True)
        self._listening = None
        for connection in list(self._connections):
            connection.abort()
        if self._sweep:
            self._sweep.cancel()

    # -- for connections

    def opened(self, connection: Connection) -> bool:
        """Take a connection, or tell that there are too many."""
        if len(self._connections) >= self.most:
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._waiting.pop(connection, None)

    def impatient(self, connection: Connection, *, waiting: bool, anew: bool) -> None:
        """Note whether somebody is waited for, and whether the time that this may take begins anew."""
        if not waiting:
            self._waiting.pop(connection, None)
        elif anew or connection not in self._waiting:
            loop = asyncio.get_running_loop()
            self._waiting[connection] = loop.time()
            self._sweep = self._sweep or loop.call_later(_SWEEP, self._cut)

    def _cut(self) -> None:
        """End those who let us wait too long."""
        loop = asyncio.get_running_loop()
        for connection, since in list(self._waiting.items()):
            if loop.time() - since > _PATIENCE:
                connection.abort()
        self._sweep = loop.call_later(_SWEEP, self._cut) if self._waiting else None

    def _talk(self) -> Connection:
        return Connection(self, DIALOGUES[self._lookup.protocol](self._leased, self._lookup.reply.encode("ascii")))

    def _leased(self, spelt: bytes) -> bool:
        """Answer for an address as the mail server spells it. No lease has any spelling but the canonical one."""
        if self._lookup.address:
            spelt = self._lookup.address(spelt)
        return self.leased(spelt.decode("latin-1"))


class Servers(dict[Lookup, Server]):
    """The servers of all lookups. Who follows at a reload takes over those that it wants too, with their sockets."""

    async def take(self, wanted: Mapping[Lookup, Leased]) -> None:
        """Have these answered, and no others."""
        for lookup in self.keys() - wanted.keys():
            self.pop(lookup).close()
        most = _room(len(wanted))
        for lookup, leased in wanted.items():
            server = self.setdefault(lookup, Server(lookup, leased))
            server.leased, server.most = leased, most
            await server.listen()

    def close(self) -> None:
        """End them all."""
        while self:
            self.popitem()[1].close()


def _room(count: int) -> int:
    """See to it that enough files may be open, and return how many connections each of so many servers may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count * _MOST + _OTHER_FILES if count else 0
    allowed = soft if soft == resource.RLIM_INFINITY else max(soft, wanted if hard < 0 else min(wanted, hard))
    if soft != allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if wanted <= allowed or allowed == resource.RLIM_INFINITY:
        return _MOST
    most = max(1, (allowed - _OTHER_FILES) // count)
    _log.warning("only %d files may be open (ulimit -n), so each lookup takes %d connections at most", allowed, most)
    return most
