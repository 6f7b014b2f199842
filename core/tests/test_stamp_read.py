"""Stamps as logs have them, against times worked out elsewhere."""

from __future__ import annotations

import calendar
import datetime as dt
import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp._stamp import Stamps

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0
DAY = 86400.0
YEAR = 365 * DAY
MOMENTS = st.integers(0, 4_000_000_000)


def utc(*parts: int) -> float:
    return float(calendar.timegm((*parts, 0, 0, 0)[:6]))


def short(at: float) -> bytes:
    """Write a time as RFC 3164 does, in UTC."""
    parts = time.gmtime(at)
    return f"{calendar.month_abbr[parts.tm_mon]} {parts.tm_mday:2} {time.strftime('%H:%M:%S', parts)}".encode()


@pytest.fixture(params=["zone given", "zone of the machine"])
def central(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stamps]:
    """Read stamps in central European time, as configured or because the machine has it."""
    if request.param == "zone given":
        yield Stamps(BERLIN)
        return
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield Stamps()
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        (b"2026-11-22T10:00:00Z", 1795341600.0),
        (b"2026-11-22T10:00:00.123456+02:00", 1795334400.123456),
        (b"2026-11-22T10:00:00+0200", 1795334400.0),
        (b"2026-11-22T10:00:00+02", 1795334400.0),
        (b"2026-11-22T10:00:00-0330", 1795354200.0),
        (b"2026-11-22T10:00:00-03:30", 1795354200.0),
        (b"2026-11-22T10:00:00+05:45", 1795320900.0),
        (b"2026-11-22 10:00:00", 1795341600.0),
        (b"2026-11-22 10:00:00.5", 1795341600.5),
        (b"20261122T100000Z", 1795341600.0),
        (b"20261122T100000.25+0200", 1795334400.25),
        (b"2026-11-22T10:00:00.123456789Z", 1795341600.123456789),
        (b"2016-12-31T23:59:60Z", 1483228800.0),
        (b"2028-02-29T00:00:00Z", 1835395200.0),
        (b"Nov 22 10:00:00", 1795341600.0),
        (b"Nov 22 10:00:00.75", 1795341600.75),
        (b"Nov  2 10:00:00", 1793613600.0),
        (b"Nov 02 10:00:00", 1793613600.0),
        (b"1795341600", 1795341600.0),
        (b"1795341600.25", 1795341600.25),
        (b"@400000006b02bd2a1dcd6500", 1795341600.5),
    ],
)
def test_known_forms(stamp: bytes, seconds: float) -> None:
    assert Stamps(dt.UTC).read(stamp, 1795341600.0) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "stamp",
    [
        b"",
        b"Nov",
        b"Nuv 22 10:00:00",
        b"Nov 31 10:00:00",
        b"Feb 30 10:00:00",
        b"Nov 22 25:00:00",
        b"Nov 22 10:61:00",
        b"Nov 22 10:00",
        b"2026-13-01T10:00:00Z",
        b"2026-02-29T10:00:00Z",
        b"0000-01-01T10:00:00Z",
        b"2026-11-22T10:00:00+99:99",
        b"2026-11-22T10:00:00 Z",
        b"\xb2026-11-22T10:00:00Z",
        b"22/Nov/2026:10:00:00",
        b"@40000000",
        b"@400000006b02daaa1dcd6500x",
        b"nan",
        b"1e9",
    ],
)
def test_what_is_no_stamp(stamp: bytes) -> None:
    assert Stamps(dt.UTC).read(stamp, 1795341600.0) is None


@given(MOMENTS, st.integers(-14 * 60, 14 * 60), st.integers(0, 999_999))
def test_a_zone_in_the_stamp_counts(at: int, offset: int, micro: int) -> None:
    there = dt.datetime.fromtimestamp(at, dt.timezone(dt.timedelta(minutes=offset))).replace(microsecond=micro)
    assert Stamps().read(there.isoformat().encode(), 0.0) == pytest.approx(at + micro / 1e6, abs=1e-6)


