"""Named pipes: writers come and go, nothing ends, and another pipe at the path is noticed."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest
from pop_before_smtp._config import SourceSettings
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp._sources import Watch, pipe, problem
from pop_before_smtp._sources.pipe import PipeSource
from pop_before_smtp.testing import FakeClock

Line = Callable[..., bytes]
Until = Callable[[Callable[[], object]], Awaitable[None]]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Pipe:
    """A PipeSource being read, in an ``async with``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = PipeSource("pipe", path, Layout(), FakeClock(time.time()), horizon=1800, watch=Watch())
        self.batches: asyncio.Queue[Batch] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._collect(self.source.batches()))
        await self.source.caught_up.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _collect(self, batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            self.batches.put_nowait(batch)

    def remove(self) -> None:
        self.path.unlink()

    def write(self, data: bytes) -> None:
        """Do what a syslog daemon does that opens its pipe anew for each record, and never waits."""
        end = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(end, data)
        os.close(end)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe", 0o600)
    return tmp_path / "pipe"


async def test_writers_come_and_go(path: Path) -> None:
    async with Pipe(path) as reading:
        for number in range(3):
            reading.write(b"%d\n" % number)
            batch = await reading.batches.get()
            assert (batch.data, batch.live, batch.position) == (b"%d\n" % number, True, 2 * number)
            assert batch.checkpoint is None
        assert reading.source.up
        before = descriptors()
    assert descriptors() < before


async def test_what_waited_in_the_pipe_was_found(path: Path, line: Line) -> None:
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    new = line(1) + b"\n"
    os.write(end, line(0, time.time() - 86400) + b"\n" + new)
    async with Pipe(path) as reading:
        batch = await reading.batches.get()
        assert (batch.data, batch.live) == (new, False)
    os.close(end)


async def test_a_busy_writer_of_another_process(path: Path) -> None:
    script = f"for n in range(5_000):\n  with open({str(path)!r}, 'w') as f: print('line', n, file=f)"
    async with Pipe(path) as reading:
        writer = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
        data = b""
        while data.count(b"\n") < 5_000:
            data += (await reading.batches.get()).data
        assert await writer.wait() == 0
    assert data == b"".join(b"line %d\n" % number for number in range(5_000))


async def test_a_pipe_that_is_made_anew_is_read(path: Path, until: Until, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with Pipe(path) as reading:
        old = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(old, b"old\n")
        reading.remove()
        assert (await reading.batches.get()).data == b"old\n"
        await until(lambda: reading.source.problem)
        assert reading.source.problem == f"{path} does not exist"
        os.mkfifo(path)
        await until(lambda: reading.source.up)
        reading.write(b"new\n")
        assert (await reading.batches.get()).data == b"new\n"
        os.close(old)
    assert caplog.messages == [f"{path} does not exist; trying again", f"{path} can be read again"]


async def test_a_file_in_the_place_of_the_pipe_is_a_problem(path: Path, until: Until) -> None:
    async with Pipe(path) as reading:
        other = path.with_name("other")
        other.write_text("text\n")
        other.rename(path)
        await until(lambda: not reading.source.up)
        assert reading.source.problem == f"{path}: is no named pipe any more; send SIGHUP to read it as what it is"


def test_a_pipe_is_a_source(path: Path) -> None:
    assert problem(SourceSettings(path=path), ()) is None
    assert pipe.is_pipe(path)
    assert not pipe.is_pipe(path.parent)
    assert not pipe.is_pipe(path / "nothing")


def test_a_pipe_that_may_not_be_written_to_is_a_problem(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    text = f"{path} may not be read and written by this user, which a named pipe without an end needs; chown it"
    assert problem(SourceSettings(path=path), ()) == text
