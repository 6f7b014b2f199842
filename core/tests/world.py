"""A log that is written and rotated, and the daemon's own pieces that follow it, on a clock that a test turns."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from attrs import define, field
from pop_before_smtp import CONNECT, FAILURE, LOGIN, LOGOUT, LogParser, LogPattern, Map, Writer
from pop_before_smtp._config import OutletSettings, PolicySettings, WriterSettings
from pop_before_smtp._engine import Engine
from pop_before_smtp._host import Host
from pop_before_smtp._match import Matcher
from pop_before_smtp._memory import CONNECT_SECONDS
from pop_before_smtp._networks import Netblocks
from pop_before_smtp._outlet import Outlet
from pop_before_smtp._policy import Policy
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp._replay import replay
from pop_before_smtp._sources import FileSource
from pop_before_smtp._state import State
from pop_before_smtp.api import LoginEvent
from pop_before_smtp.testing import FakeClock
from reading import Hand

GRACES = {"imap only": 600.0, "all": 3600.0}
"""The two outlets and how long their leases last, in seconds; the first one takes no other service."""
LONGEST = max(GRACES.values())
HORIZON = LONGEST + CONNECT_SECONDS
"""How old a line may be to matter, in seconds."""

_ADDRESS = rb"(?P<ip>[0-9A-Fa-f.:]+)"
_END = rb" #[0-9]+"
PARSERS = [
    LogParser(
        name="popd",
        patterns=[
            LogPattern(
                kind=LOGIN,
                program=rb"popd",
                message=rb"login (?P<service>\w+) (?P<user>\w+) from " + _ADDRESS + _END,
                contains=[b"login "],
            ),
            LogPattern(
                kind=LOGOUT,
                program=rb"popd",
                message=rb"logout (?P<user>\w+) from " + _ADDRESS + rb" (?P<session>\w+)" + _END,
                contains=[b"logout "],
            ),
            LogPattern(
                kind=FAILURE,
                program=rb"popd",
                message=rb"failed (?P<user>\w+) from " + _ADDRESS + _END,
                contains=[b"failed "],
            ),
        ],
    ),
    LogParser(
        name="twice",  # an address in one line, the login in the next
        patterns=[
            LogPattern(
                kind=CONNECT,
                program=rb"twice",
                message=rb"session from " + _ADDRESS + _END,
                contains=[b"session from "],
            ),
            LogPattern(
                kind=LOGIN,
                program=rb"twice",
                message=rb"user (?P<user>\w+) is in" + _END,
                contains=[b" is in #"],
                fixed={"service": "imap"},
            ),
            LogPattern(kind=FAILURE, program=rb"twice", message=rb"refused" + _END, contains=[b"refused #"]),
        ],
    ),
]


@define(eq=False)
class Line:
    """One line of the log.

    Args:
        number: no other line has it.
        at: its stamp in unix seconds; None if it has none that can be read.
        year: the stamp says which year it means.
        said: kind and what else the line says, as the model needs it.
    """

    number: int
    at: float | None
    year: bool
    said: tuple[str, ...]
    file: File = field(repr=False)

    def text(self) -> bytes:
        """Return the line with an ISO stamp or, without a year, one of RFC 3164."""
        kind, *words = self.said
        tag, message = (text.format(*words) for text in _WORDS[kind])
        message += f" #{self.number}"
        if self.at is None:
            return f"Feb 30 12:00:00 mail {tag}: {message}\n".encode()
        when = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=self.at)  # noqa: DTZ001 - the stamp itself says UTC
        stamp = when.isoformat() + "Z" if self.year else f"{when:%b} {when.day:2} {when:%H:%M:%S}"
        return f"{stamp} mail {tag}: {message}\n".encode()


_WORDS = {
    "login": ("popd", "login {0} {1} from {2}"),
    "logout": ("popd", "logout {0} from {1} x"),
    "failed": ("popd", "failed {0} from {1}"),
    "connect": ("twice[{0}]", "session from {1}"),
    "in": ("twice[{0}]", "user {1} is in"),
    "refused": ("twice[{0}]", "refused"),
    "else": ("kernel", "something else"),
}
"""Tag and message of what a line can say."""


@define(eq=False)
class File:
    """One file of the log, wherever rotation has put it."""

    lines: list[Line] = field(factory=list)
    changed: float = 0.0
    """Its mtime."""
    watched: bool = False
    """The source has it open, so that what is appended is live."""
    begun: bool = False
    """And has read lines of it."""
    old: bool = False
    """It was too old to be opened when it was seen."""


class Log:
    """A log, its writer and its logrotate; each change of a file has the clock's time."""

    def __init__(self, path: Path, wall: float) -> None:
        self.path = path
        self.clock = FakeClock(wall)
        self.files: list[File] = []
        """Oldest first."""
        self.there = False
        """The last of them is at the path."""
        self._count = 0

    def write(self, at: float | None, said: tuple[str, ...], *, year: bool) -> None:
        """Append a line."""
        self.create()
        self._count += 1
        line = Line(self._count, at, year, said, self.files[-1])
        self.files[-1].lines.append(line)
        with self.path.open("ab") as file:
            file.write(line.text())
        self._touch(self.path, self.files[-1])

    def create(self) -> None:
        """Make the file that is missing."""
        if not self.there:
            self.there = True
            self.files.append(File())
            self.path.touch()
            self._touch(self.path, self.files[-1])

    def rename(self, *, create: bool) -> None:
        """Rotate by moving the file away."""
        if self.there:
            self.path.rename(self._shift())
            self.there = False
        if create:
            self.create()

    def copytruncate(self) -> None:
        """Rotate by copying the file and emptying it."""
        if not self.there or not self.files[-1].lines:
            return
        copy = self._shift()
        shutil.copyfile(self.path, copy)
        os.truncate(self.path, 0)
        old = self.files[-1]
        fresh = File(watched=old.watched and not old.begun)  # truncated is noticed only what had begun
        old.watched = False  # the copy is another file
        self.files.append(fresh)
        self._touch(copy, old)
        self._touch(self.path, fresh)

    def _shift(self) -> Path:
        for number in range(40, 0, -1):
            old = self.path.with_name(f"mail.log.{number}")
            if old.exists():
                old.rename(self.path.with_name(f"mail.log.{number + 1}"))
        return self.path.with_name("mail.log.1")

    def _touch(self, path: Path, file: File) -> None:
        self.clock.advance(0.25)
        file.changed = self.clock.wall()
        nanoseconds = round(file.changed * 4) * 250_000_000
        os.utime(path, ns=(nanoseconds, nanoseconds))