@given(MOMENTS, st.integers(-181 * 86400, 181 * 86400))
def test_a_stamp_without_a_year_is_the_nearest(near: int, distance: int) -> None:
    at = max(near + distance, 0)
    if short(at)[:6] != b"Feb 29":
        assert Stamps(dt.UTC).read(short(at), near) == at


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("year", [2026, 2028])
def test_around_the_first_of_a_month(year: int, month: int) -> None:
    first = utc(year, month, 1)
    stamps = Stamps(dt.UTC)
    for at in (first - HOUR, first - 1, first, first + HOUR):
        for near in (first - HOUR, first - 1, first, first + HOUR, first - 3 * DAY, first + 3 * DAY):
            assert stamps.read(short(at), near) == at, (short(at), near)


@pytest.mark.parametrize(
    ("near", "year"),
    [
        ((2028, 2, 29, 12), 2028),
        ((2028, 3, 1), 2028),
        ((2028, 1, 1), 2028),
        ((2027, 12, 31), 2028),
        ((2029, 1, 1), 2028),
        ((2029, 2, 28), 2028),
    ],
)
def test_february_29_is_in_the_leap_year_next_to_it(near: tuple[int, ...], year: int) -> None:
    assert Stamps(dt.UTC).read(b"Feb 29 12:00:00", utc(*near)) == utc(year, 2, 29, 12)


def test_february_29_is_no_day_when_no_leap_year_is_near() -> None:
    assert Stamps(dt.UTC).read(b"Feb 29 12:00:00", utc(2030, 6, 1)) is None


def test_what_one_moment_has_taught_is_not_believed_years_later() -> None:
    stamps = Stamps(dt.UTC)
    for year in (2026, 2027, 2029, 2026):
        assert stamps.read(b"Nov 22 10:00:00", utc(year, 11, 22, 11)) == utc(year, 11, 22, 10)


def test_a_repeated_hour_is_the_earlier_one(central: Stamps) -> None:
    """02:30 comes twice on 2026-10-25: at 00:30 and at 01:30 UTC."""
    first, second = utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)
    for stamp in (b"Oct 25 02:30:00", b"2026-10-25 02:30:00"):
        assert central.read(stamp, second + DAY) == first
        assert central.read(stamp, second, live=True) == second
        assert central.read(stamp, first, live=True) == first
        assert central.read(stamp, second + DAY) == first  # whatever was read live


def test_a_skipped_hour_is_the_earlier_reading(central: Stamps) -> None:
    """02:30 never comes on 2026-03-29: the clock goes from 02:00, 01:00 UTC, to 03:00."""
    jump = utc(2026, 3, 29, 1)
    read = central.read(b"Mar 29 02:30:00", jump + DAY)
    assert read is not None
    assert jump - HOUR <= read <= jump
    assert central.read(b"Mar 29 01:59:59", jump) == jump - 1
    assert central.read(b"Mar 29 03:00:00", jump) == jump


@given(st.integers(0, 2 * 366 * 24 * 60), st.integers(0, 59), st.booleans())
def test_no_clock_change_makes_a_line_younger(minute: int, second: int, live: bool) -> None:
    """A line is stamped by the wall clock and read at once or later: it never seems to be from after its reading."""
    at = utc(2026, 1, 1) + 60 * minute + second
    written = dt.datetime.fromtimestamp(at, BERLIN)
    for stamp in (written.strftime("%Y-%m-%d %H:%M:%S"), written.strftime("%b %e %H:%M:%S")):
        read = Stamps(BERLIN).read(stamp.encode(), at, live=live)
        assert read == at or (read == at - HOUR and not live)


@pytest.mark.parametrize("distance", [-YEAR, -DAY, 0.0, DAY, YEAR])
def test_a_year_that_stands_there_counts(distance: float) -> None:
    assert Stamps(dt.UTC).read(b"2026-11-22T10:00:00Z", 1795341600.0 + distance) == 1795341600.0
