"""When a login happened: every stamp that a log can have, found or just written, and every trick of calendar and clock.

What is right is worked out by the standard library's calendar and zones, never by our own code.
"""

from __future__ import annotations

import asyncio
import calendar
import datetime as dt
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pop_before_smtp._match import Matcher
from pop_before_smtp._record import Batch, Layout, Records
from pop_before_smtp.api import LogHeader, Record
from pop_before_smtp.testing import FakeClock
from world import PARSERS, Log, Process

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
YEAR = 365 * DAY
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = {
    "Europe/Berlin": "CET-1CEST,M3.5.0,M10.5.0/3",
    "America/New_York": "EST5EDT,M3.2.0,M11.1.0",
    "Australia/Lord_Howe": "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
}
"""Zones and how TZ says them to a machine that has no table of zones; the last one's clock change is half an hour."""
OWN = LogHeader(
    name="popd",
    line=rb"(?:(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:.]+|@4[0-9a-f]{23}|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+) )?"
    rb"popd: Info: (?P<message>.*)",
    program=b"popd",
)
"""A file of a server's own, as Dovecot's: stamped in one of three ways, or not at all."""
MATCHER = Matcher(PARSERS)
LOGIN = "login imap ann from 203.0.113.7 #1"


def utc(*parts: int) -> float:
    return float(calendar.timegm((*parts, 0, 0, 0)[:6]))


def judged(
    line: str, read: float, *, live: bool, limit: float = math.inf, zone: dt.tzinfo | None = BERLIN
) -> float | str:
    """Return when a login was, or why it counts for nothing.

    Args:
        line: the whole line.
        read: when it was, in unix seconds.
        live: it had just been written then.
        limit: the last change of the file, where it was found.
        zone: that of the source; None is the machine's.
    """
    own = "popd: Info: " in line
    layout = Layout([OWN] if own else (), format=OWN.name if own else "syslog", zone=zone)
    data = line.encode() + b"\n"
    batch = Batch(source="log", data=data, received=read, limit=min(read, limit), live=live, layout=layout)
    MATCHER.counts.clear()
    return next((event.at for event in MATCHER.feed(batch)), "") or next(iter(MATCHER.counts), "nothing")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Give what sets the machine's time zone."""

    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", ZONES[zone])
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


# -- forms


def _short(at: dt.datetime, day: str = "2") -> str:
    return f"{at:%b} {at.day:{day}} {at:%H:%M:%S}"


def _zoned(offset: float, spelling: str) -> Callable[[dt.datetime], str]:
    zone = dt.timezone(dt.timedelta(hours=offset))
    return lambda at: at.astimezone(zone).replace(tzinfo=None).isoformat() + spelling


def _tai(at: dt.datetime) -> str:
    seconds = int(at.timestamp())
    return f"@{2**62 + 10 + seconds:016x}{at.microsecond * 1000:08x}"


SYSLOG = " mail popd[7]: "
FORMS: dict[str, tuple[Callable[[dt.datetime], str], str]] = {
    "RFC 3164": (_short, SYSLOG),
    "RFC 3164, zeros": (lambda at: _short(at, "02"), SYSLOG),
    "RFC 3164, fraction": (lambda at: f"{_short(at)}.{at.microsecond:06}", SYSLOG),
    "ISO": (lambda at: at.replace(tzinfo=None).isoformat(), SYSLOG),
    "ISO, blank": (lambda at: at.replace(tzinfo=None).isoformat(" "), SYSLOG),
    "ISO Z": (_zoned(0, "Z"), SYSLOG),
    "ISO +02:00": (_zoned(2, "+02:00"), SYSLOG),
    "ISO -0330": (_zoned(-3.5, "-0330"), SYSLOG),
    "ISO +05:45": (_zoned(5.75, "+05:45"), SYSLOG),
    "ISO +02": (_zoned(2, "+02"), SYSLOG),
    "ISO basic": (lambda at: at.strftime("%Y%m%dT%H%M%S.%f%z"), SYSLOG),
    "ISO, priority": (lambda at: "<22>" + at.isoformat(), SYSLOG),
    "RFC 5424": (lambda at: "<22>1 " + at.isoformat(), " mail popd 7 - - "),
    "RFC 5424 Z": (lambda at: "<22>1 " + _zoned(0, "Z")(at), ' mail popd 7 - [x@1 y="\\]"] '),
    "TAI64N": (_tai, " popd: "),
    "epoch": (lambda at: f"{int(at.timestamp())}", " popd: "),
    "epoch, fraction": (lambda at: f"{at.timestamp():.6f}", " popd: "),
    "own": (_short, " popd: Info: "),
    "own, fraction": (lambda at: f"{_short(at)}.{at.microsecond:06}", " popd: Info: "),
    "own, ISO": (lambda at: at.replace(tzinfo=None).isoformat(), " popd: Info: "),
    "own, TAI64N": (_tai, " popd: Info: "),
}
"""By name: the stamp of a moment, which is told in Berlin's time, and what stands between it and the message."""
WHOLE = {"RFC 3164", "RFC 3164, zeros", "epoch", "own"}
"""Those without fractions of a second."""
MOMENTS = [
    (2026, 11, 2, 9, 6, 5, 250_000),
    (2026, 7, 15, 21, 59, 59, 500_000),
    (2026, 12, 31, 22, 59, 59, 0),
    (2028, 2, 29, 0, 0, 0, 123_456),
]


