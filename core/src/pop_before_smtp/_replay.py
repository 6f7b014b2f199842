"""From remembered logins to leases: what a start, ``list`` and ``purge`` have in common."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Protocol

from ._clock import Clock
from ._engine import Engine
from ._statereader import Remembered


class Memory(Protocol):
    """What can be asked for logins: the state, or a read-only view of it."""

    def remembered(self, since: float, until: float) -> Iterator[list[Remembered]]:
        """Yield the logins whose last time is from ``since`` up to ``until``, in unix seconds."""


def replay(engine: Engine, memory: Memory, clock: Clock, grace: float) -> None:
    """Apply the remembered logins under today's configuration.

    A login from the future is dropped: the wall clock has gone back since, and nobody knows how long it was.
    """
    now, wall = clock.now(), clock.wall()
    gc.disable()  # there may be a million logins, none of them in a circle
    try:
        for logins in memory.remembered(wall - grace, wall):
            engine.apply(logins, now, wall)
    finally:
        gc.enable()
