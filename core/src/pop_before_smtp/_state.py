"""What outlives the daemon: logins, source positions and revocations, in one SQLite file.

The ``login`` table is appended to and never updated: each batch is folded per series, which is one user at one address
by one service of one source, and :meth:`State.compact` folds what the batches left. Leases are not stored, they follow
from the logins. One transaction holds logins together with the positions behind them, so that after a kill no login
is missing that a position has passed.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Self

from . import _statedb as db
from ._record import Position
from ._statefiles import (
    DATABASE,
    create,
    explained,
    prepare,
    quiet,
    read_maps,
    set_aside,
    take_lock,
    write_maps,
    write_status,
)
from ._statereader import Connect, Login, StateReader, fold, read
from .api import LOGIN, LoginEvent
from .errors import StateError

__all__ = ["Connect", "Login", "State", "StateReader", "fold", "read"]

_log = logging.getLogger("pop_before_smtp.state")

_LOGIN = "INSERT INTO login VALUES", "(NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SESSION = "INSERT INTO session VALUES", "(?, ?, ?, ?, ?, ?)"
_ROWS = 500
"""So many rows are one statement: each gives up the interpreter's lock, and a busy loop keeps it for 5 ms then."""
_POSITION = "INSERT OR REPLACE INTO source VALUES (?, ?)"
_REVOKE = "INSERT INTO revocation VALUES (?1, ?2) ON CONFLICT (subject) DO UPDATE SET at = max(at, ?2)"
_FOLD = """
    CREATE TEMP TABLE folded AS
    SELECT address, user, service, tls, source, parser, position, begun, max(last) AS last
    FROM (SELECT *, min(first) OVER (PARTITION BY address, user, service, tls, source) AS begun FROM login)
    GROUP BY address, user, service, tls, source HAVING max(last) >= ? ORDER BY last
"""
"""The other columns are those of the row with the greatest ``last``: SQLite promises that for a single ``max()``."""


