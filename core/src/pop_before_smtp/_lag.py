"""Sources whose stamps are whole hours behind: their time zone is not the one that they are taken for."""

from __future__ import annotations

import logging

_log = logging.getLogger("pop_before_smtp.source")

_UNIT = 1800.0
"""Zones differ by so many seconds or a multiple."""
_SLACK = 10.0
"""How long a line may take from its stamp to us, in seconds."""
_APART = 1.0
"""Lines that come at once are as late as each other, whatever the reason; so many seconds between them tell more."""
_TIMES = 3
"""So many in a row are no accident."""


class Lag:
    """Watches the logins that come too late to be worth anything, and warns once for each source."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int, float]] = {}  # how late, how often in a row, when last

    def note(self, source: str, late: float, wall: float) -> None:
        """Look at a login that was expired on arrival.

        Args:
            source: where it comes from.
            late: seconds since its own time.
            wall: the wall clock, in unix seconds.
        """
        offset = round(late / _UNIT) * _UNIT
        known, times, last = self._seen.get(source, (0.0, 0, 0.0))
        if abs(late - offset) > _SLACK:
            self._seen.pop(source, None)
        elif offset != known:
            self._seen[source] = offset, 1, wall
        elif wall - last >= _APART:
            self._seen[source] = offset, times + 1, wall
            if times + 1 == _TIMES:
                _log.warning(
                    "%s: every login is %g hours old when it comes and worth no lease; is that another time zone? "
                    "Set timezone in its [[source]], or mend the clock of its host",
                    source,
                    offset / 3600,
                )
