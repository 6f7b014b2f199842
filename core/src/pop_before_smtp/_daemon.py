"""The daemon: the only place where sources, engine, state, maps, time and signals meet."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable

from . import __version__, _host
from . import _assembly as assembly
from ._clock import Clock
from ._config import Config
from ._engine import Engine
from ._mapthread import MapThread
from ._notify import Ear, notify, watchdog_interval
from ._outlet import Outlet
from ._record import Batch, Records
from ._replay import replay
from ._serve import Server, Servers
from ._sources import Source, open_sources
from ._state import Connect, State
from ._statewriter import StateWriter
from ._status import Progress, Status, counted, headline, map_status, problems, source_status
from .api import LoginEvent, Lookup, Map
from .errors import ConfigError

_log = logging.getLogger("pop_before_smtp.daemon")

_LONGEST_SLEEP = 60.0
"""Timers stop in suspend, so with leases to watch the loop looks at the clock at least this often, in seconds."""
_LOOK = 1.0
"""How old the look at this machine's own addresses may be, in seconds."""
_SWITCH = 0.0005
"""How long one thread may keep the others from running Python, in seconds: a map waits for the state that long."""
_PUBLISH = 5.0
"""Seconds between two states of affairs that are published, at least,"""
_LOOK_ROUND = 30.0
"""and between two looks at sources and maps where nothing happens and nothing is said."""
_COMPACT = 600.0
"""Seconds between two clean-ups of the state."""


def _nothing() -> None:
    """Be told, and do nothing."""


