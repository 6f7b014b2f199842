from __future__ import annotations

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
DAY = 24 * HOUR


def unix(text: str) -> float:
    """Another reader's opinion."""
    return dt.datetime.fromisoformat(text).timestamp()


def bsd(moment: dt.datetime) -> bytes:
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}".encode()


@pytest.fixture
def machine_in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00.123456+02:00",
        "2026-11-22T10:00:00Z",
        "2026-11-22T10:00:00-0330",
        "2026-11-22T10:00:00+05:45",
        "2026-11-22T10:00:00+02",
        "2026-11-22 10:00:00.5+00:00",
        "20261122T100000Z",
        "20261122T100000.25+0200",
        "1999-12-31T23:59:59-11:00",
        "2028-02-29T00:00:00+14:00",
    ],
)
def test_iso_with_a_zone_is_that_moment(text: str) -> None:
    stamps = Stamps(BERLIN)
    for _ in range(2):  # worked out, then remembered
        assert stamps.read(text.encode(), near=0.0) == unix(text)


@pytest.mark.parametrize("text", ["2026-11-22T10:00:00", "2026-11-22 10:00:00", "20261122T100000"])
def test_iso_without_a_zone_is_in_the_sources(text: str) -> None:
    wanted = dt.datetime(2026, 11, 22, 10, tzinfo=BERLIN).timestamp()
    assert Stamps(BERLIN).read(text.encode(), near=0.0) == wanted


@pytest.mark.usefixtures("machine_in_new_york")
def test_the_machines_own_zone_where_none_is_set() -> None:
    wanted = unix("2026-11-22T10:00:00-05:00")
    assert Stamps().read(b"2026-11-22T10:00:00", near=wanted) == wanted
    assert Stamps().read(b"Nov 22 10:00:00", near=wanted) == wanted


@pytest.mark.parametrize("month", range(1, 13))
@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("skew", [-2, 2])
def test_a_month_boundary_is_no_year_boundary(month: int, hours: int, skew: int) -> None:
    moment = dt.datetime(2027, month, 1, tzinfo=dt.UTC) + dt.timedelta(hours=hours)
    near = moment.timestamp() + skew * HOUR
    assert Stamps(dt.UTC).read(bsd(moment), near) == moment.timestamp()


@pytest.mark.parametrize("near", ["2028-02-29T12:00:00Z", "2028-03-01T00:00:01Z", "2029-01-01T00:00:00Z"])
def test_the_29th_of_february_is_in_the_leap_year(near: str) -> None:
    assert Stamps(dt.UTC).read(b"Feb 29 11:00:00", unix(near)) == unix("2028-02-29T11:00:00Z")


def test_no_29th_of_february_near_is_no_stamp() -> None:
    assert Stamps(dt.UTC).read(b"Feb 29 11:00:00", unix("2026-06-01T00:00:00Z")) is None


@given(
    near=st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2099, 1, 1)),  # noqa: DTZ001 - made aware below
    away=st.integers(int(-182 * DAY), int(182 * DAY)),
    others=st.lists(st.integers(int(-182 * DAY), int(182 * DAY)), max_size=3),
)
def test_without_a_year_it_is_the_nearest(near: dt.datetime, away: int, others: list[int]) -> None:
    middle = near.replace(tzinfo=dt.UTC, microsecond=0)
    stamps = Stamps(dt.UTC)
    for distance in (*others, away, away):
        moment = middle + dt.timedelta(seconds=distance)
        assert stamps.read(bsd(moment), middle.timestamp()) == moment.timestamp()


def test_what_was_remembered_of_one_year_is_not_said_in_another() -> None:
    stamps = Stamps(dt.UTC)
    for year in (2025, 2026, 2027, 2026):
        assert stamps.read(b"Nov 22 10:00:00", unix(f"{year}-12-01T00:00:00Z")) == unix(f"{year}-11-22T10:00:00Z")


FIRST, SECOND = unix("2026-10-25T02:30:00+02:00"), unix("2026-10-25T02:30:00+01:00")


@pytest.mark.parametrize("stamp", [b"Oct 25 02:30:00", b"2026-10-25T02:30:00"])
def test_the_hour_that_comes_twice(stamp: bytes) -> None:
    stamps = Stamps(BERLIN)
    for near in (FIRST, SECOND, SECOND + DAY):
        assert stamps.read(stamp, near) == FIRST, (
            "a found line may be of either hour: the earlier one lengthens no lease"
        )
    assert stamps.read(stamp, FIRST + 5, live=True) == FIRST
    assert stamps.read(stamp, SECOND + 5, live=True) == SECOND
    assert stamps.read(stamp, SECOND + 5) == FIRST


@pytest.mark.parametrize("stamp", [b"Mar 29 02:30:00", b"2026-03-29T02:30:00"])
def test_the_hour_that_never_comes(stamp: bytes) -> None:
    near = unix("2026-03-29T03:30:00+02:00")
    assert Stamps(BERLIN).read(stamp, near) == near - HOUR


def test_a_leap_second_is_the_next_minutes_first() -> None:
    assert Stamps().read(b"2016-12-31T23:59:60Z", 0.0) == unix("2017-01-01T00:00:00Z")


def test_tai64n_and_unix_seconds() -> None:
    assert Stamps().read(b"@400000006b018c8d1dcd6500", 0.0) == 0x6B018C8D - 10 + 0.5
    assert Stamps().read(b"1795339046.25", 0.0) == 1795339046.25
    assert Stamps().read(b"1795339046", 0.0) == 1795339046.0


@pytest.mark.parametrize(
    "stamp",
    [
        b"",
        b" ",
        b"Nov 31 10:00:00",
        b"Nov 22 24:00:00",
        b"Nov 22 10:60:00",
        b"Foo 22 10:00:00",
        b"nov 22 10:00:00",
        b"Nov 22 10:00",
        b"Nov 22 2026 10:00:00",
        b"2026-13-22T10:00:00Z",
        b"2026-11-22T10:00:00+25:00",
        b"2026-11-22T10:00:00+05:99:00",
        b"0000-11-22T10:00:00Z",
        b"2026-11-22",
        b"@4000000",
        b"@ffffffffffffffffffffffff",
        b"17953390461795339046",
        b"1e5",
        b"nan",
        b"\xd9\xa1\xd9\xa2",
    ],
)
def test_what_is_no_stamp(stamp: bytes) -> None:
    assert Stamps(BERLIN).read(stamp, unix("2026-11-22T10:00:00Z")) is None


@given(stamp=st.binary(max_size=40) | st.text("0123456789-:.T+Z @NovFeb", max_size=34).map(str.encode))
def test_no_bytes_raise(stamp: bytes) -> None:
    value = Stamps(BERLIN).read(stamp, 1.8e9, live=True)
    assert value is None or abs(value) < 1e12
