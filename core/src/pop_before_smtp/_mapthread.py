"""The thread that owns one map: it applies the net change, throttles, retries, and closes the relay when it must."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from itertools import islice

from .api import Changes, Map
from .errors import MapError

_log = logging.getLogger("pop_before_smtp.map")

_RETRY, _RETRY_MOST = 0.5, 5.0
_TEETH = 10.0
"""Seconds that a removal may stay unwritten before the prepared empty map goes in its place."""
_BUILD_SHARE = 10
"""A map that is rewritten as a whole rests this many times as long as its last build took."""
_SLICE = 10_000
"""So many keys go into a set at a time."""
_NAMED = 1000
"""Up to this many changes of one write are logged one by one."""


class Upkeep:
    """What one map is to hold, and when to write it next. No thread and no clock: times are seconds on any steady one.

    Args:
        target: the map.
        label: what log lines call it.
        min_interval: the shortest pause between two rewrites of the whole file, in seconds.
    """

    def __init__(self, target: Map, label: str, min_interval: float) -> None:
        self.problem: str | None = None
        self.keys: set[str] = set()
        self._map = target
        self._label = label
        self._min_interval = min_interval
        self._changes: dict[str, bool] = {}
        self._owing = True  # the map on disk is not what it should be: at first there is none
        self._built = False
        self._not_before = 0.0
        self._retry = _RETRY
        self._removal_since: float | None = None

    def take(self, changes: Mapping[str, bool], now: float) -> None:
        """Add a net change: address to True (added) or False (removed)."""
        if self._changes:
            self._changes.update(changes)
        else:
            self._changes = dict(changes)
        if self._removal_since is None and not (self._built and all(changes.values())):
            self._removal_since = now  # before the first build, what an earlier run left may have to go

    def due(self) -> float | None:
        """Return when :meth:`work` has something to do; None if nothing is to be written."""
        return self._not_before if self._owing or self._changes else None

    def work(self, clock: Callable[[], float]) -> bool:
        """Write what is due. Tell whether the map now is what it should be."""
        changes, self._changes = self._changes, {}
        keys = self.keys
        added = {key for key, wanted in changes.items() if wanted and key not in keys}
        removed = {key for key, wanted in changes.items() if not wanted and key in keys}
        for some in _slices(removed):
            keys.difference_update(some)
        for some in _slices(added):
            keys.update(some)
        if not (added or removed or self._owing):
            self._removal_since = None
            return True
        start = clock()
        try:
            self._map.write(Changes(added=added, removed=removed, current=self.keys))
        except MapError as error:
            self._failed(error, clock())
            return False
        self._succeeded(start, clock(), added, removed)
        return True

    def finish(self, *, clear: bool) -> None:
        """Leave the map as a clean end should: empty, or as it is."""
        if clear:
            self._changes = dict.fromkeys([*self.keys, *self._changes], False)
        if not self.work(time.monotonic) and clear:
            self._bite(0.0, 0.0)
        self._map.close()

    def _succeeded(self, start: float, end: float, added: set[str], removed: set[str]) -> None:
        if self._map.rewrites and self._built:
            self._not_before = end + max(self._min_interval, _BUILD_SHARE * (end - start))
        if self.problem:
            _log.warning("%s: written again", self._label)
        self.problem, self._owing, self._removal_since, self._retry = None, False, None, _RETRY
        if not self._built:
            self._built = True
            _log.info("The database holds %d IPs: %s", len(self.keys), self._label)
            return
        for verb, where, keys in (("added", "to", added), ("removed", "from", removed)):
            if len(keys) > _NAMED:
                _log.info("%s %d addresses %s DB", verb, len(keys), where)
            else:
                for key in sorted(keys):
                    _log.info("%s %s %s DB", verb, key, where)

    def _failed(self, error: MapError, now: float) -> None:
        if not self.problem:
            _log.error("%s: %s; trying again", self._label, error)
        self.problem = str(error)
        self._owing = True
        self._not_before = now + self._retry
        self._retry = min(2 * self._retry, _RETRY_MOST)
        if self._removal_since is not None:
            self._bite(self._removal_since + _TEETH, now)

    def _bite(self, deadline: float, now: float) -> None:
        """Put the prepared empty map in place when a removal has waited too long: an expired lease must not relay."""
        if now < deadline:
            self._not_before = min(self._not_before, deadline)
            return
        try:
            self._map.clear()
        except MapError as error:
            _log.critical("%s: expired addresses may still relay: %s", self._label, error)
            return
        self._removal_since = None
        _log.critical("%s: a removal could not be written in time, so the map is empty now", self._label)


class MapThread:
    """Runs the :class:`Upkeep` of one map. The loop hands over net changes with :meth:`submit` and never waits."""

    def __init__(self, target: Map, label: str, min_interval: float) -> None:
        self.ended = _future()
        """Done when the thread has ended, with the exception that ended it if it was a bug."""
        self.written: float | None = None
        """When the map was last known to hold what it should, in unix seconds."""
        self._upkeep = Upkeep(target, label, min_interval)
        self._inbox: list[dict[str, bool]] = []
        self._waiting: list[Future[None]] = []
        self._wake = threading.Condition()
        self._end: bool | None = None
        self._thread = threading.Thread(target=self._run, name=f"map {label}", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why the map cannot be written at present."""
        return self._upkeep.problem

    def start(self, changes: dict[str, bool]) -> None:
        """Start by building the map from these."""
        self._inbox.append(changes)
        self._thread.start()

    def submit(self, changes: dict[str, bool]) -> None:
        """Hand over a net change; the caller must not touch the dict again."""
        with self._wake:
            self._inbox.append(changes)
            self._wake.notify()

    def settled(self) -> Future[None]:
        """Return what is done when the map holds all that has been handed over."""
        future = _future()
        with self._wake:
            self._waiting.append(future)
            self._wake.notify()
        return future

    def close(self, *, clear: bool, timeout: float = 10.0) -> None:
        """Write what is left, leave the map empty or as it is, and end the thread."""
        with self._wake:
            self._end = clear
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while self._end is None:
                self._wait()
                due = self._upkeep.due()
                if due is not None and due <= time.monotonic() and self._upkeep.work(time.monotonic):
                    self.written = time.time()
                self._tell()
            self._upkeep.finish(clear=self._end)
        except BaseException as bug:  # noqa: BLE001 - the daemon raises it again, in its own thread
            self.ended.set_exception(bug)
        else:
            self.ended.set_result(None)

    def _wait(self) -> None:
        """Sleep until there is something to write, or the end."""
        with self._wake:
            due = self._upkeep.due()
            if not self._inbox and self._end is None and not (due is None and self._waiting):
                self._wake.wait(None if due is None else max(0.0, due - time.monotonic()))
            inbox, self._inbox = self._inbox, []
        for changes in inbox:
            self._upkeep.take(changes, time.monotonic())

    def _tell(self) -> None:
        with self._wake:
            if self._inbox or self._upkeep.due() is not None:
                return
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)


def _slices(keys: set[str]) -> Iterator[Iterable[str]]:
    """Yield the keys in portions: the loop has to wait while one operation on a set goes on."""
    if len(keys) <= _SLICE:
        yield keys
        return
    rest = iter(keys)
    while some := tuple(islice(rest, _SLICE)):
        yield some


def _future() -> Future[None]:
    """Return a future that who waits for it and is cancelled does not cancel."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future
