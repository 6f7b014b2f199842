"""The time stamps of log lines, turned into unix seconds.

Known are RFC 3164 (no year, no zone), ISO 8601 and RFC 3339 in extended and basic form, TAI64N and unix seconds.
"""

from __future__ import annotations

import datetime as dt
import re
from datetime import tzinfo

_MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_BSD = re.compile(rb"([A-Z][a-z]{2}) ([ 0-3]?[0-9]) ([0-2][0-9]):([0-5][0-9]):([0-6][0-9](?:\.[0-9]{1,9})?)")
_ISO = re.compile(
    rb"([0-9]{4})-?([01][0-9])-?([0-3][0-9])[T ]([0-2][0-9]):?([0-5][0-9]):?([0-6][0-9])(?:[.,]([0-9]{1,9}))?"
    rb"(?:Z|([+-])([0-9]{2}):?([0-9]{2})?)?"
)
_TAI64N = re.compile(rb"@([0-9a-f]{16})([0-9a-f]{8})")
_UNIX = re.compile(rb"[0-9]{9,10}(?:\.[0-9]{1,9})?")
_SECONDS = re.compile(rb"[0-6][0-9](?:\.[0-9]{1,9})?")

_HALF_YEAR = 182 * 86400
"""A time this close to a moment is nearer to it than its namesakes of other years."""
_SKEW = 300
"""Seconds that the writer's clock may be ahead of ours."""
_TAI_EPOCH = 2**62 + 10
"""The TAI64 label of 1970, as libtai's clocks count (no leap seconds): unix time comes back exactly."""
_CACHED = 4096

_Fields = tuple[int, int, int, int, int]
"""Year, month, day, hour, minute."""


class Stamps:
    """Reads the stamps of one source, remembering the minutes it has seen.

    A local time that a clock change repeats or skips is read as the earlier of its two meanings, which can only shorten
    a lease. Where ``live`` says that the line has just been written it is the later one, unless that is still to come.

    Args:
        zone: what a stamp without a zone means; None is the machine's own.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._minutes: dict[bytes, float] = {}

    def read(self, stamp: bytes, near: float, *, live: bool = False) -> float | None:
        """Return the stamp in unix seconds, None if it is none that can be read.

        Args:
            stamp: the text, without blanks around it.
            near: unix seconds; a stamp without a year gets the year that puts it nearest.
            live: the line was written at about ``near``.
        """
        if stamp[:1].isdigit():
            return self.iso(stamp, near, live=live)
        return _tai64n(stamp) if stamp[:1] == b"@" else self.bsd(stamp, near, live=live)

    def bsd(self, stamp: bytes, near: float, *, live: bool = False) -> float | None:
        """Return ``Nov 22 09:05:40`` in unix seconds; arguments as for :meth:`read`."""
        minute = self._minutes.get(stamp[:13])
        if minute is not None and -_HALF_YEAR < minute - near < _HALF_YEAR and _SECONDS.fullmatch(stamp, 13):
            return minute + float(stamp[13:])
        found = _BSD.fullmatch(stamp)
        if not found or found[1] not in _MONTHS:
            return None
        this = dt.datetime.fromtimestamp(near, dt.UTC).year
        fields = _MONTHS[found[1]], int(found[2]), int(found[3]), int(found[4])
        namesakes = [self._local((year, *fields), near, live=live) for year in (this - 1, this, this + 1)]
        nearest = min(filter(None, namesakes), key=lambda each: abs(each[0] - near), default=None)
        return self._remember(stamp[:13], nearest) + float(found[5]) if nearest else None

    def iso(self, stamp: bytes, near: float, *, live: bool = False) -> float | None:
        """Return ``2026-11-22T09:05:40.123456+00:00`` and its kin in unix seconds; arguments as for :meth:`read`."""
        zone = stamp[17:].lstrip(b"0123456789.")
        end = len(stamp) - len(zone)
        minute = self._minutes.get(stamp[:17] + zone)
        if minute is not None and _SECONDS.fullmatch(stamp, 17, end):
            return minute + float(stamp[17:end])
        found = _ISO.fullmatch(stamp)
        if not found:
            return float(stamp) if _UNIX.fullmatch(stamp) else None
        fields = int(found[1]), int(found[2]), int(found[3]), int(found[4]), int(found[5])
        if stamp[-1:] == b"Z" or found[8]:
            known = _zoned(fields, *(found.group(8, 9, 10) if found[8] else (b"+", b"00", b"00")))
        else:
            known = self._local(fields, near, live=live)
        seconds = float(found[6] + b"." + (found[7] or b"0"))
        plain = stamp[16:17] == b":" and b"," not in zone
        return self._remember(stamp[:17] + zone if plain else b"", known) + seconds if known else None

    def _local(self, fields: _Fields, near: float, *, live: bool) -> tuple[float, bool] | None:
        """Return when it was that minute in the zone, and whether it was so once only; None if never."""
        try:
            times = {dt.datetime(*fields, tzinfo=self._zone, fold=fold).timestamp() for fold in (0, 1)}
        except (ValueError, OverflowError, OSError):
            return None
        late = max(times)
        return (late if live and late <= near + _SKEW else min(times)), len(times) == 1

    def _remember(self, key: bytes, known: tuple[float, bool]) -> float:
        minute, once = known
        if once and key:
            if len(self._minutes) >= _CACHED:
                self._minutes.clear()
            self._minutes[key] = minute
        return minute


def _zoned(fields: _Fields, sign: bytes, hours: bytes, minutes: bytes | None) -> tuple[float, bool] | None:
    offset = dt.timedelta(hours=int(hours), minutes=int(minutes or b"0"))
    try:
        return dt.datetime(*fields, tzinfo=dt.timezone(-offset if sign == b"-" else offset)).timestamp(), True
    except (ValueError, OverflowError):
        return None


def _tai64n(stamp: bytes) -> float | None:
    found = _TAI64N.fullmatch(stamp)
    if not found:
        return None
    return int(found[1], 16) - _TAI_EPOCH + int(found[2], 16) / 1e9