class Daemon:
    """One run of the configured pipeline.

    Args:
        config: the effective configuration.
        clock: the time.
        write: keep maps and state; False is a dry run that touches nothing.
        servers: the sockets of lookups that the daemon before left open.
    """

    _engine: Engine

    def __init__(self, config: Config, clock: Clock, *, write: bool = True, servers: Servers | None = None) -> None:
        self._successor: Config | None = None
        self._config = config
        self._clock = clock
        self._write = write
        self._host = _host.look()
        self._looked = clock.now()
        self._maps: list[Map | Lookup] = []  # one for each outlet, as the keepers are
        self._keepers: list[MapThread | Server] = []
        self._servers = Servers() if servers is None else servers
        self._writer: StateWriter | None = None
        self._connects: list[Connect] = []
        self._sources: list[Source] = []
        self._progress: dict[str, Progress] = {}
        self._started, self._ready = clock.wall(), False
        self._published: Status = {}
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()  # something to publish
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()  # no lease is left

    async def run(self, ready: Callable[[], None] = _nothing) -> None:
        """Run until a signal or the end of all sources.

        Args:
            ready: called when every map is right and every log has been read to its end.

        Raises:
            ConfigError: something speaks against starting; nothing has been changed.
        """
        state = self._prepare()
        loop = asyncio.get_running_loop()
        ear = Ear(lambda: loop.call_soon_threadsafe(self._news.set))
        logging.getLogger("pop_before_smtp").addHandler(ear)
        try:
            positions = state.positions() if state else {}
            self._sources = open_sources(self._config, self._clock, positions)
            self._progress = {source.name: Progress(positions.get(source.name)) for source in self._sources}
            if state:
                await self._start_maps(state)
            async with asyncio.TaskGroup() as group:
                start = group.create_task
                duties = (self._expire(), self._tidy(), self._watchdog(), self._watch_threads(), self._tell())
                listening = [start(server.keep()) for server in self._servers.values()]
                reading = [start(self._read(source)) for source in self._sources]
                others = [start(duty) for duty in (*duties, self._announce(ready))]
                ends = [start(self._drained(reading)), start(self._stopping.wait())]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in (*reading, *listening, *others, *ends):
                    task.cancel()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            logging.getLogger("pop_before_smtp").removeHandler(ear)
            self._close(state)

    def stop(self, successor: Config | None = None) -> None:
        """End the run; where another follows at once, the maps that it keeps too stay as they are, and all sockets."""
        self._successor = successor
        self._stopping.set()

    # -- start and end

    def _prepare(self) -> State | None:
        """Put everything together and open the state; all that speaks against it is said at once."""
        problems: list[str] = []
        state = None
        with assembly.collected(problems):
            self._engine = assembly.engine(self._config, self._host)
        if self._write:
            with assembly.collected(problems):
                self._maps = assembly.maps(self._config)
            with assembly.collected(problems):
                state = assembly.state(self._config)
        problems += assembly.source_problems(self._config, state.positions() if state else ())
        if state and self._maps:
            problems += assembly.map_problems(self._config, self._maps, state.owned())
        if problems:
            if state:
                state.close()
            raise ConfigError(*problems)
        assembly.warn_of_sources(self._config)
        return state

    async def _start_maps(self, state: State) -> None:
        """Have every map built from what the state remembers, with what is read from now on added as it comes."""
        replay(self._engine, state, self._clock, self._config.longest_grace)
        self._engine.matcher.restore(state.connects())
        self._writer = StateWriter(state)
        for target in self._maps:
            if isinstance(target, Map):
                await asyncio.wrap_future(self._writer.own(target.path))
        pairs = list(zip(self._engine.outlets, self._maps, strict=True))
        await self._servers.take(
            {target: self._leased(outlet) for outlet, target in pairs if isinstance(target, Lookup)}
        )
        for outlet, target in pairs:
            pause = outlet.writer.outlet.min_interval
            keeper = self._servers[target] if isinstance(target, Lookup) else MapThread(target, outlet.label, pause)
            self._keepers.append(keeper)
            keeper.start(outlet.changes())

    def _leased(self, outlet: Outlet) -> Callable[[str], bool]:
        """Return what tells whether an address has a lease at the moment of the question."""
        deadline, now = outlet.leases.deadline, self._clock.now
        return lambda address: (until := deadline(address)) is not None and until > now()

    def _threads(self) -> list[MapThread]:
        return [keeper for keeper in self._keepers if isinstance(keeper, MapThread)]

    async def _settle(self) -> None:
        """Wait until every map holds what it should; a bug in one of them ends the daemon."""
        for thread in self._threads():
            both = [asyncio.wrap_future(thread.settled()), asyncio.wrap_future(thread.ended)]
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()

    async def _announce(self, ready: Callable[[], None]) -> None:
        for source in self._sources:
            await source.caught_up.wait()
        await self._settle()
        _log.info("startup log-scan complete")
        notify("READY=1")
        self._ready = True
        self._publish()
        ready()

    def _close(self, state: State | None) -> None:
        notify("STOPPING=1")
        if not self._successor:
            self._servers.close()
        kept = {writer.label for writer in self._successor.writers} if self._successor else set()
        for outlet, keeper, target in zip(self._engine.outlets, self._keepers, self._maps, strict=False):
            if isinstance(keeper, MapThread) and isinstance(target, Map):
                clear = outlet.writer.outlet.on_exit == "clear" and outlet.label not in kept
                keeper.submit(outlet.changes())
                keeper.close(clear=clear)
                if clear and self._writer and not keeper.problem:
                    self._writer.own(target.path, cleared=True)
        status = self._status()
        if self._writer:
            self._writer.publish(status | {"ended": True})
            self._writer.close()
        if state:
            state.close()
        _log.info("counts: %s", "; ".join([counted(self.counts()), *problems(status)]))

    # -- the loop

    async def _read(self, source: Source) -> None:
        async for batch in source.batches():
            self._feed(batch)
            self._progress[source.name].note(batch)  # a pattern's batches are named for their files
            self._news.set()

    def _feed(self, batch: Batch | Records) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        if now - self._looked >= _LOOK:
            self._looked = now
            if (host := _host.look()) != self._host:
                self._host = host
                self._engine.policy.refresh(host)
        logins = self._engine.feed(batch, now, wall)
        if self._writer:
            self._remember(self._writer, logins, batch)
        if logins:
            self._hand_over()
            self._wake.set()

    def _remember(self, writer: StateWriter, logins: list[LoginEvent], batch: Batch | Records) -> None:
        """Have the logins stored, and with them how far the log has been read and what its last lines left open."""
        connects = self._engine.matcher.connects()
        changed = None if connects == self._connects else connects
        self._connects = connects
        writer.submit(logins, {batch.source: batch.checkpoint} if batch.checkpoint else {}, changed)

    def _hand_over(self) -> None:
        """Tell every map's thread and every lookup what has changed; in a dry run say what would be told."""
        for outlet in self._engine.outlets if not self._write else ():
            for address, added in outlet.changes().items():
                _log.info("added %s to DB (not written)" if added else "removed %s from DB (not written)", address)
        for outlet, keeper in zip(self._engine.outlets, self._keepers, strict=False):
            if changes := outlet.changes():
                keeper.submit(changes)

    async def _expire(self) -> None:
        """End leases as they fall due, in slices, and sleep in between."""
        while True:
            self._wake.clear()
            due = self._engine.next_due()
            if due is None:
                self._idle.set()
                await self._wake.wait()
                continue
            pause = due - self._clock.now()
            if pause > 0:
                await self._sleep(min(pause, _LONGEST_SLEEP))
                continue
            for outlet in self._engine.outlets:
                for address in outlet.expire(self._clock.now()):
                    _log.debug("expiration event for ip=%s", address)
            self._hand_over()
            await asyncio.sleep(0)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            pass

    async def _drained(self, reading: list[asyncio.Task[None]]) -> None:
        """Return when every source has ended and no lease is left."""
        await asyncio.wait(reading)
        self._idle.clear()
        self._wake.set()
        await self._idle.wait()

    async def _watch_threads(self) -> None:
        """A bug in a map's thread must not leave a map that nobody expires: it ends the daemon."""
        if threads := self._threads():
            await asyncio.gather(*(asyncio.wrap_future(thread.ended) for thread in threads))

    async def _tidy(self) -> None:
        """Have the state forget what no lease can rest on any more."""
        while self._writer:
            self._writer.compact(self._clock.wall() - self._config.longest_grace)
            await asyncio.sleep(_COMPACT)

    async def _watchdog(self) -> None:
        interval = watchdog_interval()
        while interval:
            notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    # -- how things are

    async def _tell(self) -> None:
        """Publish how things are when that has changed; what says nothing by itself is looked at now and then."""
        while True:
            self._publish()
            await asyncio.sleep(_PUBLISH)
            try:
                await asyncio.wait_for(self._news.wait(), _LOOK_ROUND)
            except TimeoutError:
                pass
            self._news.clear()

    def _publish(self) -> None:
        before, status = self._published, self._status()
        if not before or headline(status) != headline(before):
            notify(f"STATUS={headline(status)}")
        if self._writer and status | {"at": 0} != before | {"at": 0}:
            self._writer.publish(status)
        self._published = status

    def _status(self) -> Status:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "at": self._clock.wall(),
            "started": self._started,
            "ready": self._ready,
            "ended": False,
            "sources": [source_status(source, self._progress[source.name]) for source in self._sources],
            "writers": [map_status(*each) for each in zip(self._engine.outlets, self._keepers, strict=False)],
            "problem": self._writer.problem if self._writer else None,
            "counts": dict(self.counts()),
        }

    def counts(self) -> Counter[str]:
        """Return what has happened so far: refusals by reason, logins, expiries."""
        total = self._engine.counts + self._engine.matcher.counts
        for outlet in self._engine.outlets:
            total += outlet.counts
        return total