@pytest.mark.parametrize("live", [True, False], ids=["live", "found"])
@pytest.mark.parametrize("given", [True, False], ids=["of the source", "of the machine"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str, given: bool, live: bool, machine: Callable[[str], None]) -> None:
    machine("America/New_York" if given else "Europe/Berlin")
    stamp, rest = FORMS[form]
    for parts in MOMENTS:
        at = dt.datetime(*parts, tzinfo=dt.UTC)
        expected = calendar.timegm(at.timetuple()) + (0 if form in WHOLE else at.microsecond / 1e6)
        line = stamp(at.astimezone(BERLIN)) + rest + LOGIN
        told = judged(line, expected + 3, live=live, limit=expected + 1, zone=BERLIN if given else None)
        assert told == pytest.approx(expected, abs=1e-6), line


@pytest.mark.parametrize("stamp", ["Feb 30 10:00:00 mail popd: ", "<22>1 - mail popd - - - ", "popd: Info: "])
def test_receipt_stands_in_for_a_stamp_only_where_the_line_has_just_been_written(stamp: str) -> None:
    now = utc(2026, 11, 22, 10)
    assert judged(stamp + LOGIN, now, live=True) == now
    assert judged(stamp + LOGIN, now, live=False, limit=now - 9) == "no_stamp"


def test_a_record_of_the_journal_has_microseconds() -> None:
    at = utc(2026, 11, 22, 10) + 0.123456
    record = Record(time=at, received=at + 1, limit=at + 1, program=b"popd", message=LOGIN.encode())
    assert [event.at for event in MATCHER.feed(Records(source="journal", records=[record]))] == [at]


# -- calendar


@pytest.mark.parametrize("year", [2026, 2028])
@pytest.mark.parametrize("month", range(1, 13))
def test_the_year_is_right_on_both_sides_of_a_months_end(year: int, month: int) -> None:
    """Written up to an hour before or after it, and read at once, some time later, or by a clock that is behind."""
    midnight = dt.datetime(year, month, 1, tzinfo=BERLIN).timestamp()
    for at in (midnight + each for each in (-HOUR, -1, 0, 1, HOUR)):
        line = _short(dt.datetime.fromtimestamp(at, BERLIN)) + SYSLOG + LOGIN
        for late in (0, 1, HOUR, 2 * HOUR, 20 * DAY):
            for live in (True, False):
                assert judged(line, at + late, live=live) == at
        for early in (1, 300, HOUR):  # that is the reader's time, or nobody's
            assert judged(line, at - early, live=True) == at - early
            assert judged(line, at - early, live=False) == ("future" if early > 300 else at - early)


@pytest.mark.parametrize(
    ("read", "live", "found"),
    [
        ((2028, 2, 29, 12, 0, 1), (2028, 2, 29, 12), (2028, 2, 29, 12)),
        ((2028, 3, 1), (2028, 2, 29, 12), (2028, 2, 29, 12)),
        ((2029, 1, 1), (2028, 2, 29, 12), (2028, 2, 29, 12)),
        ((2027, 3, 1), (2027, 3, 1), "future"),
        ((2030, 3, 1), (2030, 3, 1), "no_stamp"),
    ],
)
def test_february_29(read: tuple[int, ...], live: tuple[int, ...], found: tuple[int, ...] | str) -> None:
    """In a year that has none, a login that is just being written counts by receipt."""
    line = "Feb 29 12:00:00" + SYSLOG + LOGIN
    assert judged(line, utc(*read), live=True, zone=dt.UTC) == utc(*live)
    expected = found if isinstance(found, str) else utc(*found)
    assert judged(line, utc(*read), live=False, zone=dt.UTC) == expected


@pytest.mark.parametrize(
    "stamp", ["Dec 31 23:59:60", "2026-12-31T23:59:60Z", "2027-01-01T05:44:60+05:45", "<22>1 2026-12-31T23:59:60.0Z"]
)
@pytest.mark.parametrize("live", [True, False], ids=["live", "found"])
def test_a_leap_second_is_the_first_of_the_next_day(stamp: str, live: bool) -> None:
    rest = " mail popd - - - " if stamp.startswith("<22>1") else SYSLOG
    assert judged(stamp + rest + LOGIN, utc(2027, 1, 1) + 5, live=live, zone=dt.UTC) == utc(2027, 1, 1)


@pytest.mark.parametrize(
    ("ahead", "live", "found"),
    [
        (-20 * YEAR, None, None),
        (-HOUR, None, None),
        (3, 0, -10),
        (290, 0, -10),
        (291, 0, "future"),
        (HOUR, 0, "future"),
        (YEAR, 0, "future"),
        (20 * YEAR, 0, "future"),
    ],
)
def test_stamps_ahead_and_behind(ahead: float, live: float | None, found: float | str | None) -> None:
    """Nothing is later than its reading, nor than the last change of its file, here ten seconds earlier."""
    now = utc(2026, 11, 22, 10)
    line = dt.datetime.fromtimestamp(now + ahead, dt.UTC).isoformat() + SYSLOG + LOGIN
    assert judged(line, now, live=True) == now + (ahead if live is None else live)
    expected = found if isinstance(found, str) else now + (ahead if found is None else found)
    assert judged(line, now, live=False, limit=now - 10) == expected


# -- zones


def _changes(zone: ZoneInfo) -> Iterator[float]:
    """Yield when the clocks of a zone are changed in 2026 and 2027."""
    for at in range(int(utc(2026, 1, 1)), int(utc(2028, 1, 1)), 1800):
        before, after = (dt.datetime.fromtimestamp(each, zone).utcoffset() for each in (at - 1, at))
        if before != after:
            yield float(at)


@pytest.mark.parametrize("given", [True, False], ids=["of the source", "of the machine"])
@pytest.mark.parametrize("name", ZONES)
def test_around_a_change_of_the_clocks(name: str, given: bool, machine: Callable[[str], None]) -> None:
    """A time that comes twice is the one just written, or where it was found the earlier one."""
    machine(name if not given else "America/New_York")
    zone = ZoneInfo(name)
    changes = list(_changes(zone))
    assert len(changes) == 4
    for change in changes:
        meanings = defaultdict(list)
        for at in (change + 5 * MINUTE * n for n in range(-36, 37)):
            local = dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None)
            meanings[_short(local)].append(at)
            meanings[local.isoformat()].append(at)
        before, after = (dt.datetime.fromtimestamp(at, zone).utcoffset() for at in (change - 1, change))
        assert before
        assert after
        assert max(map(len, meanings.values())) == (2 if after < before else 1)
        for stamp, times in meanings.items():
            line = stamp + SYSLOG + LOGIN
            assert judged(line, change + DAY, live=False, zone=zone if given else None) == min(times)
            for at in times:
                assert judged(line, at + 2, live=True, zone=zone if given else None) == at


