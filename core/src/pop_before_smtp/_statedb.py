"""The database of the state: its tables, how it is opened and checked, and how log text is kept in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from attrs import asdict

from ._record import Checkpoint, Position
from .errors import StateError

_SCHEMA = (
    """
    CREATE TABLE login (
        id INTEGER PRIMARY KEY,
        address TEXT NOT NULL, user, service, tls INTEGER, source NOT NULL,
        parser NOT NULL, position INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL);
    CREATE TABLE source (
        name PRIMARY KEY,
        device TEXT NOT NULL, inode TEXT NOT NULL,
        offset INTEGER NOT NULL, fingerprint BLOB NOT NULL, fingerprint_size INTEGER NOT NULL);
    CREATE TABLE session (
        source NOT NULL, host BLOB NOT NULL, program BLOB NOT NULL, name NOT NULL,
        at REAL NOT NULL, address TEXT NOT NULL);
    CREATE TABLE revocation (subject PRIMARY KEY, at REAL NOT NULL);
    """,
    """
    CREATE TABLE read (name PRIMARY KEY, position TEXT NOT NULL);
    INSERT INTO read SELECT name, json_object(
        'device', device, 'inode', inode, 'offset', offset,
        'fingerprint', lower(hex(fingerprint)), 'fingerprint_size', fingerprint_size) FROM source;
    DROP TABLE source;
    ALTER TABLE read RENAME TO source;
    """,
)
"""Step n makes schema n out of schema n-1; ``PRAGMA user_version`` says which one a file has.

Columns without a type hold text, or a blob where that is not ASCII, for what comes from a log or a command line may be
no UTF-8. A ``position`` is JSON: an object for a file, a text for the journal. In the object ``device`` and ``inode``
are text since they are unsigned and SQLite's integers are not. A ``session`` without an address is a broken line's.
"""

_GARBAGE = """
    SELECT count(*) FROM login
    WHERE typeof(address) <> 'text' OR address NOT BETWEEN '0' AND 'g' OR tls NOT IN (0, 1)
        OR typeof(position) <> 'integer' OR typeof(first) <> 'real' OR typeof(last) <> 'real'
"""
"""Rows that no daemon has written; SQLite's own check sees only damage to its trees. What lies within these bounds and
is no address is refused by the policy."""

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_ADVICE = {
    sqlite3.SQLITE_FULL: "free some space",
    sqlite3.SQLITE_IOERR: "look at the disk",
    sqlite3.SQLITE_BUSY: "end the program that keeps it open",
}
_BUSY_SECONDS = 5.0
_WAL_BYTES = 4 << 20
_PRIMARY = 0xFF
"""The part of an extended result code of SQLite that tells the kind of error."""


class Damage(sqlite3.DatabaseError):
    """The file is a database, but not one that this program has written."""


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether the file itself is bad, so that trying again is of no use."""
    return isinstance(error, Damage) or getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE


def advice(error: sqlite3.Error) -> str:
    """Return what to do about an error that is no damage."""
    return _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY, "look at its owner, mode and file system")


def connect(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """Open a database that exists, in autocommit mode, for any one thread at a time; text comes as bytes."""
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=16,
    )
    connection.text_factory = bytes
    return connection


def empty() -> sqlite3.Connection:
    """Return a database in memory in which nothing has happened yet."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.text_factory = bytes
    migrate(connection, Path(":memory:"))
    return connection


def open_checked(path: Path) -> sqlite3.Connection:
    """Open the database for its daemon: checked, of today's schema, with a write-ahead log.

    Args:
        path: an empty file or a database. SQLite gives its mode and owner to the files that it puts beside it.

    Raises:
        StateError: a newer program has written it.
        sqlite3.DatabaseError: it cannot be read or written; see :func:`is_damage`.
    """
    connection = connect(path, "rw")
    try:
        _check_trees(connection)
        version = schema(connection, path)
        if not version:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
        migrate(connection, path)
        _check_rows(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, UnicodeDecodeError):  # SQLite quotes a damaged name in its message
            raise Damage("names that are none") from error
        raise
    return connection


def schema(connection: sqlite3.Connection, path: Path) -> int:
    """Return the number of the file's schema, 0 for a new one.

    Raises:
        StateError: it is of the future.
        Damage: it is none.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version < 0:
        raise Damage(f"schema {version}")
    if version > len(_SCHEMA):
        raise StateError(
            f"{path}: written by a newer pop-before-smtp (schema {version}, this one knows {len(_SCHEMA)}); "
            "install that one again, or move the file away"
        )
    return version


def is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """Tell whether the file has today's schema; raises StateError if it has a later one."""
    return schema(connection, path) == len(_SCHEMA)


def write_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on, so that readers stop nobody; while one reads the file, the old journal has to do."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY:
            raise


def _check_trees(connection: sqlite3.Connection) -> None:
    answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != b"ok":
        raise Damage(answer.decode(errors="replace"))


def _check_rows(connection: sqlite3.Connection) -> None:
    try:
        garbage = connection.execute(_GARBAGE).fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # no such table
            raise Damage(str(error)) from error
        raise
    if garbage:
        raise Damage(f"{garbage} rows are no logins")


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, each step whole or not at all."""
    version = schema(connection, path)
    for number, step in enumerate(_SCHEMA[version:], version + 1):
        connection.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT")


def raw(text: str | None) -> str | bytes | None:
    """Return what is stored for text from a log or a command line."""
    return text if text is None or text.isascii() else text.encode(errors="surrogateescape")


def position_text(position: Position) -> str:
    """Return what is stored for a position."""
    if isinstance(position, str):
        return json.dumps(position)
    return json.dumps(_plain(position))


def _plain(position: Checkpoint) -> dict[str, Any]:
    fields = asdict(position, recurse=False)
    fields |= {name: str(fields[name]) for name in ("device", "inode")} | {"fingerprint": position.fingerprint.hex()}
    return fields | {"others": [_plain(each) for each in position.others]}


def position(stored: bytes) -> Position:
    """Return the position of which :func:`position_text` made this. Raises ValueError, TypeError or KeyError."""
    fields = json.loads(stored)
    return fields if isinstance(fields, str) else _checkpoint(**fields)


def _checkpoint(
    *, device: str, inode: str, fingerprint: str, others: Sequence[dict[str, Any]] = (), **rest: int
) -> Checkpoint:
    return Checkpoint(
        device=int(device),
        inode=int(inode),
        fingerprint=bytes.fromhex(fingerprint),
        others=tuple(_checkpoint(**each) for each in others),
        **rest,
    )


def text(stored: bytes) -> str:
    """Return the text that :func:`raw` was given."""
    return stored.decode("utf-8", "surrogateescape")


word = lru_cache(4096)(text)
"""The same for text of which there are few different ones."""
