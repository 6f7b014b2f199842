"""The files of the state directory around its database: modes, the lock, the list of our maps."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StateError

_log = logging.getLogger("pop_before_smtp.state")

MODE = 0o640
"""Of every file of the state, whatever the umask: a member of the group may read."""
DIRECTORY_MODE = 0o750

DATABASE = "state.sqlite"
LOCK = "lock"
MAPS = "maps"
STATUS = "status"
SIDECARS = ("-wal", "-journal")
"""What SQLite keeps beside a database and needs to make it whole; ``-shm`` is only an index of ``-wal``."""

_LOCK_POLL = 0.05
_ADVICE = {
    errno.EACCES: "give it to the user of the daemon",
    errno.EPERM: "give it to the user of the daemon",
    errno.EROFS: "put it on a file system that can be written",
    errno.ENOSPC: "free some space",
    errno.ENOTDIR: "name a directory",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError about ``path`` into a StateError that says what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "look at the file system")
        raise StateError(f"{error.filename or path}: {error.strerror}; {advice}") from error


def prepare(directory: Path) -> None:
    """Make the state directory if it is missing.

    Raises:
        StateError: it cannot be made, or others than its owner could put files into it.
    """
    with explained(directory):
        if not directory.exists():
            directory.mkdir(DIRECTORY_MODE, parents=True)
            directory.chmod(DIRECTORY_MODE)
        if directory.stat().st_mode & 0o022:
            raise StateError(f"{directory}: others than its owner can write there; run chmod go-w on it")


def create(path: Path) -> int:
    """Open a file of the state for reading and writing, made with our mode if it is missing.

    What root makes belongs to the owner of the directory, so that a ``purge`` by hand does not lock the daemon out.

    Returns:
        The descriptor, to be closed by the caller.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        is_now = os.fstat(descriptor)
        if is_now.st_mode & 0o777 != MODE:
            os.fchmod(descriptor, MODE)
        owner = path.parent.stat()
        if os.geteuid() == 0 and (is_now.st_uid, is_now.st_gid) != (owner.st_uid, owner.st_gid):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


# -- the lock


def take_lock(directory: Path, patience: float) -> int:
    """Take the one lock of a state; it is held until the returned descriptor is closed.

    Args:
        directory: the state's.
        patience: seconds to wait for a ``purge`` or ``list`` that holds it for a moment.

    Raises:
        StateError: another process uses this state.
    """
    deadline = time.monotonic() + patience
    descriptor = create(directory / LOCK)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_LOCK_POLL)
                continue
            pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StateError(f"another pop-before-smtp (pid {pid}) uses {directory}; stop it first") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return descriptor


@contextmanager
def quiet(directory: Path) -> Iterator[bool]:
    """Tell whether nobody uses this state, and keep a daemon from starting on it meanwhile; needs read access only."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


# -- which maps are ours


def read_maps(directory: Path) -> dict[Path, bool]:
    """Return the map files that this daemon has written, each with whether its clean end has emptied it.

    They are in a file of their own, since a damaged database must not make our own maps look like foreign ones.
    """
    path = directory / MAPS
    try:
        return {Path(name): bool(cleared) for name, cleared in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        _log.error("%s: damaged; no map counts as ours until adopt = true says so", path)
        return {}


def write_maps(directory: Path, maps: Mapping[Path, bool]) -> None:
    """Replace the list of our maps; it is on the disk when this returns."""
    fresh = directory / f"{MAPS}.new"
    with open(create(fresh), "wb") as file:
        file.truncate()
        file.write(json.dumps({str(path): cleared for path, cleared in maps.items()}, indent=1).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(directory / MAPS)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# -- how the daemon is


def write_status(directory: Path, status: Mapping[str, object]) -> None:
    """Replace what the daemon publishes of itself; a power cut may lose it."""
    fresh = directory / f"{STATUS}.new"
    with open(create(fresh), "wb") as file:
        file.truncate()
        file.write(json.dumps(status).encode() + b"\n")
    fresh.replace(directory / STATUS)


def read_status(directory: Path) -> dict[str, Any] | None:
    """Return what a daemon has published last; None if there is nothing, or nothing that can be read as such."""
    try:
        status = json.loads((directory / STATUS).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return status if isinstance(status, dict) else None


def holder(directory: Path) -> int | None:
    """Return the process id of the daemon that holds the lock; None if there is none."""
    with quiet(directory) as free:
        text = b"" if free else (directory / LOCK).read_bytes().strip()
    return int(text) if text.isdigit() else None if free else 0


# -- a damaged database


def set_aside(database: Path) -> Path:
    """Rename a damaged database to ``state.sqlite.corrupt``, over an earlier one, and return where it is now.

    The sidecars go first: one that is left beside a new database would be played into it.
    """
    aside = database.with_name(database.name + ".corrupt")
    for suffix in SIDECARS:
        Path(f"{aside}{suffix}").unlink(missing_ok=True)
        if (sidecar := Path(f"{database}{suffix}")).exists():
            sidecar.rename(f"{aside}{suffix}")
    Path(f"{database}-shm").unlink(missing_ok=True)
    return database.rename(aside)
