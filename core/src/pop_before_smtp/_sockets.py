"""Unix sockets at a path: made under another name, so that nobody can reach one before it is as it is to be."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from pathlib import Path

from .maps import check_directory

_PATH = 107
"""The longest path of a socket, in bytes."""


def make(
    path: Path, mode: int, group: str | None, *, kind: socket.SocketKind = socket.SOCK_DGRAM, backlog: int = 0
) -> socket.socket:
    """Return a socket at ``path``, which nobody can reach before mode and group are what they are to be.

    Args:
        path: where.
        mode: the permissions of its file.
        group: of its file; None is our own.
        kind: of datagrams, or a stream that listens.
        backlog: how many connections to a stream may wait to be accepted.

    Raises:
        OSError: it cannot be made; something other than an abandoned socket is there.
    """
    try:
        number = None if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f'there is no group "{group}"') from None
    _check_abandoned(path, kind)
    new = path.with_name(("+" if path.name.startswith("~") else "~") + path.name[1:])  # no longer than the path
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        made.setblocking(False)
        os.fchmod(made.fileno(), 0o600)  # what bind() gives its file
        new.unlink(missing_ok=True)
        made.bind(os.fsencode(new))
        if number is not None:
            os.chown(new, -1, number)
        new.chmod(mode)
        if kind is socket.SOCK_STREAM:
            made.listen(backlog)
        new.rename(path)
    except BaseException:
        made.close()
        new.unlink(missing_ok=True)
        raise
    return made


def path_problem(path: Path) -> str | None:
    """Return what speaks against making a socket there, for people; None if nothing does."""
    if len(os.fsencode(path)) > _PATH:
        return f"{path} is longer than the {_PATH} bytes that a socket's path may have; choose a shorter one"
    if problem := check_directory(path.parent):
        return problem
    if os.path.lexists(path) and not stat.S_ISSOCK(path.lstat().st_mode):
        return f"{path} is no socket and stays as it is; name another path or move it away"
    return None


def group_problem(group: str | None) -> str | None:
    """Return what speaks against a socket's group, for people; None if nothing does."""
    if group is not None:
        try:
            grp.getgrnam(group)
        except KeyError:
            return f'there is no group "{group}"; create it or name another in group'
    return None


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at a path from others, its device and inode; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_abandoned(path: Path, kind: socket.SocketKind) -> None:
    """Raise OSError unless nothing is at ``path``, or a socket that nobody listens at any more."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise OSError(errno.EEXIST, "is no socket and stays as it is")
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fsencode(path))
        except ConnectionRefusedError:
            return
        except OSError as error:
            raise OSError(error.errno, f"is another program's socket ({error.strerror})") from error
    raise OSError(errno.EADDRINUSE, "another program listens there")
