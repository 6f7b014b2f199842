"""New files in place of old ones: written beside them, synced, renamed, never seen half."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def check_directory(directory: Path) -> str | None:
    """Say in one line what keeps a directory from holding a map; None if nothing does.

    A directory that its group or everybody may write to is refused: who can put a file there can open the relay, and
    sendmail ignores maps in such a place.
    """
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError:
        return f"{directory} does not exist; create it with: install -d -m 755 {directory}"
    except OSError as error:
        return f"{directory} cannot be used: {error.strerror}"
    if not stat.S_ISDIR(mode):
        return f"{directory} is not a directory"
    if mode & 0o022:
        return f"{directory} is writable by others, who could open the relay; correct it with: chmod go-w {directory}"
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return f"{directory} is not writable for user id {os.geteuid()}"
    return None


def beside(path: Path, purpose: str) -> Path:
    """Name the hidden neighbour of a file, always the same: what a killed writer left is found again.

    It ends in ``~``, which Courier and others leave out when they read all files of a directory.
    """
    return path.with_name(f".{path.name}.{purpose}~")


def create(path: Path) -> None:
    """Make an empty file (0600), whatever lay there before."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def sync(path: Path) -> None:
    """Wait until a file's content or a directory's names are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def permit(new: Path, old: Path, mode: int) -> None:
    """Give a new file the owner, group and reading rights of the one it replaces, or ``mode`` where there is none.

    Nobody but the owner may write, whatever the old file allowed. Owner and group stay ours where we may not give
    the file away.
    """
    was = old.lstat() if os.path.lexists(old) else None
    if was and stat.S_ISREG(was.st_mode):
        mode = 0o600 | was.st_mode & 0o044
        with suppress(PermissionError):
            os.chown(new, -1, was.st_gid)
            os.chown(new, was.st_uid, -1)
    new.chmod(mode)


@contextmanager
def replacement(path: Path, mode: int) -> Iterator[Path]:
    """Yield an empty file beside ``path``; when the block ends it takes the place of ``path``, or vanishes on failure.

    Raises:
        OSError: ``path`` is as it was, or (only if the directory could not be synced) already new.
    """
    new = beside(path, "new")
    try:
        create(new)
        yield new
        sync(new)
        permit(new, path, mode)
        new.replace(path)
        sync(path.parent)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise
