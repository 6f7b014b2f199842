"""What log rotation leaves beside a log: found by name, or by the position that we remember."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pop_before_smtp._record import Checkpoint

from .opened import Opened


def predecessors(path: Path) -> list[Opened]:
    """Open the uncompressed files that rotation has made of ``path``, the one that changed last at the end.

    Their names are those of logrotate (``.1``, ``-20261122``, or the like before the suffix), newsyslog and savelog
    (``.0``).
    """
    log = path.resolve()
    number = r"[.-][0-9][0-9T_:.+-]*"
    rotated = re.compile(f"{re.escape(log.name)}{number}|{re.escape(log.stem)}{number}{re.escape(log.suffix)}")
    entries = [entry for entry in _scan(log.parent) if rotated.fullmatch(entry.name) and not entry.is_symlink()]
    names = sorted((entry.name for entry in entries), reverse=True)
    files = [file for name in names if (file := _open(log.parent / name))]
    # The sort is stable: of two that changed in one tick of the clock, .2 stays before .1.
    return sorted(files, key=lambda file: file.limit)


def find(path: Path, checkpoint: Checkpoint) -> Opened | None:
    """Open the file that a checkpoint is about, wherever rotation has put it; None where it is gone.

    It is the same inode in the directory of ``path`` or, since copytruncate moves the bytes to another one, a rotated
    file that begins with the same bytes. A device's number may change at a reboot, so it is not compared.
    """
    files = [*_same_inode(path, checkpoint.inode), *predecessors(path)]
    found = next((file for file in files if file.matches(checkpoint)), None)
    for file in files:
        if file is not found:
            file.close()
    return found


def _same_inode(path: Path, inode: int) -> Iterator[Opened]:
    for directory in dict.fromkeys((path.parent, path.resolve().parent)):
        for entry in _scan(directory):
            if entry.inode() == inode and (file := _open(directory / entry.name)):
                yield file


def _open(path: Path) -> Opened | None:
    try:
        return Opened(path)
    except OSError:
        return None


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []
