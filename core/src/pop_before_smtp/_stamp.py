"""The time stamps of log lines, turned into unix seconds.

Known are RFC 3164 (no year, no zone), ISO 8601 and RFC 3339 in extended and basic form, TAI64N and unix seconds.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from datetime import tzinfo

CALENDAR = (
    rb"((?:[A-Z][a-z]{2} [ 0-3][0-9] [0-2][0-9]:[0-5][0-9]:)"
    rb"|(?:[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:)"
    rb"|(?:[0-9]{4}[01][0-9][0-3][0-9]T[0-2][0-9][0-5][0-9]))"
    rb"([0-9]{2}(?:\.[0-9]{1,9})?)"
    rb"(Z|[+-][0-9]{2}(?::?[0-9]{2})?|)"
)
"""A stamp that counts days, in three groups: its minute, its seconds, its zone."""
COUNTER = rb"@40000000[0-9a-f]{16}|[0-9]{9,10}(?:\.[0-9]{1,9})?"
"""A stamp that counts seconds: TAI64N or unix time."""

_CALENDAR = re.compile(CALENDAR)
_COUNTER = re.compile(COUNTER)
_MONTHS = {name: b"%02d" % n for n, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_HALF_YEAR = 182 * 86400
"""A time this close to a moment is nearer to it than its namesakes of other years."""
_SKEW = 300
"""Seconds that the writer's clock may be ahead of ours."""
_TAI_EPOCH = 2**62 + 10
"""The TAI64 label of 1970, as libtai's clocks count (no leap seconds): unix time comes back exactly."""
_CACHED = 4096


class Stamps:
    """Reads the stamps of one source, remembering the minutes it has seen.

    A local time that a clock change repeats or skips is read as the earlier of its two meanings, which can only shorten
    a lease. Where ``live`` says that the line has just been written it is the later one, unless that is still to come.

    Args:
        zone: what a stamp without a zone means; None is the machine's own.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._known: dict[bytes, float] = {}

    def read(self, stamp: bytes, near: float, *, live: bool = False) -> float | None:
        """Return the stamp in unix seconds, None if it is none that can be read.

        Args:
            stamp: the text, without blanks around it.
            near: unix seconds; a stamp without a year gets the year that puts it nearest.
            live: the line was written at about ``near``.
        """
        if found := _CALENDAR.fullmatch(stamp):
            start = self.start(found[1], found[3], near, live=live)
            return None if start is None else start + float(found[2])
        return counted(stamp) if _COUNTER.fullmatch(stamp) else None

    def start(self, minute: bytes, zone: bytes, near: float, *, live: bool = False) -> float | None:
        """Return when a minute began, given the first and the last part of :data:`CALENDAR`; as :meth:`read` else."""
        start = self._known.get(minute + zone)
        if start is not None and (minute < b"A" or -_HALF_YEAR < start - near < _HALF_YEAR):  # a year is in front
            return start
        digits = minute.translate(None, b"-:T ")
        if digits.isdigit():
            times = self._times(digits[:4], digits[4:], zone)
        else:
            month = _MONTHS.get(minute[:3], b"00")
            day, hour, of_hour = minute[4:6].replace(b" ", b"0"), minute[7:9], minute[10:12]
            this = dt.datetime.fromtimestamp(near, dt.UTC).year
            rest = month + day + hour + of_hour
            namesakes = [self._times(b"%d" % year, rest, zone) for year in (this - 1, this, this + 1)]
            times = min(filter(None, namesakes), key=lambda each: abs(each[0] - near), default=())
        if not times:
            return None
        if len(times) > 1:
            return times[-1] if live and times[-1] <= near + _SKEW else times[0]
        if len(self._known) >= _CACHED:
            self._known.clear()
        self._known[minute + zone] = times[0]
        return times[0]

    def _times(self, year: bytes, rest: bytes, offset: bytes) -> Sequence[float]:
        """Return when it was that minute (``MMDDhhmm``), in order: never, once, or at both sides of a clock change."""
        month, day, hour, minute = (int(rest[at : at + 2]) for at in (0, 2, 4, 6))
        try:
            first = dt.datetime(int(year), month, day, hour, minute, tzinfo=_fixed(offset) if offset else self._zone)
            return sorted({first.timestamp(), first.replace(fold=1).timestamp()})
        except (ValueError, OverflowError, OSError):
            return ()


def _fixed(offset: bytes) -> tzinfo:
    digits = offset[1:].replace(b":", b"")
    distance = dt.timedelta(hours=int(digits[:2] or b"0"), minutes=int(digits[2:] or b"0"))
    return dt.timezone(-distance if offset[:1] == b"-" else distance)


def counted(stamp: bytes) -> float:
    """Return a stamp that matches :data:`COUNTER` in unix seconds."""
    if stamp[:1] != b"@":
        return float(stamp)
    return int(stamp[1:17], 16) - _TAI_EPOCH + int(stamp[17:], 16) / 1e9
