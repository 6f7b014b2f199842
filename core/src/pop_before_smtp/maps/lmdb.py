"""LMDB files as Postfix shares them, through the extra ``lmdb``: changed in place, under Postfix's own lock.

Postfix opens the file without LMDB's locks; instead each lookup holds an fcntl read lock on the whole file, and a
writer has to hold the write lock (lmdb_table(5)). A change is seen at once, even in a session that is open.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import lmdb

from pop_before_smtp.api import Changes

from ._map import FileMap, Item


class LmdbMap(FileMap):
    """A map in one LMDB file; one item for each address.

    The lock is tried for ``patience`` seconds and never waited for, so no reader can freeze us: after that a fresh
    file takes the old one's place, as it does for more than ``limit`` changes, which would hold the lock for long.
    """

    rewrites = False
    failures = (OSError, lmdb.Error)
    patience: ClassVar[float] = 0.9
    limit: ClassVar[int] = 5_000

    _env: lmdb.Environment | None = None
    _fd = -1

    def build(self, new: Path, items: Iterable[Item]) -> None:
        """Put all items in one transaction, in order of their keys, which fills pages best."""
        every = sorted(items)
        with _environment(new, size=max(_SIZE, 512 * len(every))) as env:
            _commit(env, lambda txn: txn.cursor().putmulti(every, append=True))

    def replace(self, keys: AbstractSet[str]) -> None:
        """Build the map anew and keep it open."""
        self.release()
        super().replace(keys)
        self._env = _environment(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def update(self, changes: Changes) -> bool:
        """Change the open file in one transaction; False if that cannot be done soon or does not give ``current``."""
        env = self._env
        if env is None or len(changes.added) + len(changes.removed) > self.limit or not self._in_place():
            return False
        main = env.open_db()

        def change(txn: lmdb.Transaction) -> None:
            for key in changes.removed:
                txn.delete(self.item(key)[0])
            for key in changes.added:
                txn.put(*self.item(key))
            if txn.stat(main)["entries"] != len(changes.current):
                raise _UnexpectedError

        with _locked(self._fd, fcntl.F_WRLCK, self.patience) as held:
            if not held:
                return False
            try:
                _commit(env, change)
            except _UnexpectedError:
                return False
        env.sync()  # the header; the data was synced by the transaction
        return True

    def release(self) -> None:
        """Close the file."""
        if self._env is not None:
            self._env.close()
            self._env = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _in_place(self) -> bool:
        """Tell whether the file that is open is still the one that a reader opens."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._fd))
        except OSError:
            return False


def read(path: Path) -> dict[bytes, bytes]:
    """Return everything in an LMDB file, from a copy made under a read lock.

    Raises:
        lmdb.Error: it is no LMDB file.
        TimeoutError: a writer held its lock for a second.
    """
    with tempfile.TemporaryDirectory() as folder, path.open("rb") as file:
        copy = Path(folder, "copy")
        with _locked(file.fileno(), fcntl.F_RDLCK, 1.0) as held:
            if not held:
                raise TimeoutError(f"{path} is locked by a writer")
            with copy.open("wb") as target:
                shutil.copyfileobj(file, target)
        with _environment(copy, readonly=True) as env, env.begin() as txn:
            return dict(txn.cursor())


class _UnexpectedError(Exception):
    """The file does not hold what it should: somebody else wrote to it. Undoes the transaction."""


_SIZE = 16 * 1024 * 1024  # postmap's


def _environment(path: Path, *, size: int = _SIZE, readonly: bool = False) -> lmdb.Environment:
    """Open a file without LMDB's own locks; a larger size that the file says is kept."""
    return lmdb.Environment(
        str(path), map_size=size, subdir=False, lock=False, metasync=False, max_dbs=0, readonly=readonly
    )


def _commit(env: lmdb.Environment, change: Callable[[lmdb.Transaction], object]) -> None:
    """Run one transaction, with a larger map until it fits: removing needs new pages, too."""
    while True:
        try:
            with env.begin(write=True) as txn:
                change(txn)
        except lmdb.MapFullError:
            env.set_mapsize(2 * env.info()["map_size"])
        else:
            return


@contextmanager
def _locked(fd: int, kind: int, patience: float) -> Iterator[bool]:
    """Try to lock the whole file for ``patience`` seconds; the block learns whether that went well.

    Open-file-description locks (fcntl(2)) conflict with Postfix's, but unlike those they survive when this process
    closes another descriptor of the same file.
    """
    deadline = time.monotonic() + patience
    while not (held := _try_lock(fd, kind)) and time.monotonic() < deadline:
        time.sleep(0.002)
    try:
        yield held
    finally:
        if held:
            _try_lock(fd, fcntl.F_UNLCK)


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("@hhqqi0q", kind, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN, EACCES: somebody holds it
        return False
    return True
