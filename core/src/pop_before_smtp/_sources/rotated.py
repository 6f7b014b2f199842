"""What log rotation leaves beside a log, found by name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from attrs import frozen

from .packed import SUFFIXES

_BEGIN = re.compile(r"[.](?=[0-9])|-(?=[0-9]{4})")
_ROTATED = re.compile(r"[.-][0-9][0-9T_:.+-]*(\.[^.]+)?")
"""What rotation puts behind a name, or before its suffix: a number behind a dot, or a date behind either."""


@frozen
class Member:
    """A file that rotation has made of a log."""

    path: Path
    status: os.stat_result

    @property
    def key(self) -> tuple[int, int]:
        """Device and inode."""
        return self.status.st_dev, self.status.st_ino

    @property
    def signature(self) -> tuple[int, int]:
        """What changes with its content."""
        return self.status.st_size, self.status.st_mtime_ns

    @property
    def packed(self) -> bool:
        """It is compressed."""
        return self.path.suffix in SUFFIXES


def members(path: Path, inodes: Collection[int] = ()) -> list[Member]:
    """Return the files that rotation has made of ``path``, the one that changed last at the end.

    Args:
        path: the log.
        inodes: files that are known to have been the log, whatever they are called now.
    """
    log = path.resolve()
    found: dict[tuple[int, int], Member] = {}
    for directory in dict.fromkeys((log.parent, path.parent)):
        for entry in _scan(directory):
            if entry.name in {log.name, path.name} or entry.is_symlink():
                continue
            ours = log.name in logs_of(entry.name) or entry.inode() in inodes
            if ours and (member := _member(Path(entry.path))):
                found[member.key] = member
    # The sort is stable: of two that changed in one tick of the clock, .2 stays before .1.
    by_name = sorted(found.values(), key=lambda member: member.path.name, reverse=True)
    return sorted(by_name, key=lambda member: member.status.st_mtime_ns)


def logs_of(name: str) -> set[str]:
    """Return what the log may be called of which rotation has made a file of this name.

    That is logrotate (``.1``, ``-20261122``, or so before the suffix), newsyslog and savelog (``.0``).
    """
    name = name.removesuffix(Path(name).suffix) if name.endswith(SUFFIXES) else name
    ends = ((found.start(), _ROTATED.fullmatch(name, found.start())) for found in _BEGIN.finditer(name, 1))
    return {name[:start] + (end[1] or "") for start, end in ends if end}


def _member(path: Path) -> Member | None:
    try:
        status = path.lstat()
    except OSError:  # renamed meanwhile
        return None
    return Member(path, status) if stat.S_ISREG(status.st_mode) else None


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []
