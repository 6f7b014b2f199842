"""What of the state can be asked: by its daemon, and read-only by ``list``, ``why`` and ``check``."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from . import _statedb as db
from ._record import Position
from ._statefiles import DATABASE, SIDECARS, explained, quiet, read_maps
from .api import LOGIN, Kind
from .errors import StateError

Connect = tuple[str, bytes, bytes, str, float, str]
"""What a line left open: source, host, program, pid or name of the session, unix seconds, and the address that waits
for its login; none after a line that the server broke."""

_SELECT = """
    SELECT address, user, service, tls, source, parser, position, first, last FROM login
    WHERE last >= ?1 AND (?2 IS NULL OR address = ?2) ORDER BY last
"""
_REMEMBERED = "SELECT address, user, service, tls, last FROM login WHERE last BETWEEN ? AND ? ORDER BY id"
_TLS = {None: None, 0: False, 1: True}
_SLICE = 1_000
"""So many remembered logins are in memory at a time."""
_TRIES = 50
_PAUSE = 0.1


class Remembered(NamedTuple):
    """What leases rest on of a remembered series of logins, to be judged as a new login is."""

    address: str
    user: str | None
    service: str | None
    tls: bool | None
    at: float
    """Unix seconds."""
    kind: Kind = LOGIN


class Login(NamedTuple):
    """One remembered series of logins: of one user at one address, by one service, with or without TLS, in one source.

    Times are unix seconds; parser and position are those of the last. A tuple, since a start makes a million of them.
    """

    address: str
    user: str | None
    service: str | None
    tls: bool | None
    source: str
    parser: str
    position: int
    first: float
    last: float

    def remembered(self) -> Remembered:
        """Return what a lease may rest on."""
        return Remembered(self.address, self.user, self.service, self.tls, self.last)


def fold(logins: Iterable[Login]) -> list[Login]:
    """Join the pieces of each series, in the order of their last logins."""
    series: dict[tuple[object, ...], Login] = {}
    for login in sorted(logins, key=lambda login: login.last):
        key = (login.address, login.user, login.service, login.tls, login.source)
        known = series.pop(key, login)
        series[key] = login._replace(first=min(login.first, known.first))
    return list(series.values())


class StateReader:
    """The state as it can be asked; :func:`read` gives one."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self.directory = directory
        self._path = directory / DATABASE
        self._connection = connection

    def logins(self, since: float, address: str | None = None) -> Iterator[Login]:
        """Yield the logins whose last time is not before ``since``, oldest last time first.

        A series may come in several pieces; :func:`fold` joins them. Read it to the end at once: while it is open, a
        daemon cannot tidy up behind it.

        Args:
            since: unix seconds.
            address: only of this one.

        Raises:
            StateError: the file cannot be read.
        """
        text, word, tls = db.text, db.word, _TLS
        with self._reading():
            for row in self._rows(_SELECT, since, address):
                where, user, service, secure, source, parser, position, first, last = row
                yield Login(
                    where.decode("ascii"),
                    user if user is None else text(user),
                    service if service is None else word(service),
                    tls[secure],
                    word(source),
                    word(parser),
                    position,
                    first,
                    last,
                )

    def remembered(self, since: float, until: float) -> Iterator[list[Remembered]]:
        """Yield what leases rest on of the logins from ``since`` up to ``until`` (unix seconds), as they were stored.

        They come by the thousand, and are made without ``__new__``: there may be a million.

        Raises:
            StateError: the file cannot be read.
        """
        text, word, tls, new = db.text, db.word, _TLS, tuple.__new__
        with self._reading():
            rows = self._rows(_REMEMBERED, since, until)
            while some := rows.fetchmany(_SLICE):
                yield [
                    new(
                        Remembered,
                        (
                            where.decode(),
                            user if user is None else text(user),
                            service if service is None else word(service),
                            tls[secure],
                            last,
                            LOGIN,
                        ),
                    )
                    for where, user, service, secure, last in some
                ]

    def positions(self) -> dict[str, Position]:
        """Return how far each source had been read when the last of these logins was stored."""
        with self._reading():
            return {db.text(name): db.position(position) for name, position in self._rows("SELECT * FROM source")}

    def connects(self) -> list[Connect]:
        """Return what the matcher remembered at these positions, for ``Matcher.restore``."""
        with self._reading():
            return [
                (db.text(source), host, program, db.text(name), at, address.decode())
                for source, host, program, name, at, address in self._rows("SELECT * FROM session ORDER BY rowid")
            ]

    def revocations(self) -> dict[str, float]:
        """Return who was revoked when (unix seconds): a login that is not after it grants nothing."""
        with self._reading():
            return {db.text(subject): at for subject, at in self._rows("SELECT subject, at FROM revocation")}

    def owned(self) -> set[Path]:
        """Return the map files that this daemon has written."""
        with explained(self.directory):
            return set(read_maps(self.directory))

    def cleared(self) -> set[Path]:
        """Return those of them that a clean end has left empty."""
        with explained(self.directory):
            return {path for path, cleared in read_maps(self.directory).items() if cleared}

    def _rows(self, sql: str, *values: object) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(f"{self._path}: cannot be read: {error}") from error


@contextmanager
def read(directory: Path) -> Iterator[StateReader]:
    """Open a state read-only, with read access only, whether its daemon is up, stopped or killed.

    A directory without a state reads as one in which nothing has happened.

    Raises:
        StateError: it may not be read, or it is damaged.
    """
    path = directory / DATABASE
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(closing(_view(path, stack)))
            if not db.is_current(connection, path):
                connection = stack.enter_context(closing(_migrated(path, stack)))
        except PermissionError:
            raise StateError(f"{path}: may not be read; be root or in the group of the file") from None
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; look at state_dir") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise StateError(f"{path}: {error}; if it is damaged, the daemon's next start sets it aside") from error
        yield StateReader(directory, connection)


def _view(path: Path, stack: ExitStack) -> sqlite3.Connection:
    """Open the database as it is, or a private copy where SQLite would have to write before it can read.

    That is so after a kill, and then nobody changes the files; should a daemon start just now, the file is tried again.
    """
    for _ in range(_TRIES):
        if not _exists(path):
            return db.empty()
        try:
            return _direct(path)
        except sqlite3.OperationalError:
            with quiet(path.parent) as free:
                if free:
                    return db.connect(_copy(path, stack), "rw")
        time.sleep(_PAUSE)
    raise StateError(f"{path}: cannot be opened beside its daemon; try again")


def _migrated(path: Path, stack: ExitStack) -> sqlite3.Connection:
    """Open a private copy of an older database, brought up to date."""
    with quiet(path.parent) as free:
        if not free:
            raise StateError(f"{path}: an older pop-before-smtp is still running on it; restart that")
        connection = db.connect(_copy(path, stack), "rw")
    db.migrate(connection, path)
    return connection


def _direct(path: Path) -> sqlite3.Connection:
    connection = db.connect(path, "ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _exists(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _copy(path: Path, stack: ExitStack) -> Path:
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pop-before-smtp-"))) / path.name
    for suffix in ("", *SIDECARS):
        if (original := path.with_name(path.name + suffix)).exists():
            shutil.copyfile(original, copy.with_name(original.name))
    return copy
