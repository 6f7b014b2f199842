"""Every log that a pattern names: one source each under its own path, as they come and go."""

from __future__ import annotations

import asyncio
import glob
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from pop_before_smtp._record import Batch, Position

from .file import FileSource
from .rotated import logs_of
from .watch import ANY, Watch, places

_log = logging.getLogger("pop_before_smtp.source")


class SeveralSource:
    """The lines of all files that match a pattern, whose rotated ones belong to the log that they come from.

    Args:
        name: how messages call it; batches carry the path of their file instead.
        pattern: with ``*``, ``?`` or ``[...]`` in any of its parts.
        open_file: returns the source of one file, which ends when the file is gone, given how far it was read.
        positions: how far files were read before, by path; others may be among them.
        watch: tells when to look for files.
    """

    def __init__(
        self,
        name: str,
        pattern: Path,
        *,
        open_file: Callable[[Path, Position | None], FileSource],
        positions: Mapping[str, Position],
        watch: Watch,
    ) -> None:
        self.name = name
        self.caught_up = asyncio.Event()
        """What was there at the start has been read, or there was nothing."""
        self._pattern = pattern.absolute()
        self._open_file = open_file
        self._positions = {Path(path): known for path, known in positions.items() if fits(Path(path), self._pattern)}
        self._bell = watch.bell(pattern, partial(directories, self._pattern))
        self._files: dict[Path, FileSource] = {}
        self._queue: asyncio.Queue[Batch | Exception] = asyncio.Queue(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._said = False

    @property
    def up(self) -> bool:
        """Some file is there and can be read."""
        return any(file.up for file in self._files.values())

    @property
    def problem(self) -> str | None:
        """Why some file cannot be read, or that there is none, for people."""
        if not self._files:
            return f"no file matches {self._pattern}"
        return next((file.problem for file in self._files.values() if file.problem), None)

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what is there and what comes in any of the files, for ever."""
        try:
            self._bell.follow(())
            for path in self._positions:  # one that is just being rotated does not match now
                self._start(path)
            self._run(self._look())
            while True:
                batch = await self._queue.get()
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            self._bell.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._told(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _told(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a defect must not vanish with its task
            await self._queue.put(error)

    def _start(self, path: Path) -> None:
        self._files[path] = self._open_file(path, self._positions.get(path))
        self._run(self._read(path, self._files[path]))

    async def _read(self, path: Path, file: FileSource) -> None:
        async for batch in file.batches():
            if batch.checkpoint:
                self._positions[path] = batch.checkpoint
            await self._queue.put(batch)
        _log.info("%s is gone", path)
        del self._files[path]
        self._bell.ring()

    async def _look(self) -> None:
        """Start to read the files that have come, whenever something has changed."""
        while True:
            for path in matches(self._pattern, {*self._positions, *self._files}):
                if path not in self._files:
                    self._start(path)
                    if self.caught_up.is_set():
                        _log.info("%s has come", path)
            if not self._files and not self._said:
                _log.warning("no file matches %s; waiting for one", self._pattern)
            self._said = not self._files
            if not self.caught_up.is_set():
                for file in list(self._files.values()):
                    await file.caught_up.wait()
                self.caught_up.set()
            await self._bell.wait()


def is_pattern(path: Path) -> bool:
    """Tell whether a path names several files."""
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def fits(path: Path, pattern: Path) -> bool:
    """Tell whether a path is one that a pattern means."""
    return len(path.parts) == len(pattern.parts) and all(map(fnmatchcase, path.parts, pattern.parts))


def matches(pattern: Path, known: Collection[Path] = ()) -> list[Path]:
    """Return the files that match, without those that rotation has made of another one.

    Args:
        pattern: an absolute one.
        known: files that have matched, which may just be missing.
    """
    found = {Path(path) for path in glob.iglob(str(pattern))}  # noqa: PTH207 - Path.glob() takes no absolute pattern
    logs = found | set(known)
    own = (path for path in found if not any(path.with_name(log) in logs for log in logs_of(path.name)))
    return sorted(path for path in own if path.is_file())


def directories(pattern: Path) -> Iterator[tuple[str, str]]:
    """Yield the directories in which what matches is decided, each with a name in it or ``ANY``."""
    parts = pattern.parts
    first = next(count for count, part in enumerate(parts) if glob.has_magic(part))
    yield from places(Path(*parts[:first]))
    for count in range(first, len(parts)):
        for path in glob.iglob(str(Path(*parts[:count]))):  # noqa: PTH207 - as above
            if Path(path).is_dir():
                yield path, ANY
