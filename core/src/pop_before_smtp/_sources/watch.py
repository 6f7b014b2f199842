"""Noticing that a log has changed: one inotify descriptor for all sources, polling where there is none."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # ships no types

_log = logging.getLogger("pop_before_smtp.source")

TICK = 30.0
"""Every file is looked at this often even if nothing was noticed, all of them at once, in seconds."""
_INTERVAL = 0.5
"""How often a polled file is looked at, in seconds."""
_FILE = flags.MODIFY
_DIRECTORY = (
    flags.CREATE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.ATTRIB
    | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
)  # fmt: skip
_REMOTE = re.compile(r"nfs|cifs|smb|fuse|9p$|virtiofs|ceph|afs|lustre|gfs2|ocfs2|vboxsf|vmhgfs|prl_fs")
"""File systems that change without our kernel's knowledge."""
_LIMITS = {
    errno.EMFILE: "the limit fs.inotify.max_user_instances or that of open files is reached",
    errno.ENOSPC: "the limit fs.inotify.max_user_watches is reached",
}
Where = Callable[[], Iterable[tuple[str, str]]]
"""Returns directories, each with a name in it."""
ANY = "*"
"""Stands for every name in a directory."""
_MOST_LINKS = 40
"""As many symbolic links does Linux follow in a path."""


class Watch:
    """What all sources share to notice changes.

    Args:
        inotify: False polls every file.
    """

    def __init__(self, *, inotify: bool = True) -> None:
        self._allowed = inotify
        self._inotify: INotify | None = None
        self._bells: dict[int, set[Bell]] = {}
        self._file_systems: dict[int, str] = {}
        self._warned: set[Path] = set()

    def bell(self, path: Path, where: Where | None = None) -> Bell:
        """Return what rings when the file at ``path`` may have changed.

        Args:
            path: the file.
            where: returns the directories, each with a name in it, that decide which file that is.
        """
        return Bell(self, path, where or partial(places, path))

    def add(self, bell: Bell, path: str, mask: int) -> int:
        """Have ``bell`` rung by what happens to ``path``, and return the number of that watch.

        Raises:
            OSError: the kernel would not tell of all changes.
        """
        kind = self._file_system(Path(path).stat().st_dev)
        if _REMOTE.match(kind):
            raise OSError(errno.EOPNOTSUPP, f"it is on {kind}")
        if self._inotify is None:
            if not self._allowed:
                raise OSError(errno.ENOSYS, "inotify is switched off")
            self._inotify = INotify(nonblocking=True)
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._inotify.fileno(), self._read)
        number: int = self._inotify.add_watch(path, mask)
        self._bells.setdefault(number, set()).add(bell)
        return number

    def drop(self, bell: Bell, numbers: Iterable[int]) -> None:
        """Have ``bell`` rung by these watches no more; the descriptor goes with the last one."""
        for number in numbers:
            bells = self._bells.get(number, set())
            bells.discard(bell)
            if not bells and self._bells.pop(number, None) is not None and self._inotify:
                try:
                    self._inotify.rm_watch(number)
                except OSError:  # its directory was deleted, and the kernel was faster
                    pass
        if not self._bells and self._inotify:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def warn(self, path: Path, reason: str | None) -> None:
        """Say that the file at ``path`` is polled, once for all files in its directory."""
        if path.parent not in self._warned:
            self._warned.add(path.parent)
            _log.warning("%s: no inotify (%s); looking at it every %g s instead", path, reason, _INTERVAL)

    def _read(self) -> None:
        if self._inotify is None:
            return
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                bells = set().union(*self._bells.values())
            elif event.mask & flags.IGNORED:
                bells = self._bells.pop(event.wd, set())
            else:
                bells = self._bells.get(event.wd, set())
            for bell in bells:
                bell.hear(event.wd, event.name)

    def _file_system(self, device: int) -> str:
        """Return the type of a mounted file system, empty where the mount table does not know the device."""
        if device not in self._file_systems:
            try:
                mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
            except OSError:
                mounts = []
            for fields in map(str.split, mounts):
                major, _, minor = fields[2].partition(":")
                self._file_systems[os.makedev(int(major), int(minor))] = fields[fields.index("-") + 1]
        return self._file_systems.setdefault(device, "")


class Bell:
    """Rings when the file at one path, or one of some open files, may have changed."""

    def __init__(self, watch: Watch, path: Path, where: Where) -> None:
        self.polling = False
        """Nobody tells us of changes, so the files are looked at twice a second."""
        self._watch = watch
        self._path = path
        self._where = where
        self._files: list[int] = []
        self._names: dict[int, set[str]] = {}  # by watch; those of interest in a directory, none for a file
        self._moved = False
        self._rung = asyncio.Event()

    def follow(self, files: Iterable[int]) -> None:
        """Listen to these descriptors from now on, and to the directories that decide what the path is."""
        self._files = list(files)
        self._listen()

    def close(self) -> None:
        """Listen to nothing any more."""
        self._watch.drop(self, self._names)

    async def wait(self, seconds: float = TICK) -> None:
        """Return when something may have changed, at the latest after ``seconds``."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        tick = (now // TICK + 1) * TICK
        timer = loop.call_at(min(tick, now + (min(seconds, _INTERVAL) if self.polling else seconds)), self.ring)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()
        self._rung.clear()
        if self._moved:
            self._listen()

    def hear(self, number: int, name: str) -> None:
        """Take an event: the number of its watch, and the name in that directory that it is about."""
        names = self._names.get(number, set())
        if names and name and name not in names and ANY not in names:
            return
        self._moved |= bool(names)
        self._rung.set()

    def ring(self) -> None:
        """Have it looked at everything."""
        self._moved = True
        self._rung.set()

    def _listen(self) -> None:
        self._moved = False
        before, self._names = self._names, {}
        try:
            for directory, name in self._where():
                self._names.setdefault(self._watch.add(self, directory, _DIRECTORY), set()).add(name)
            for file in self._files:
                self._names[self._watch.add(self, f"/proc/self/fd/{file}", _FILE)] = set()
            self.polling = False
        except OSError as error:
            self._poll(error)
        self._watch.drop(self, before.keys() - self._names.keys())

    def _poll(self, error: OSError) -> None:
        vanished = isinstance(error, FileNotFoundError) and not self.polling
        if not vanished:
            self._watch.warn(self._path, _LIMITS.get(error.errno or 0, error.strerror))
        self.polling = True


def places(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the directories, each with a name in it, that decide which file a path is.

    These are where each symbolic link on the way stands, and where the file itself or the first missing part of the
    path is to be.
    """
    here, rest = Path("/"), list(reversed(path.absolute().parts[1:]))
    links = 0
    while rest:
        name = rest.pop()
        step = here / name
        if step.is_symlink() and links < _MOST_LINKS:
            yield str(here), name
            links += 1
            target = step.readlink()
            here = Path("/") if target.is_absolute() else here
            rest.extend(reversed(target.parts[target.is_absolute() :]))
        elif rest and step.is_dir():
            here = step.resolve() if name == ".." else step
        else:
            yield str(here), name
            return