async def serve(
    config: Config,
    clock: Clock,
    *,
    write: bool,
    ready: Callable[[], None],
    hangup: Callable[[Config], Config | None],
) -> None:
    """Run a daemon, and after a SIGHUP that brings a new configuration another one, until SIGTERM or SIGINT.

    Args:
        config: the effective configuration.
        clock: the time.
        write: keep maps and state.
        ready: called once, when the first daemon is ready.
        hangup: called at SIGHUP with the configuration in force; returns the one to go on with, None for no change.
    """
    running: Daemon | None = None
    following: Config | None = config

    def end(name: str) -> None:
        nonlocal following
        _log.warning("caught %s -- exiting", name)
        following = None
        if running:
            running.stop()

    def hang() -> None:
        nonlocal following
        if running and (wanted := hangup(config)):
            notify("RELOADING=1")
            following = wanted
            running.stop(wanted)

    sys.setswitchinterval(_SWITCH)
    gc.collect()
    gc.freeze()  # what is there by now stays: to look through it again and again would hold the loop for 15 ms each
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end, "SIGTERM")
    loop.add_signal_handler(signal.SIGINT, end, "SIGINT")
    loop.add_signal_handler(signal.SIGHUP, hang)
    with contextlib.closing(Servers()) as servers:
        while following:
            config, following = following, None
            running = Daemon(config, clock, write=write, servers=servers)
            await running.run(ready)
            ready = _nothing
