"""From remembered logins to leases: what a start, ``list`` and ``purge`` have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from ._clock import Clock
from ._engine import Engine
from ._statereader import Login
from .api import LOGIN, LoginEvent


class Memory(Protocol):
    """What can be asked for logins: the state, or a read-only view of it."""

    def logins(self, since: float) -> Iterator[Login]:
        """Yield the logins whose last time is not before ``since``, in unix seconds."""


def replay(engine: Engine, memory: Memory, clock: Clock, grace: float) -> None:
    """Apply the remembered logins under today's configuration.

    A login from the future is dropped: the wall clock has gone back since, and nobody knows how long it was.
    """
    wall = clock.wall()
    engine.apply(_events(memory.logins(wall - grace), wall), clock.now(), wall)


def _events(logins: Iterable[Login], wall: float) -> Iterator[LoginEvent]:
    for login in logins:
        if login.last <= wall:
            yield LoginEvent(
                kind=LOGIN,
                address=login.address,
                at=login.last,
                received=wall,
                user=login.user,
                service=login.service,
                tls=login.tls,
                parser=login.parser,
                source=login.source,
                position=login.position,
            )
