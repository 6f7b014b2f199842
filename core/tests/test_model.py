"""Random schedules of logins, rotation, kills and clocks: the leases are those of a dictionary, address to deadline.

The daemon's own pieces follow a real file and keep a state on disk. The model knows nothing of them but which lines
they have read and which batches were stored; what follows from that it works out by the documented rules. Real and
modelled leases are compared after every step, to the quarter of a second in which all times are here.
"""

from __future__ import annotations

import asyncio
import calendar
import math
import os
import tempfile
import time
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from pop_before_smtp._sources.watch import TICK
from world import GRACES, HORIZON, LONGEST, File, Line, Log, Process

START = 1_800_000_000.0
"""2027-01-15 08:00 UTC."""
DAY = 86400.0
YEAR = 366 * DAY
SKEW = 300.0
"""Seconds by which the writer's clock may be ahead of ours."""
CONNECT = 600.0
"""Seconds that an address waits for its login."""
EXAMPLES = int(os.environ.get("EXAMPLES", "50"))
"""Schedules of each kind."""
MEMORY = "/dev/shm"
"""On a disk nine tenths of the time would go into waiting for it."""

Login = tuple[str, str, str, float]
"""Address, user, service, and when in unix seconds."""
Leases = dict[str, dict[str, float]]
"""Deadlines by outlet and address."""


def wanted(outlet: str, service: str) -> bool:
    """Return whether an outlet takes the logins of a service."""
    return service == "imap" or (service == "pop3" and outlet == "all")


@define
class Heard:
    """What the state keeps of a batch."""

    lines: list[Line]
    """Read, or passed over before that as history."""
    logins: list[Login]
    connects: dict[str, tuple[str, float]]
    """Address and time by process, behind the batch."""


