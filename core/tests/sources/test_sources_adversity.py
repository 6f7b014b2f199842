"""What a log may hold, and what may be done to it: rights, odd bytes, long absence, positions that outlive the daemon."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp._config import build
from pop_before_smtp._sources import open_sources, problem
from pop_before_smtp._sources.lines import BLOCK
from pop_before_smtp._state import State
from pop_before_smtp.testing import FakeClock

NOBODY = 65534


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# -- bytes


async def test_every_byte_but_the_newline_passes_through(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    odd = [bytes(set(range(256)) - {10}), b"\0" * 100, b"\xff\xfe\xc3(", b"\r\r", b""]
    append(path, b"begin\n")
    async with follow(path) as log:
        append(path, b"".join(line + b"\n" for line in odd))
        await log.hand.look()
        assert log.batches[-1].data.split(b"\n")[:-1] == odd


@pytest.mark.parametrize("size", [8191, 8192, 8193, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
async def test_a_long_line_moves_nothing_else(size: int, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n" + b"x" * size + b"\nb\n")
    async with follow(path) as log:
        assert [log.lines[0], log.lines[-1], len(log.lines)] == [b"a", b"b", 3]
        checkpoint = log.checkpoint
        path.rename(tmp_path / "mail.log.1")
        append(path, b"y" * size + b"\nc\n")
        await log.hand.look()
        assert log.lines[-1] == b"c"
    append(path, b"d\n")
    async with follow(path, checkpoint=checkpoint) as log:
        assert [log.lines[0][:1], log.lines[1:]] == [b"y", [b"c", b"d"]]


# -- absence and rights


async def test_missing_for_days(tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path) as log:
        path.unlink()
        for _ in range(50):
            log.clock.advance(3600)
            await log.hand.look()
        assert (log.source.up, log.source.problem) == (False, f"{path} does not exist")
        append(path, b"b\n")
        await log.hand.look()
        assert log.lines == [b"a", b"b"]
        assert log.source.up
    assert caplog.messages == [f"{path} does not exist; trying again"]


CHILD = """
    import asyncio, os, sys, time
    from pathlib import Path
    from pop_before_smtp._record import Layout
    from pop_before_smtp._sources import FileSource, Watch
    from pop_before_smtp.testing import FakeClock

    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
    watch = Watch(inotify={inotify})
    source = FileSource("log", Path({path!r}), Layout(), FakeClock(time.time()), horizon=1800, watch=watch)

    async def read():
        async for batch in source.batches():
            print(batch.data.decode(), end="", flush=True)

    async def tell():
        problem = None
        while True:
            if source.problem != problem:
                problem = source.problem
                print("problem" if problem else "fine", flush=True)
            await asyncio.sleep(0.01)

    async def main():
        await asyncio.gather(read(), tell())

    asyncio.run(main())
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """Give a directory that everybody may enter, as tmp_path is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run something as somebody else")
@pytest.mark.parametrize("inotify", [True, False])
async def test_another_user_loses_and_regains_permission(inotify: bool, public: Path) -> None:
    path = public / "mail.log"
    append(path, b"a\n")
    path.chmod(0o644)
    code = textwrap.dedent(CHILD.format(nobody=NOBODY, inotify=inotify, path=str(path)))
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert child.stdout
    try:

        async def told() -> bytes:
            assert child.stdout
            return (await asyncio.wait_for(child.stdout.readline(), 10)).strip()

        assert await told() == b"a"
        append(path, b"b\n")
        assert await told() == b"b"
        path.rename(public / "mail.log.1")
        append(public / "new", b"c\n")
        (public / "new").chmod(0o600)
        (public / "new").rename(path)
        assert await told() == b"problem"
        append(public / "mail.log.1", b"late\n")  # what is open stays so
        assert await told() == b"late"
        path.chmod(0o644)
        assert {await told(), await told()} == {b"c", b"fine"}
    finally:
        child.kill()
        await child.wait()


# -- positions


async def test_the_state_keeps_the_position_of_every_file(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path) as log:
        path.rename(tmp_path / "mail.log.1")
        append(path, b"b\n")
        await log.hand.look()
        append(tmp_path / "mail.log.1", b"late\n")
        await log.hand.look()
        position = log.checkpoint
    assert [each.offset for each in position.others] == [7]
    for _ in range(2):
        state = State.open(tmp_path / "state")
        state.append([], {"log": position})
        assert state.positions() == {"log": position}
        state.close()
    append(tmp_path / "mail.log.1", b"later\n")
    append(path, b"c\n")
    async with follow(path, checkpoint=position) as log:
        assert sorted(log.lines) == [b"c", b"later"]


async def test_a_position_does_not_grow(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    checkpoint = None
    for number in range(10):
        append(path, b"%d\n" % number)
        async with follow(path, checkpoint=checkpoint) as log:
            assert log.lines == [b"%d" % number]
            checkpoint = log.checkpoint
    assert checkpoint.others == ()


# -- what is no log


@pytest.mark.parametrize("kind", ["directory", "binary"])
def test_what_is_no_log_is_an_error_in_the_configuration(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    if kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(Path(sys.executable).resolve().read_bytes()[:10000])
    [source] = build({"source": [{"path": str(path), "escaped": True}]}).sources
    told = problem(source, ())
    assert told
    assert told.startswith(str(path))


async def test_a_directory_in_the_place_of_a_log_that_was_followed(tmp_path: Path, until: Any) -> None:
    path = tmp_path / "log"
    append(path, b"a\n")
    config = build({"source": [{"path": str(path), "escaped": True}]})
    [source] = open_sources(config, FakeClock(), {})
    batches = source.batches()
    assert (await anext(batches)).data == b"a\n"
    path.unlink()
    path.mkdir()
    waiting = asyncio.ensure_future(anext(batches))
    await until(lambda: source.problem)
    assert source.problem == f"{path}: is a directory, not a log file"
    path.rmdir()
    append(path, b"b\n")
    assert (await asyncio.wait_for(waiting, 10)).data == b"b\n"
    await batches.aclose()  # type: ignore[attr-defined]