class State(StateReader):
    """The state of the one daemon that uses it. After :meth:`open` it belongs to one thread at a time."""

    def __init__(self, directory: Path, lock: int) -> None:
        super().__init__(directory, _open_or_begin(directory / DATABASE))
        self._lock = lock
        try:
            for question in (self.positions, self.connects, self.revocations):
                question()
        except StateError as error:
            self._begin_anew(error)
        self._storing = True

    @classmethod
    def open(cls, directory: Path, *, patience: float = 5.0) -> Self:
        """Open the state of ``directory``, made if it is missing; a damaged one is set aside and begun anew.

        Args:
            directory: ``state_dir``.
            patience: seconds to wait while a ``purge`` or ``list`` holds the lock.

        Raises:
            StateError: another daemon uses it, a newer program has written it, or it cannot be written.
        """
        with explained(directory), _named(directory / DATABASE), ExitStack() as stack:
            prepare(directory)
            lock = take_lock(directory, patience)
            stack.callback(os.close, lock)
            state = cls(directory, lock)
            stack.pop_all()
            return state

    @staticmethod
    def locked(directory: Path) -> bool:
        """Tell whether a daemon, or a ``purge``, uses this state now."""
        with explained(directory), quiet(directory) as free:
            return not free

    def append(
        self,
        logins: Sequence[LoginEvent],
        positions: Mapping[str, Position],
        connects: Sequence[Connect] | None = None,
        revocations: Mapping[str, float] | None = None,
    ) -> None:
        """Store a batch, whole or not at all.

        Args:
            logins: folded here; events of another kind are left out.
            positions: where the sources stand behind these logins.
            connects: all that the matcher remembers there; None leaves what is stored.
            revocations: subject to unix seconds.

        Raises:
            StateError: nothing of it has been stored; it may be tried again.
        """
        rows = _folded(logins)

        def work() -> None:
            self._insert(*_LOGIN, rows)
            if revocations:
                self._many(_REVOKE, [(db.raw(subject), at) for subject, at in revocations.items()])
            if self._storing and positions:
                self._many(_POSITION, [(db.raw(name), db.position_text(each)) for name, each in positions.items()])
            if self._storing and connects is not None:
                self._rows("DELETE FROM session")
                self._insert(
                    *_SESSION,
                    [
                        (db.raw(source), host, program, db.raw(name), *rest)
                        for source, host, program, name, *rest in connects
                    ],
                )

        self._transact(work)

    def compact(self, before: float) -> None:
        """Forget series and revocations that ended before ``before`` (unix seconds), and shrink the file.

        Of a series that goes on, the first login stays known.

        Raises:
            StateError: nothing is lost; it may be tried again.
        """

        def work() -> None:
            self._rows(_FOLD, before)
            self._rows("DELETE FROM login")
            self._rows("INSERT INTO login SELECT NULL, * FROM folded")
            self._rows("DROP TABLE folded")
            self._rows("DELETE FROM revocation WHERE at < ?", before)

        self._transact(work)
        with _named(self._path):
            db.write_ahead(self._connection)
            if 2 * self._number("freelist_count") > self._number("page_count"):
                self._connection.executescript("PRAGMA incremental_vacuum")  # execute() would give back one page only

    def own(self, path: Path, *, cleared: bool = False) -> None:
        """Remember that this map file is ours. It is on the disk when this returns, for the map is written next.

        Args:
            path: the map's.
            cleared: it has been left empty by a clean end.
        """
        with explained(self.directory):
            write_maps(self.directory, read_maps(self.directory) | {path: cleared})

    def publish(self, status: Mapping[str, object]) -> None:
        """Put how the daemon is where ``status`` finds it: JSON data."""
        with explained(self.directory):
            write_status(self.directory, status)

    def close(self) -> None:
        """End cleanly: all in one file, which read access is enough for."""
        try:
            self._rows("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            _log.warning("%s: left as after a kill, which the next start mends: %s", self._path, error)
        self._connection.close()
        os.close(self._lock)

    def _transact(self, work: Callable[[], None]) -> None:
        with explained(self.directory), _named(self._path):
            try:
                self._transaction(work)
            except sqlite3.DatabaseError as error:
                if not db.is_damage(error):
                    raise
                self._begin_anew(error)
                self._transaction(work)

    def _transaction(self, work: Callable[[], None]) -> None:
        self._rows("BEGIN IMMEDIATE")
        try:
            work()
            self._rows("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._rows("ROLLBACK")
            raise

    def _begin_anew(self, error: Exception) -> None:
        """Go on with an empty database, and store no position: the next start shall find in the log what is lost."""
        self._connection.close()
        self._connection = _begin(self._path, error)
        self._storing = False

    def _insert(self, head: str, row: str, rows: Sequence[Sequence[object]]) -> None:
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            self._rows(_statement(head, row, len(some)), *chain.from_iterable(some))

    def _many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        self._connection.executemany(sql, rows)

    def _number(self, pragma: str) -> int:
        return int(self._rows(f"PRAGMA {pragma}").fetchone()[0])


@lru_cache(4)
def _statement(head: str, row: str, count: int) -> str:
    return f"{head} {', '.join([row] * count)}"


def _folded(logins: Iterable[LoginEvent]) -> list[tuple[object, ...]]:
    """Make rows of logins, one for each series among them."""
    raw = db.raw
    series: dict[tuple[object, ...], tuple[Any, ...]] = {}
    for event in logins:
        if event.kind is not LOGIN or event.address is None:
            continue
        key = (event.address, raw(event.user), raw(event.service), event.tls, raw(event.source))
        known = series.get(key)
        if known is None:
            series[key] = (*key, raw(event.parser), event.position, event.at, event.at)
        elif event.at >= known[-1]:
            series[key] = (*key, raw(event.parser), event.position, known[-2], event.at)
        elif event.at < known[-2]:
            series[key] = (*known[:-2], event.at, known[-1])
    return list(series.values())


def _open_or_begin(path: Path) -> sqlite3.Connection:
    os.close(create(path))
    try:
        return db.open_checked(path)
    except sqlite3.DatabaseError as error:
        if not db.is_damage(error):
            raise
        return _begin(path, error)


def _begin(path: Path, error: Exception) -> sqlite3.Connection:
    """Set a damaged database aside and open an empty one."""
    aside = set_aside(path)
    _log.error("%s: damaged (%s); it is now %s, and what the logs still say is read again", path, error, aside.name)
    os.close(create(path))
    return db.open_checked(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(f"{path}: {error}; {db.advice(error)}") from error
