"""Programs whose output is a log: started, started again, heard, and ended with all that they started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Self

import pytest
from pop_before_smtp._config import SourceSettings
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp._sources import command, problem
from pop_before_smtp._sources.command import CommandSource, Complaints
from pop_before_smtp.testing import FakeClock

Line = Callable[..., bytes]
Until = Callable[[Callable[[], object]], Awaitable[None]]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PAUSE", 0.01)
    monkeypatch.setattr(command, "_LONGEST_PAUSE", 0.02)


class Program:
    """A CommandSource on a shell script being read, in an ``async with``."""

    def __init__(self, script: str, *argv: str) -> None:
        self.clock = FakeClock(time.time())
        self.source = CommandSource("command x", argv or ["/bin/sh", "-c", script], Layout(), self.clock, horizon=1800)
        self.batches: asyncio.Queue[Batch] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._collect(self.source.batches()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()

    async def _collect(self, batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            self.batches.put_nowait(batch)

    async def lines(self, count: int) -> list[bytes]:
        lines: list[bytes] = []
        while len(lines) < count:
            lines += (await self.batches.get()).data.splitlines()
        return lines


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def waits(for_: Path) -> str:
    """Return a piece of shell that waits until there is a file."""
    return f"while ! [ -e {for_} ]; do sleep 0.02; done"


async def test_the_output_is_the_log(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with Program(f"echo found; cat; {waits(go)}; echo live; exec sleep 60") as program:
        await program.source.caught_up.wait()
        found = await program.batches.get()
        await asyncio.to_thread(go.touch)
        live = await program.batches.get()
        assert (found.data, found.live, found.position, found.checkpoint) == (b"found\n", False, 0, None)
        assert (live.data, live.live, live.position) == (b"live\n", True, 6)
        assert program.source.up


async def test_a_silent_program_is_caught_up_with_but_its_first_lines_were_found(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    script = f"{waits(first)}; echo late; {waits(second)}; echo live; exec sleep 60"
    async with Program(script) as program:
        for go, data, live in ((first, b"late\n", False), (second, b"live\n", True)):
            await program.source.caught_up.wait()
            assert program.batches.empty()
            await asyncio.to_thread(go.touch)
            batch = await program.batches.get()
            assert (batch.data, batch.live) == (data, live)


async def test_no_shell_and_nothing_to_read() -> None:
    async with Program("", sys.executable, "-c", "import sys; print(sys.argv[1:], sys.stdin.read())", "$HOME;", "*"):
        pass
    async with Program("", "/bin/echo", "$HOME;", "*") as program:
        assert await program.lines(1) == [b"$HOME; *"]


async def test_a_program_that_ends_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = f"echo x >> {tmp_path}/runs; wc -l < {tmp_path}/runs; exit 3"
    async with Program(script) as program:
        assert await program.lines(4) == [b"1", b"2", b"3", b"4"]
        assert caplog.messages == ["command x ended with exit status 3; starting it again"]
        program.clock.advance(60)
        seen = 4
        while len(caplog.messages) < 2:
            seen += len(await program.lines(1))
            program.clock.advance(60)
        assert caplog.messages[1:] == ["command x ended with exit status 3; starting it again"]


async def test_a_pause_doubles_up_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.undo()
    async with Program("", "/nonexistent/program") as program:
        monkeypatch.setattr(asyncio, "sleep", note)
        while len(pauses) < 10:
            await sleep(0)
        assert program.source.problem == "command x cannot be started: No such file or directory"
        assert program.source.caught_up.is_set()
    assert pauses[:9] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


async def test_how_it_ended_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Program("echo; kill -SEGV $$") as program:
        await program.lines(2)
    assert caplog.messages == ["command x was ended by SIGSEGV; starting it again"]


async def test_history_that_is_told_again_extends_no_lease(line: Line, tmp_path: Path) -> None:
    """As ``docker logs -f`` tells all it has at each start; lines without a stamp grant nothing then."""
    now = time.time()
    log = tmp_path / "log"
    log.write_bytes(line(0, now - 86400) + b"\n" + line(1, now - 600) + b"\nno stamp\n")
    async with Program(f"cat {log}; sleep 0.4; kill $$") as program:
        for _ in range(2):
            batch = await program.batches.get()
            assert batch.data == line(1, now - 600) + b"\nno stamp\n"
            assert not batch.live
            assert batch.limit == program.clock.wall()
            record = batch.layout.record(batch.data.splitlines()[0], batch, 0)
            assert record
            assert record.time == pytest.approx(now - 600)
            program.clock.advance(10)


async def test_what_lives_on_after_the_program_is_ended_with_it(until: Until) -> None:
    async with Program("sleep 1000 & echo $!; sleep 0.1; echo end") as program:
        first = int((await program.lines(1))[0])
        await program.lines(2)
        await until(lambda: not alive(first))


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["willing", "deaf"])
async def test_nothing_is_left(trap: str, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATIENCE", 0.2)
    before = descriptors(), children()
    async with Program(f"{trap}sleep 1000 & echo $! $$; while :; do sleep 0.1; done") as program:
        pids = [int(pid) for pid in (await program.lines(1))[0].split()]
        assert all(map(alive, pids))
        assert os.getsid(pids[1]) == pids[1]
    await until(lambda: not any(map(alive, pids)))
    assert (descriptors(), children()) == before


async def test_restarts_leak_nothing() -> None:
    async with Program("echo x") as program:
        await program.lines(2)
        before = descriptors()
        await program.lines(20)
        assert descriptors() <= before + 3
        assert len(children()) <= 1


async def test_it_is_killed_while_it_writes(until: Until, tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with Program(f"echo; {waits(go)}; exec yes 'a line'") as program:
        await program.lines(1)
        await asyncio.to_thread(go.touch)
        await program.lines(1000)
        pid = children()[-1]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: program.source.problem)
        assert program.source.problem == "command x was ended by SIGKILL"


async def test_its_standard_error_is_in_our_log(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    script = (
        "printf 'one\\n\\ntwo \\033[31m\\r\\n' >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo ü >&2"
    )
    async with Program(f"{script}; printf rest >&2; echo; exec sleep 60 2>/dev/null") as program:
        await program.lines(1)
        await until(lambda: len(caplog.messages) == 4)
        os.kill(children()[-1], signal.SIGTERM)
        await until(lambda: len(caplog.messages) >= 5)
    assert caplog.messages[:5] == [
        "command x: one",
        r"command x: two \x1b[31m\r",
        "command x: " + "x" * 400,
        "command x: ü",
        "command x: rest",
    ]


def test_a_flood_on_standard_error_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    complaints = Complaints("x", clock)
    for _ in range(100):
        complaints.feed(b"no\n" * 1000)
    assert caplog.messages == ["x: no"] * 20
    clock.advance(60)
    complaints.feed(b"still no\n")
    assert caplog.messages[20:] == ["x: 99980 more lines on its standard error", "x: still no"]
    complaints.feed(b"no\n" * 20)
    complaints.end()
    assert caplog.messages[-1] == "x: 1 more lines on its standard error"


def test_a_program_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    for name in ("no-such-program", str(tmp_path / "data"), str(tmp_path)):
        text = f"{name} does not exist or may not be executed; name a program by its full path"
        assert problem(SourceSettings(command=(name, "-f")), ()) == text
    assert problem(SourceSettings(command=("sh", "-c", "true")), ()) is None
    text = "no argument of a program can hold a NUL; remove it"
    assert problem(SourceSettings(command=("sh", "a\0b")), ()) == text