class Model:
    """What the leases must be, by the rules for stamps and clocks."""

    def __init__(self) -> None:
        self.positioned = False
        """It is known how far the log was read at some time."""
        self._stored: dict[tuple[str, str, str], list[float]] = defaultdict(list)  # the last login of each batch
        self._disk = Heard([], [], {})
        self.start(START)

    def start(self, wall: float) -> None:
        """Begin with what is stored: nothing from the future, and a grace at most."""
        self.leases: Leases = {name: {} for name in GRACES}
        self.waiting: list[Heard] = []
        self._read = set(self._disk.lines)
        self.positioned = bool(self._read)
        self._passed: list[Line] = []
        self._connects = dict(self._disk.connects)
        self._now = 0.0
        for (address, _user, service), times in self._stored.items():
            for at in times:
                if wall - LONGEST <= at <= wall:
                    self._grant(address, service, wall - at)

    def look(self, files: list[File], batches: list[list[int]], wall: float) -> None:
        """Read what the real thing has read, and see that it is what there was to read, each line once."""
        lines = {line.number: line for file in files for line in file.lines}
        passed: dict[int, list[Line]] = {}  # history, by the next line that is none
        for file in files:
            unread = [line for line in file.lines if line not in self._read]
            if not file.watched:
                behind, ahead = (DAY, DAY) if self.positioned else (HORIZON, SKEW)
                limit = min(wall, file.changed)
                kept = fresh(unread, limit, limit - behind, limit + ahead)
                self._passed += unread[: len(unread) - len(kept)]
                unread = kept
            for line in unread:
                passed[line.number], self._passed = self._passed, []
            self._read.update(unread, self._passed)
        assert sorted(chain.from_iterable(batches)) == sorted(passed), "what is no history is read, and once"
        for numbers in batches:
            logins = [login for number in numbers if (login := self._hear(lines[number], wall))]
            read = [line for number in numbers for line in (*passed.get(number, ()), lines[number])]
            self._read.update(read)
            self.waiting.append(Heard(read, logins, dict(self._connects)))

    def _hear(self, line: Line, wall: float) -> Login | None:
        """Take a line in that is read now, and return what is to be remembered."""
        live = line.file.watched
        limit = wall if live else min(wall, line.file.changed)
        at = when(line, limit)
        if not live and (at is None or at > limit + SKEW):
            return None
        at = limit if at is None else min(at, limit)
        match line.said:
            case "connect", pid, address:
                self._connects[pid] = address, at
            case "refused", pid:
                self._connects.pop(pid, None)
            case "in", pid, user:
                address, since = self._connects.pop(pid, ("", math.inf))
                if address and at - since <= CONNECT:
                    return self._login((address, user, "imap", at), wall)
            case "login", service, user, address:
                return self._login((address, user, service, at), wall)
        return None

    def _login(self, login: Login, wall: float) -> Login | None:
        address, _, service, at = login
        return login if self._grant(address, service, max(0.0, wall - at)) else None

    def _grant(self, address: str, service: str, age: float) -> bool:
        """Grant what a login of that age is worth; return whether that is anything."""
        worth = [name for name, grace in GRACES.items() if age < grace and wanted(name, service)]
        for name in worth:
            deadline = self._now + GRACES[name] - age
            self.leases[name][address] = max(deadline, self.leases[name].get(address, 0.0))
        return bool(worth)

    def store(self, count: int) -> None:
        """Let so many of the waiting batches reach the disk, in one transaction."""
        batches, self.waiting = self.waiting[:count], self.waiting[count:]
        last: dict[tuple[str, str, str], float] = {}
        for each in batches:
            self._disk = Heard(self._disk.lines + each.lines, [], each.connects)
            for address, user, service, at in each.logins:
                last[address, user, service] = max(at, last.get((address, user, service), at))
        for series, at in last.items():
            self._stored[series].append(at)

    def tidy(self, wall: float) -> None:
        """Join each series, and forget those that no lease can rest on."""
        last = {series: max(times) for series, times in self._stored.items()}
        self._stored = defaultdict(list, {series: [at] for series, at in last.items() if at >= wall - LONGEST})

    def turn(self, now: float) -> None:
        """Let the lease clock go on, and end what is due."""
        self._now = max(now, self._now)
        for leases in self.leases.values():
            for address in [address for address, deadline in leases.items() if deadline <= self._now]:
                del leases[address]


def when(line: Line, near: float) -> float | None:
    """Return a line's stamp in unix seconds, in the year nearest to ``near`` if it has none."""
    if line.at is None or line.year:
        return line.at
    stamp, this = time.gmtime(line.at), time.gmtime(near).tm_year
    years = [each for each in (this - 1, this, this + 1) if stamp[1:3] != (2, 29) or calendar.isleap(each)]
    times = [float(calendar.timegm((year, *stamp[1:6]))) for year in years]
    return min(times, key=lambda at: abs(at - near), default=None)


def fresh(lines: list[Line], near: float, first: float, last: float) -> list[Line]:
    """Return the lines behind the last one that is history: before ``first``, or by its date of last year."""
    for index in range(len(lines), 0, -1):
        at = when(lines[index - 1], near)
        if at is not None and not first <= at <= last:
            return lines[index:]
    return lines


ADDRESSES = st.sampled_from(["203.0.113.1", "203.0.113.2", "2001:db8::3", "2001:db8::4"])
USERS = st.sampled_from(["ann", "bob"])
PIDS = st.sampled_from("78")


