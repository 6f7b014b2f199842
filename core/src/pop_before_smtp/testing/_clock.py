"""A clock that tests turn by hand."""

from __future__ import annotations

from pop_before_smtp._clock import Clock


class FakeClock(Clock):
    """Stands still until told otherwise.

    Args:
        wall: the wall clock at the start, in unix seconds.
    """

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._fake_wall = wall
        self._fake_boot = 0.0
        super().__init__()

    def wall(self) -> float:
        """Return the wall clock as last set."""
        return self._fake_wall

    def boot(self) -> float:
        """Return the seconds that :meth:`advance` has added."""
        return self._fake_boot

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._fake_wall += seconds
        self._fake_boot += seconds

    def step(self, seconds: float) -> None:
        """Step the wall clock alone, forwards or back, as NTP or an operator would."""
        self._fake_wall += seconds
