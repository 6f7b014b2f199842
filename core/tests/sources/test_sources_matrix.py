"""Every way in which a log turns into another x inotify, polling x idle, mid-line, busy: each line comes exactly once."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from pop_before_smtp._sources import watch

FIRST = b"the same first line" * 20
MOST = 40
"""The oldest rotated file has a number below that."""


class Site:
    """A log, the syslog daemon that writes it, its logrotate, and the source that follows it."""

    def __init__(self, path: Path, follow: Callable[..., Any]) -> None:
        self.path = path
        self.written: list[bytes] = []
        self.lock = threading.RLock()
        """Held for each line, and by a rotation that could not bear a line in its midst."""
        self._kept: list[bytes] = []
        self._follow = follow
        self._numbers = itertools.count()
        self._half = b""
        self._file = path.open("ab", buffering=0)

    # -- the syslog daemon

    def write(self, text: bytes = b"") -> None:
        """Write a line, or the end of the one that was begun."""
        with self.lock:
            line = text or b"line %d" % next(self._numbers)
            self._file.write(line + b"\n")
            self.written.append(self._half + line)
            self._half = b""

    def begin(self) -> None:
        """Begin a line."""
        self._half = b"half %d" % next(self._numbers)
        self._file.write(self._half)

    def reopen(self) -> None:
        """Go over to what is at the path now; a line that was begun remains as it is."""
        with self.lock:
            self.close()
            self.cut()
            self._file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()

    def cut(self) -> None:
        """Take what was begun for a line, since its end will stand in another file."""
        if self._half:
            self.written.append(self._half)
        self.lose()

    def lose(self) -> None:
        """Forget what was begun."""
        self._half = b""

    async def write_busily(self, stop: asyncio.Event) -> None:
        def some() -> None:
            for _ in range(20):
                self.write()
                time.sleep(0.0002)

        while not stop.is_set():
            await asyncio.to_thread(some)

    # -- logrotate

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def shift(self) -> Path:
        """Make room for ``.1`` and return it."""
        for number in range(MOST, 0, -1):
            for suffix in ("", ".gz"):
                if (old := self.beside(f".{number}{suffix}")).exists():
                    old.rename(self.beside(f".{number + 1}{suffix}"))
        return self.beside(".1")

    def rename(self) -> None:
        self.path.rename(self.shift())

    def copytruncate(self) -> None:
        shutil.copy2(self.path, self.shift())
        os.truncate(self.path, 0)
        self.cut()

    def compress(self, number: int) -> None:
        old, packed = self.beside(f".{number}"), self.beside(f".{number}.gz")
        packed.write_bytes(gzip.compress(old.read_bytes()))
        shutil.copystat(old, packed)
        old.unlink()

    # -- the source

    async def start(self, checkpoint: Any = None, **how: Any) -> None:
        self._how = how
        self.log = self._follow(self.path, checkpoint=checkpoint, **how)
        await self.log.__aenter__()

    async def stop(self) -> Any:
        """Stop it, and return how far it has read."""
        await self.log.__aexit__()
        self._kept += self.log.lines
        return self.log.checkpoint

    async def restart(self, while_down: Callable[[], None], **changes: Any) -> None:
        checkpoint = await self.stop()
        while_down()
        await self.start(evolve(checkpoint, **{key: make() for key, make in changes.items()}), **self._how)

    @property
    def lines(self) -> list[bytes]:
        return self._kept + self.log.lines

    async def read(self, *, pending: bool = False) -> None:
        """Return when all that was written has been read.

        Args:
            pending: half a line is among it, which is taken when its file has been silent for a while.
        """
        async with asyncio.timeout(5):
            while len(self.lines) < len(self.written):
                await asyncio.sleep(0.002)
                if pending:
                    self.log.clock.advance(0.1)
                    self.log.source._bell.ring()


async def rename_and_create(site: Site) -> None:
    site.rename()
    site.reopen()


async def rename_and_create_late(site: Site) -> None:
    site.rename()
    site.write()
    await site.read()  # while there is nothing at the path
    site.write()
    site.reopen()


async def copytruncate(site: Site) -> None:
    with site.lock:
        site.copytruncate()


async def rename_and_compress(site: Site) -> None:
    with site.lock:
        site.rename()
        site.reopen()
        site.compress(1)


async def delete_and_create_with_the_inode_again(site: Site) -> None:
    """The system gives the number to another file as soon as nobody has the old one open."""

    def exchange() -> None:
        site.path.unlink()
        site.reopen()

    with site.lock:
        site.lose()
        await site.read()
        await site.restart(exchange, inode=lambda: site.path.stat().st_ino)


async def symlink_switched(site: Site) -> None:
    target = site.path.resolve().with_name(f"target{len(site.written)}")
    target.touch()
    site.beside(".new").symlink_to(target)
    site.beside(".new").replace(site.path)
    site.reopen()


async def directory_replaced(site: Site) -> None:
    site.path.parent.rename(site.path.parent.with_name(f"moved{len(site.written)}"))
    site.path.parent.mkdir()
    site.reopen()


async def several_between_two_looks(site: Site) -> None:
    with site.lock:
        for _ in range(3):
            site.write()
            site.rename()
            site.reopen()
        site.compress(2)


async def same_first_line(site: Site) -> None:
    with site.lock:
        site.copytruncate()
        site.write(FIRST)


Way = Callable[[Site], Awaitable[None]]
WAYS: list[Way] = [
    rename_and_create,
    rename_and_create_late,
    copytruncate,
    rename_and_compress,
    delete_and_create_with_the_inode_again,
    symlink_switched,
    directory_replaced,
    several_between_two_looks,
    same_first_line,
]


@pytest.fixture
def site(
    tmp_path: Path, follow: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setattr(watch, "_INTERVAL", 0.01)
    path = tmp_path / "logs" / "mail.log"
    path.parent.mkdir()
    if request.getfixturevalue("way") is symlink_switched:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "first").touch()
        path.symlink_to(tmp_path / "data" / "first")
    site = Site(path, follow)
    yield site
    site.close()


async def idle(site: Site, way: Way) -> None:
    for _ in range(2):
        site.write()
        await site.read()
        site.write()  # nobody has looked since
        await way(site)
        site.write()


async def mid_line(site: Site, way: Way) -> None:
    for _ in range(2):
        site.write()
        await site.read()
        site.write()
        site.begin()
        await way(site)
        site.write()
        await site.read(pending=True)


async def busy(site: Site, way: Way) -> None:
    stop = asyncio.Event()
    writing = asyncio.create_task(site.write_busily(stop))
    for _ in range(3):
        await asyncio.sleep(0.02)
        await way(site)
    await asyncio.sleep(0.02)
    stop.set()
    await writing


@pytest.mark.parametrize("polling", [False, True], ids=["inotify", "polling"])
@pytest.mark.parametrize("load", [idle, mid_line, busy])
@pytest.mark.parametrize("way", WAYS)
async def test_every_line_comes_exactly_once(way: Way, load: Callable[..., Any], polling: bool, site: Site) -> None:
    site.write(FIRST)
    site.write()
    await site.start(inotify=not polling, polling=polling)
    await load(site, way)
    await site.read(pending=True)
    site.write()
    await site.read()
    assert site.log.batches[-1].live
    checkpoint = await site.stop()
    assert Counter(site._kept) == Counter(site.written)
    await site.start(checkpoint)
    assert site.log.lines == []
    await site.stop()