@pytest.mark.parametrize("live", [True, False], ids=["live", "found"])
@pytest.mark.parametrize("name", ZONES)
def test_a_time_that_the_clocks_skip_is_not_later_than_it_can_be(name: str, live: bool) -> None:
    zone = ZoneInfo(name)
    for change in _changes(zone):
        before, after = (dt.datetime.fromtimestamp(at, zone).replace(tzinfo=None) for at in (change - 1, change))
        if after - before > dt.timedelta(minutes=2):
            line = _short(before + dt.timedelta(minutes=10)) + SYSLOG + LOGIN
            at = judged(line, change + 1, live=live, zone=zone)
            assert isinstance(at, float)
            assert change - HOUR <= at <= change + 1


# -- clocks


async def _lease(process: Process) -> float | None:
    """Return for how long the hour's lease goes on."""
    deadline = process.leases()["all"].get("203.0.113.7")
    return None if deadline is None else deadline - process.clock.now()


async def _logged_in(folder: Path, wall: float) -> tuple[Log, Process]:
    """Return a log with one login, and what follows it; nothing of it is stored."""
    log = Log(folder / "mail.log", wall)
    log.create()
    process = Process(log, folder / "state")
    await process.start()
    await _login(log, process)
    assert await _lease(process) == HOUR - 0.25  # the log takes a quarter of a second for a line
    return log, process