def often(**kinds: tuple[int, *tuple[st.SearchStrategy[Any], ...]]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return tuples of a kind's name and its words, each kind as often as its number says."""
    return st.one_of(
        *(st.tuples(st.just(name), *words) for name, (times, *words) in kinds.items() for _ in range(times))
    )


SAID = often(
    login=(6, st.sampled_from(["imap", "imap", "imap", "pop3", "sieve"]), USERS, ADDRESSES),
    connect=(2, PIDS, ADDRESSES),
    **{"in": (2, PIDS, USERS)},
    logout=(1, USERS, ADDRESSES),
    failed=(1, USERS, ADDRESSES),
    refused=(1, PIDS),
    **{"else": (1,)},
)
PAUSES = st.sampled_from([0, 1, 59.75, 300, 599.5, 600, 1800, 3599])
WAYS = st.sampled_from(["rename", "rename, create late", "copytruncate"])
LOOK = st.sampled_from([True, True, False])
YEARS = st.booleans()
AGO = st.sampled_from([0, 0, 0, 0.25, 1, 59, 600])
NONSENSE = st.sampled_from([2, 300, 301, 7200, 2 * DAY, YEAR, -1800, -2 * DAY, -YEAR, "1970", "Feb 29", "none", "none"])
JUMPS = st.sampled_from([60, 1800, 3600, YEAR, -0.25, -60, -1800, -3600, -YEAR])
CALM = {
    "write": (8, SAID, AGO, YEARS, LOOK),
    "pass_time": (2, PAUSES),
    "rotate": (2, WAYS),
    "look": (1,),
    "store": (2, st.sampled_from([0.5, 1]), st.booleans()),
    "restart": (3, st.sampled_from([0, 0.5, 1]), st.lists(SAID, max_size=2), PAUSES, st.none() | WAYS),
}
WILD = CALM | {"write_nonsense": (8, SAID, NONSENSE, YEARS, LOOK), "step": (3, JUMPS)}


class Schedule:
    """The real thing and the model side by side, and what happens to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log(folder / "mail.log", START)
        self.model = Model()

    async def run(self, steps: list[tuple[Any, ...]]) -> None:
        """Do the steps, and compare after each."""
        await self.start()
        try:
            for name, *arguments in steps:
                await getattr(self, name)(*arguments)
                self.compare()
        finally:
            await self.process.stop()

    def compare(self) -> None:
        """See that the leases are the model's."""
        self._turn()
        assert self.process.leases() == self.model.leases

    def _turn(self) -> None:
        clock = self.log.clock
        self.model.turn(max(clock.wall() - self.begun[0], clock.boot() - self.begun[1]))

    async def write(self, said: tuple[str, ...], ago: float, year: bool, look: bool) -> None:
        """Write a line, stamped a little late if there is an ``ago``; look at it at once or not."""
        await self._write(self.log.clock.wall() - ago, said, year=year, look=look)

    async def write_nonsense(self, said: tuple[str, ...], stamp: float | str, year: bool, look: bool) -> None:
        """Stamp a line with a time so many seconds ahead, or with what the text says."""
        at: float | None = {"1970": 0.0, "Feb 29": 1_835_438_400.0}.get(str(stamp))
        if not isinstance(stamp, str):
            at = self.log.clock.wall() + stamp
        await self._write(at, said, year=year, look=look)

    async def _write(self, at: float | None, said: tuple[str, ...], *, year: bool, look: bool) -> None:
        self.log.write(at if year or at is None else math.floor(at), said, year=year)
        if look:
            await self.look()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; nobody notices whether the machine was suspended."""
        self.log.clock.advance(seconds)

    async def step(self, seconds: float) -> None:
        """Set the wall clock."""
        self.log.clock.step(seconds)

    async def rotate(self, way: str) -> None:
        """Rotate the log."""
        if way == "copytruncate":
            self.log.copytruncate()
            self.log.clock.advance(TICK / 2)  # no more often it is asked what lies beside a log that was empty
        else:
            self.log.rename(create=way == "rename")

    async def look(self) -> None:
        """Have the log looked at."""
        await self.process.look()
        self._seen()

    def _seen(self) -> None:
        self._turn()
        read = [[int(line.rpartition(b"#")[2]) for line in data.splitlines()] for data in self.process.take()]
        wall, last = self.log.clock.wall(), self.log.files[-1:] if self.log.there else []
        got = {number for numbers in read for number in numbers}
        files = []
        for file in self.log.files:
            # A rotated file that changed longer ago than any lease lasts is not opened, and not looked at soon again.
            file.old |= not file.watched and file not in last and file.changed < wall - HORIZON
            if not file.old or any(line.number in got for line in file.lines):
                files.append(file)
        files = [*sorted((file for file in files if file not in last), key=lambda file: file.changed), *last]
        self.model.look(files, read, wall)
        self.model.positioned |= self.log.there
        for file in files:
            file.watched, file.begun = True, bool(file.lines)

    async def store(self, share: float, tidy: bool) -> None:
        """Store what waits, or the older half of it."""
        count = math.ceil(len(self.process.waiting) * share)
        self.process.store(count)
        self.model.store(count)
        if tidy:
            self.process.tidy()
            self.model.tidy(self.log.clock.wall())

    async def restart(self, share: float, meanwhile: list[tuple[str, ...]], pause: float, way: str | None) -> None:
        """End, cleanly with everything stored or killed with less, and start later; the log goes on meanwhile."""
        await self.store(share, tidy=False)
        await self.process.stop()
        for said in meanwhile:
            await self.write(said, 0, year=True, look=False)
        if way:
            await self.rotate(way)
        self.log.clock.advance(pause)
        await self.start()

    async def start(self) -> None:
        """Start on what is stored, and read what is there."""
        self.process = Process(self.log, self.folder / "state")
        self.begun = self.log.clock.wall(), self.log.clock.boot()
        for file in self.log.files:
            file.watched = file.begun = file.old = False
        self.model.start(self.log.clock.wall())
        await self.process.start()
        self._seen()


class Calm(Schedule):
    """The clock only runs, and lines tell when they were written: then no rule matters but ``last login + grace``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.logins: list[tuple[str, str, float]] = []
        self.heard = 0
        self.connects: dict[str, tuple[str, float]] = {}

    async def run(self, steps: list[tuple[Any, ...]]) -> None:
        """Do the steps, with a position to go on from; without one, history begins earlier."""
        await self._write(START, ("else",), year=True, look=False)
        await self.start()
        await self.store(1, tidy=False)
        await self.process.stop()
        await super().run(steps)

    async def _write(self, at: float | None, said: tuple[str, ...], *, year: bool, look: bool) -> None:
        assert at is not None
        at = at if year else math.floor(at)
        match said:
            case "login", service, _, address:
                self.logins.append((address, service, at))
            case "connect", pid, address:
                self.connects[pid] = address, at
            case "in" | "refused", pid, *_:
                address, since = self.connects.pop(pid, ("", -math.inf))
                if said[0] == "in" and at - since <= CONNECT:
                    self.logins.append((address, "imap", at))
        await super()._write(at, said, year=year, look=look)

    def _seen(self) -> None:
        super()._seen()
        self.heard = len(self.logins)

    def compare(self) -> None:
        """See that they are the dictionary's, too."""
        super().compare()
        wall, begun = self.log.clock.wall(), self.begun[0]
        expected: Leases = {name: {} for name in GRACES}
        for name, grace in GRACES.items():
            for address, service, at in self.logins[: self.heard]:
                if wanted(name, service) and at + grace > wall:
                    expected[name][address] = max(at + grace - begun, expected[name].get(address, 0.0))
        assert self.process.leases() == expected


@pytest.mark.parametrize(("kind", "steps"), [(Calm, CALM), (Schedule, WILD)], ids=["calm", "wild"])
def test_the_leases_are_the_models(kind: type[Schedule], steps: dict[str, Any]) -> None:
    """Calm: clock and stamps are as they should be. Wild: stamps may be anything, and the clock be set at any time."""

    @settings(max_examples=EXAMPLES, deadline=None, report_multiple_bugs=False)
    @given(st.lists(often(**steps), min_size=20, max_size=40))
    def schedules(schedule: list[tuple[Any, ...]]) -> None:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            asyncio.run(kind(Path(folder)).run(schedule))

    schedules()
