"""Streams: what waits in them is found, what comes then is live, and they end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp._sources import StreamSource, stream
from pop_before_smtp._sources.lines import BLOCK
from pop_before_smtp.testing import FakeClock

Line = Callable[..., bytes]
YEAR = 365 * 86400.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine makes no pause."""
    monkeypatch.setattr(stream, "_SILENCE", 10)


class Stream:
    """A StreamSource on a pipe, being read; ``None`` is put into the queue at its end."""

    def __init__(self) -> None:
        self.clock = FakeClock(time.time())
        self.end, self.write_end = os.pipe()
        self.source = StreamSource("stdin", self.end, Layout(), self.clock, horizon=1800)
        self.batches: asyncio.Queue[Batch | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self.close()
        os.close(self.end)

    async def _collect(self) -> None:
        async for batch in self.source.batches():
            self.batches.put_nowait(batch)
        self.batches.put_nowait(None)

    def write(self, data: bytes) -> None:
        os.write(self.write_end, data)

    async def pour(self, data: bytes) -> None:
        """Write what may be more than fits into the pipe."""
        await asyncio.to_thread(self._pour, data)

    def _pour(self, data: bytes) -> None:
        with os.fdopen(os.dup(self.write_end), "wb") as file:
            file.write(data)

    def close(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
        self.write_end = -1

    async def rest(self) -> list[Batch]:
        """Close the writer's end and return what is still to come."""
        self.close()
        batches = []
        while batch := await self.batches.get():
            batches.append(batch)
        return batches


async def test_what_comes_after_a_pause_is_live() -> None:
    async with Stream() as pipe:
        pipe.write(b"found\nbe")
        await pipe.source.caught_up.wait()
        found = await pipe.batches.get()
        assert (found.data, found.live, found.limit) == (b"found\n", False, pipe.clock.wall())
        pipe.write(b"gun\n")
        begun = await pipe.batches.get()
        assert (begun.data, begun.live, begun.position) == (b"begun\n", False, 6)
        pipe.write(b"live\nunterminated")
        live = await pipe.batches.get()
        assert (live.data, live.live, live.position) == (b"live\n", True, 12)
        assert pipe.source.up
        last = await pipe.rest()
        assert [(batch.data, batch.position, batch.checkpoint) for batch in last] == [(b"unterminated", 17, None)]
        assert not pipe.source.up


@pytest.mark.usefixtures("patient")
async def test_a_history_that_is_poured_in_grants_nothing(line: Line) -> None:
    now = time.time()
    days = range(395, 0, -1)
    history = b"".join(
        time.strftime("%b %e %H:%M:%S mail test: ", time.localtime(now - day * 86400)).encode() + b"x" * 9000 + b"\n"
        for day in days
    )
    async with Stream() as pipe:
        await pipe.pour(history + line(1, now - 60) + b"\n" + line(2, now) + b"\n")
        batches = await pipe.rest()
    assert b"".join(batch.data for batch in batches) == line(1, now - 60) + b"\n" + line(2, now) + b"\n"
    assert not any(batch.live for batch in batches)
    assert batches[0].position == len(history)


@pytest.mark.usefixtures("patient")
async def test_of_what_waits_only_the_newest_is_kept(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_KEPT", 200_000)
    lines = [line(number) + b"\n" for number in range(20_000)]
    async with Stream() as pipe:
        await pipe.pour(b"".join(lines))
        kept = b"".join(batch.data for batch in await pipe.rest())
    assert 100_000 < len(kept) <= 200_000
    assert b"".join(lines).endswith(b"\n" + kept)


@pytest.mark.usefixtures("patient")
async def test_a_stream_that_never_pauses_is_live_when_its_stamps_say_so(line: Line) -> None:
    async with Stream() as pipe:
        for ago in (-400, 400, 0):
            pipe.write(line(ago, pipe.clock.wall() - ago) + b"\n")
            await asyncio.sleep(0.05)
            pipe.clock.advance(2.5)
            pipe.write(line(ago, pipe.clock.wall() - ago) + b"\n")
            await asyncio.sleep(0.05)
            assert pipe.source.caught_up.is_set() == (ago == 0)


@pytest.mark.parametrize("pause", [False, True], ids=["found", "live"])
async def test_a_line_without_end_is_cut_and_its_rest_passed_over(pause: bool) -> None:
    async with Stream() as pipe:
        if pause:
            await pipe.source.caught_up.wait()
        await pipe.pour(b"a\n" + b"x" * 500_000 + b" rip=203.0.113.9\nb\n")
        lines = b"".join(batch.data for batch in await pipe.rest()).splitlines()
    assert (lines[0], lines[-1], len(lines)) == (b"a", b"b", 3)
    assert BLOCK <= len(lines[1]) < 2 * BLOCK


@pytest.mark.parametrize("begin", [0, 5])
async def test_a_file_as_standard_input(begin: int, tmp_path: Path, line: Line) -> None:
    now = time.time()
    path = tmp_path / "mail.log"
    path.write_bytes(b"head\n" + line(0, now - YEAR) + b"\n" + line(1) + b"\n" + line(2))
    os.utime(path, (now - 5, now - 5))
    fd = os.open(path, os.O_RDONLY)
    os.lseek(fd, begin, os.SEEK_SET)
    source = StreamSource("stdin", fd, Layout(), FakeClock(now), horizon=1800)
    batches = [batch async for batch in source.batches()]
    os.close(fd)
    data = path.read_bytes()
    assert [data[batch.position :].startswith(batch.data) for batch in batches] == [True, True]
    assert [batch.data.partition(b"test: ")[2] for batch in batches] == [b"line 1\n", b"line 2"]
    assert [(batch.live, batch.limit) for batch in batches] == [(False, pytest.approx(now - 5))] * 2
    assert source.caught_up.is_set()


async def test_bytes_that_somebody_else_took_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read
    taken: list[int] = []

    def late(fd: int, size: int) -> bytes:
        if fd == pipe.end and not taken:
            taken.append(fd)
            raise BlockingIOError
        return read(fd, size)

    async with Stream() as pipe:
        monkeypatch.setattr(os, "read", late)
        pipe.write(b"a\n")
        assert b"".join(batch.data for batch in await pipe.rest()) == b"a\n"
    assert taken


async def test_nothing_as_standard_input() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    source = StreamSource("stdin", fd, Layout(), FakeClock(), horizon=1800)
    assert [batch async for batch in source.batches()] == []
    os.close(fd)


async def test_a_stream_that_breaks_has_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    async with Stream() as pipe:
        monkeypatch.setattr(os, "read", fail)
        pipe.write(b"x")
        assert await pipe.batches.get() is None
    assert pipe.source.problem == "stdin: Input/output error"
    assert caplog.messages == ["stdin: Input/output error; it is taken as ended"]