async def _login(log: Log, process: Process) -> None:
    log.write(log.clock.wall(), ("login", "imap", "ann", "203.0.113.7"), year=True)
    await process.look()


@pytest.mark.parametrize(
    ("happens", "left"),
    [
        (lambda clock: clock.step(-HOUR), HOUR),
        (lambda clock: clock.step(HOUR / 2), HOUR / 2),
        (lambda clock: clock.step(HOUR), None),
        (lambda clock: clock.advance(HOUR / 2), HOUR / 2),
        (lambda clock: clock.advance(8 * HOUR), None),  # suspended: only boottime and wall clock go on
        (lambda clock: (clock.step(-HOUR), clock.advance(HOUR / 2)), HOUR / 2),
        (lambda clock: (clock.step(HOUR / 2), clock.step(-HOUR / 2)), HOUR),  # nobody saw it
    ],
    ids=["NTP back", "NTP forwards", "NTP an hour forwards", "time", "suspend", "back and time", "there and back"],
)
def test_a_lease_under_a_clock_that_is_set(
    happens: Callable[[FakeClock], object], left: float | None, tmp_path: Path
) -> None:
    async def story() -> None:
        log, process = await _logged_in(tmp_path, utc(2026, 11, 22, 10))
        happens(log.clock)
        assert await _lease(process) == (None if left is None else left - 0.25)
        await _login(log, process)
        assert await _lease(process) == HOUR - 0.25, "a new login is worth what it always is"
        await process.stop()

    asyncio.run(story())


def test_a_boot_in_1970_opens_for_nobody_and_forgets_nobody(tmp_path: Path) -> None:
    today = utc(2026, 11, 22, 10)

    async def story() -> None:
        log, process = await _logged_in(tmp_path, today)
        process.store(1)
        await process.stop()

        log.clock = FakeClock(20.0)
        process = Process(log, tmp_path / "state")
        await process.start()
        assert await _lease(process) is None, "from the future"
        await _login(log, process)
        assert await _lease(process) == HOUR - 0.25
        log.clock.step(today + 600 - log.clock.wall())
        assert await _lease(process) is None, "more than half a century has passed for that lease"
        await process.stop()

        process = Process(log, tmp_path / "state")
        await process.start()
        assert await _lease(process) == HOUR - 599.75, "the true login still counts"
        await process.stop()

    asyncio.run(story())


def test_a_restart_behind_a_clock_that_went_back_makes_no_lease_longer_than_a_grace(tmp_path: Path) -> None:
    async def story() -> None:
        log, process = await _logged_in(tmp_path, utc(2026, 11, 22, 10))
        process.store(1)
        await process.stop()
        log.clock.advance(600)
        log.clock.step(-300)
        process = Process(log, tmp_path / "state")
        assert await _lease(process) == HOUR - 300.25, "nobody knows better"
        await process.start()
        await process.stop()
        log.clock.step(-301)
        process = Process(log, tmp_path / "state")
        assert await _lease(process) is None
        await process.start()
        await process.stop()

    asyncio.run(story())
