"""What log rotation leaves beside a log, found by name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from attrs import frozen

from .packed import SUFFIXES


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
            ours = is_rotated(entry.name, log.name) or entry.inode() in inodes
            if ours and (member := _member(Path(entry.path))):
                found[member.key] = member
    # The sort is stable: of two that changed in one tick of the clock, .2 stays before .1.
    by_name = sorted(found.values(), key=lambda member: member.path.name, reverse=True)
    return sorted(by_name, key=lambda member: member.status.st_mtime_ns)


def is_rotated(name: str, log: str) -> bool:
    """Tell by its name whether a file was made by rotation of the log called ``log``."""
    return _names(log).fullmatch(name) is not None


@lru_cache(256)
def _names(log: str) -> re.Pattern[str]:
    """Return the names of logrotate (``.1``, ``-20261122``, or so before the suffix), newsyslog, savelog (``.0``)."""
    stem, suffix = Path(log).stem, Path(log).suffix
    number = r"[.-][0-9][0-9T_:.+-]*"
    packed = "|".join(map(re.escape, SUFFIXES))
    return re.compile(f"(?:{re.escape(log)}{number}|{re.escape(stem)}{number}{re.escape(suffix)})(?:{packed})?")


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
