"""The thread that stores: the loop hands logins over and never waits for the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from attrs import Factory, define

from ._record import Position
from ._state import Connect, State
from .api import LoginEvent
from .errors import StateError

_log = logging.getLogger("pop_before_smtp.state")

_LOGINS = 500
"""So many logins are stored at once,"""
_SECONDS = 0.2
"""and what is there after so many seconds."""
_RETRY = 0.5
_RETRY_MOST = 30.0
"""Seconds until a failed commit is tried again: the first, doubled up to the last."""
_MOST = 250_000
"""Logins that may wait for a disk that takes none: about 100 MB."""


_Job = tuple[Callable[[], None], Future[None]]


@define
class _Pending:
    """What one transaction is to store."""

    logins: list[LoginEvent] = Factory(list)
    positions: dict[str, Position] = Factory(dict)
    connects: Sequence[Connect] | None = None
    revocations: dict[str, float] = Factory(dict)

    def add(self, later: _Pending) -> None:
        """Join what came later."""
        self.logins += later.logins
        self.positions |= later.positions
        self.connects = self.connects if later.connects is None else later.connects
        self.revocations |= later.revocations


class StateWriter:
    """Owns the state from now on, in a thread of its own.

    It sleeps while there is nothing to store. Whoever closes the writer may then close the state.
    """

    def __init__(self, state: State) -> None:
        self.problem: str | None = None
        """Why nothing can be stored at present; it is kept and tried again."""
        self._state = state
        self._pending = _Pending()
        self._jobs: list[_Job] = []
        self._due: float | None = None
        self._retry = _RETRY
        self._complete = True
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    def submit(
        self,
        logins: Sequence[LoginEvent],
        positions: Mapping[str, Position],
        connects: Sequence[Connect] | None = None,
        revocations: Mapping[str, float] | None = None,
    ) -> None:
        """Hand over what :meth:`State.append` takes; never blocks.

        Should the disk take nothing for so long that too much waits, that is dropped, and no position is stored from
        then on: the next start reads the log again from where all was still complete.
        """
        with self._wake:
            if len(self._pending.logins) >= _MOST:
                self._give_up()
            if not self._complete:
                positions, connects = {}, None
            self._pending.add(_Pending(list(logins), dict(positions), connects, dict(revocations or {})))
            many = len(self._pending.logins) >= _LOGINS and not self.problem
            if self._due is None or many:
                self._due = time.monotonic() + (0.0 if many else _SECONDS)
                self._wake.notify()

    def flush(self) -> Future[None]:
        """Store what waits at once; done when that is done, with a StateError if it failed."""
        return self._soon(self._commit)

    def compact(self, before: float) -> Future[None]:
        """Have :meth:`State.compact` done."""
        return self._soon(partial(self._compact, before))

    def own(self, path: Path, *, cleared: bool = False) -> Future[None]:
        """Have :meth:`State.own` done; wait for it before the map is written."""
        return self._soon(partial(self._state.own, path, cleared=cleared))

    def publish(self, status: Mapping[str, object]) -> Future[None]:
        """Have :meth:`State.publish` done."""
        return self._soon(partial(self._state.publish, status))

    def close(self, timeout: float = 10.0) -> None:
        """Store what waits, in one try, and end the thread.

        Args:
            timeout: seconds to wait for a disk that hangs.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)
        if self._thread.is_alive() or self._pending.logins:
            _log.error("state: the last logins could not be stored; the next start reads them from the log again")

    def _soon(self, job: Callable[[], None]) -> Future[None]:
        future: Future[None] = Future()
        with self._wake:
            if self._closing:
                raise StateError("the state is being closed")
            self._jobs.append((job, future))
            self._wake.notify()
        return future

    def _give_up(self) -> None:
        """Forget what waits, except for what an operator has said."""
        _log.error("state: %d logins dropped; the next start reads them from the log again", len(self._pending.logins))
        self._pending = _Pending(revocations=self._pending.revocations)
        self._complete = False

    # -- in the thread

    def _run(self) -> None:
        closing = False
        while not closing:
            jobs, due, closing = self._wait()
            if due or closing:
                jobs.append((self._commit, Future()))
            for job, future in jobs:
                _do(job, future)

    def _wait(self) -> tuple[list[_Job], bool, bool]:
        """Sleep until there is something to do; return the jobs, whether to commit, and whether to end."""
        with self._wake:
            while not self._jobs and not self._closing:
                pause = None if self._due is None else self._due - time.monotonic()
                if pause is not None and pause <= 0:
                    break
                self._wake.wait(pause)
            jobs, self._jobs = self._jobs, []
            return jobs, self._due is not None and self._due <= time.monotonic(), self._closing

    def _commit(self) -> None:
        with self._wake:
            pending, self._pending, self._due = self._pending, _Pending(), None
        if pending == _Pending():
            return
        try:
            self._state.append(pending.logins, pending.positions, pending.connects, pending.revocations)
        except Exception as error:
            self._failed(error, pending)
            raise
        if self.problem:
            _log.warning("state: stored again")
        self.problem, self._retry = None, _RETRY

    def _failed(self, error: Exception, pending: _Pending) -> None:
        if not self.problem:
            bug = None if isinstance(error, StateError) else error
            _log.error("state: nothing can be stored: %s; trying again", error, exc_info=bug)
        self.problem = str(error)
        with self._wake:
            pending.add(self._pending)
            self._pending = pending
            self._due = time.monotonic() + self._retry
        self._retry = min(2 * self._retry, _RETRY_MOST)

    def _compact(self, before: float) -> None:
        try:
            self._state.compact(before)
        except StateError as error:
            _log.warning("state: not compacted: %s", error)
            raise


def _do(job: Callable[[], None], future: Future[None]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        job()
    except Exception as error:  # noqa: BLE001 - who waits for the future gets it, and the thread lives on
        future.set_exception(error)
    else:
        future.set_result(None)
