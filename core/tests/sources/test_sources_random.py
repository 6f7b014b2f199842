"""Random schedules of a writer, rotation, looks, restarts and kills: every line comes exactly once."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pop_before_smtp._record import Checkpoint

STEPS = {
    "write": 6,
    "begin a line": 2,
    "rename": 2,
    "rename, create late": 1,
    "rename, let go late": 1,
    "copytruncate": 2,
    "compress": 2,
    "look": 6,
    "long look": 1,
    "restart": 1,
    "kill": 2,
}


class Writer:
    """A syslog daemon and its logrotate, on one log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written: list[bytes] = []
        self.halves: set[bytes] = set()
        """Lines that will not be ended: a restart may lose one that is waited for."""
        self._target = path
        self._begun = False
        self._time = time.time() - 1000
        self._number = itertools.count()

    def write(self, *, end: bytes = b"\n") -> None:
        """Write a line, or end one that was begun."""
        with self._target.open("ab") as file:
            if self._begun:
                file.write(b" ended\n")
                self.written[-1] += b" ended"
                self._begun = False
            line = b"%d %s" % (next(self._number), b"x" * 40)
            file.write(line + end)
        self.written.append(line)
        self._begun = not end
        self._touch(self._target)

    def _touch(self, path: Path) -> None:
        """Give each change a time of its own: what takes days is done in a millisecond here."""
        self._time += 1
        os.utime(path, (self._time, self._time))

    def _shift(self) -> Path:
        for number in range(30, 0, -1):
            for suffix in ("", ".gz"):
                old = self.path.with_name(f"mail.log.{number}{suffix}")
                if old.exists():
                    old.rename(self.path.with_name(f"mail.log.{number + 1}{suffix}"))
        return self.path.with_name("mail.log.1")

    def compress(self, number: int) -> None:
        """Compress a rotated file that nobody writes to any more."""
        old = self.path.with_name(f"mail.log.{number + 1}")
        if not old.exists() or old == self._target:
            return
        packed = old.with_name(f"{old.name}.gz")
        packed.write_bytes(gzip.compress(old.read_bytes()))
        shutil.copystat(old, packed)
        old.unlink()

    def rename(self, *, create: bool = True, let_go: bool = True) -> None:
        if not self.path.exists():
            self.create()
            return
        old = self._shift()
        self.path.rename(old)
        self._target = old
        if create:
            self.path.touch()
            self._touch(self.path)
        if not let_go:
            self.write()
        if create:
            self._let_go()

    def create(self) -> None:
        """Go over to the file at the path."""
        if self._target != self.path:
            self._let_go()
            self.path.touch()
            self._touch(self.path)

    def _let_go(self) -> None:
        self._target = self.path
        self._drop()

    def copytruncate(self) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
            return
        old = self._shift()
        shutil.copyfile(self.path, old)
        self._touch(old)
        os.truncate(self.path, 0)
        self._touch(self.path)
        self._drop()

    def _drop(self) -> None:
        if self._begun:
            self.halves.add(self.written[-1])
        self._begun = False


class Run:
    """The source, its restarts, and what of its lines the state has kept."""

    def __init__(self, writer: Writer, follow: Any) -> None:
        self.writer = writer
        self.kept: list[bytes] = []
        self.checkpoint: Checkpoint | None = None
        self._follow = follow

    async def start(self) -> None:
        self.log = self._follow(self.writer.path, checkpoint=self.checkpoint)
        await self.log.__aenter__()

    async def stop(self, committed: int | None = None) -> None:
        """Stop after ``committed`` batches have gone into the state; all of them unless given."""
        await self.log.__aexit__()
        for batch in self.log.batches[:committed]:
            self.kept += batch.data.splitlines()
            self.checkpoint = batch.checkpoint

    async def look(self) -> None:
        self.log.clock.advance(1)
        await self.log.hand.look()

    async def step(self, step: str, number: int) -> None:
        writer = self.writer
        if step == "write":
            writer.create()
            writer.write()
        elif step == "begin a line":
            writer.write(end=b"")
        elif step == "compress":
            writer.compress(number % 3)
        elif step in {"look", "long look"}:
            self.log.clock.advance(40 if step == "long look" else 0)
            await self.look()
        elif step in {"restart", "kill"}:
            await self.stop(number % (len(self.log.batches) + 1) if step == "kill" else None)
            await self.start()
        elif step == "copytruncate":
            writer.copytruncate()
        else:
            writer.rename(create=step != "rename, create late", let_go=step != "rename, let go late")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([step for step, often in STEPS.items() for _ in range(often)]), st.integers(0, 9)),
        max_size=40,
    )
)
def test_no_schedule_loses_or_repeats_a_line(steps: list[tuple[str, int]], follow: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(schedule(Writer(Path(directory) / "mail.log"), steps, follow))


async def schedule(writer: Writer, steps: list[tuple[str, int]], follow: Any) -> None:
    writer.write()
    run = Run(writer, follow)
    await run.start()
    await run.stop()
    await run.start()
    for step, number in steps:
        await run.step(step, number)
    writer.create()
    writer.write()
    await run.look()
    await run.look()
    await run.stop()
    assert not Counter(run.kept) - Counter(writer.written)
    assert writer.halves >= set(Counter(writer.written) - Counter(run.kept))


def write_busily(path: Path, copy: bool) -> list[bytes]:
    """Write without a pause through a descriptor of its own, and rotate thirty times."""
    written = []
    file = path.open("ab", buffering=0)
    for number in range(3000):
        line = b"%d %s\n" % (number, b"x" * (number % 90))
        file.write(line[: number % 7])
        file.write(line[number % 7 :])
        written.append(line[:-1])
        if number % 100 == 99:
            old = path.with_name(f"mail.log.{1000 - number // 100}")
            if copy:
                shutil.copyfile(path, old)
                os.truncate(path, 0)
            else:
                path.rename(old)
                file.write(b"%d late\n" % number)
                written.append(b"%d late" % number)
                file.close()
                file = path.open("ab", buffering=0)
    file.close()
    return written


@pytest.mark.parametrize("copy", [False, True], ids=["rename", "copytruncate"])
async def test_a_busy_writer(copy: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"first\n")
    async with follow(path, inotify=True) as log:
        written = [b"first", *await asyncio.to_thread(write_busily, path, copy)]
        await log.settle(len(written))
        if copy:  # a line may come twice: from a copy that is being made, and from the file
            assert set(log.lines) == set(written)
        else:
            assert sorted(log.lines) == sorted(written)