Fed = tuple[Batch, list[LoginEvent], list[Any]]
"""A batch, the logins in it that are to be remembered, and what the matcher remembers behind it."""


class Process:
    """One run of the daemon's pieces, from the state on disk to leases.

    Args:
        log: what it follows.
        directory: its state.
    """

    def __init__(self, log: Log, directory: Path) -> None:
        self.clock = FakeClock(log.clock.wall())
        log.clock = self.clock
        self.engine = engine()
        self.waiting: list[Fed] = []
        """What has been read but not been stored."""
        self._new: list[bytes] = []
        self._state = State.open(directory)
        self._name = str(log.path)
        replay(self.engine, self._state, self.clock, LONGEST)
        self.engine.matcher.restore(self._state.connects())
        self._hand: Any = Hand()
        self._source = FileSource(
            self._name,
            log.path,
            Layout(zone=dt.UTC),
            self.clock,
            checkpoint=self._state.positions().get(self._name),  # type: ignore[arg-type] - it is a file's
            horizon=HORIZON,
            watch=self._hand,
        )

    async def start(self) -> None:
        """Read what is there."""
        self._task = asyncio.create_task(self._read())
        await self._unless_it_fails(self._source.caught_up.wait())
        await self.look()

    async def look(self) -> None:
        """Read what has come."""
        await self._unless_it_fails(self._hand.look())

    async def _unless_it_fails(self, until: Coroutine[Any, Any, object]) -> None:
        waiting = asyncio.create_task(until)
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """End like a process that is killed: what has not been stored is lost."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._state.close()

    async def _read(self) -> None:
        async for batch in self._source.batches():
            logins = self.engine.feed(batch, self.clock.now(), self.clock.wall())
            self._new.append(batch.data)
            self.waiting.append((batch, logins, self.engine.matcher.connects()))

    def take(self) -> list[bytes]:
        """Return the batches that have been read since the last call."""
        new, self._new = self._new, []
        return new

    def store(self, count: int) -> None:
        """Store so many of the waiting batches, in one transaction."""
        batches, self.waiting = self.waiting[:count], self.waiting[count:]
        if batches:
            logins = [login for _, some, _ in batches for login in some]
            last, _, connects = batches[-1]
            assert last.checkpoint
            self._state.append(logins, {self._name: last.checkpoint}, connects)

    def tidy(self) -> None:
        """Have the state forget what no lease can rest on."""
        self._state.compact(self.clock.wall() - LONGEST)

    def leases(self) -> dict[str, dict[str, float]]:
        """End the leases that are due, and return the deadlines of the others, on the lease clock."""
        now = self.clock.now()
        while (due := self.engine.next_due()) is not None and due <= now:
            for outlet in self.engine.outlets:
                outlet.expire(now)
        tables = zip(GRACES, self.engine.outlets, strict=True)
        return {name: {each: one.leases.deadline(each) or 0.0 for each in one.leases} for name, one in tables}


def engine() -> Engine:
    """Return an engine with the outlets of :data:`GRACES`."""
    policy = PolicySettings()
    outlets = []
    for index, grace in enumerate(GRACES.values()):
        writer = Writer(name="test", settings=OutletSettings, open=_no_map)
        table = OutletSettings(use="test", services=() if index else ("imap",))
        configured = WriterSettings(outlet=table, writer=writer, settings=table, index=index)
        outlets.append(Outlet(configured, grace, Netblocks(), policy))
    return Engine(Matcher(PARSERS), Policy(policy, Host()), outlets)


def _no_map(_: object) -> Map:
    raise AssertionError("no map is opened here")
