"""Time as leases need it: a clock that never goes back and that suspend cannot stop."""

from __future__ import annotations

import time


class Clock:
    """The lease clock beside the wall clock.

    ``now()`` is the further advanced of CLOCK_BOOTTIME and the wall clock since start. It never goes back, so a step
    of either clock can only shorten a lease.
    """

    def __init__(self) -> None:
        self._wall = self.wall()
        self._boot = self.boot()
        self._now = 0.0

    def wall(self) -> float:
        """Return the wall clock in unix seconds."""
        return time.time()

    def boot(self) -> float:
        """Return the seconds since boot, suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def now(self) -> float:
        """Return the seconds on the lease clock, 0 at start."""
        self._now = max(self._now, self.wall() - self._wall, self.boot() - self._boot)
        return self._now
