"""What stands in a file when it is opened: positions, limits, and how far back is read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from pop_before_smtp._record import Checkpoint, Layout
from pop_before_smtp._sources import check
from pop_before_smtp._sources.lines import BLOCK, fresh
from pop_before_smtp.testing import FakeClock

Line = Callable[..., bytes]
DAY = 86400.0


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def bsd(at: float, text: str) -> bytes:
    return f"{datetime.fromtimestamp(at, UTC):%b %e %H:%M:%S} mail test: {text}\n".encode()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def read_to(path: Path, follow: Any) -> tuple[list[bytes], Checkpoint]:
    """Read a log to its end and stop; return its lines and the position behind them."""
    async with follow(path) as log:
        return log.lines, log.checkpoint


# -- going on from a position


def nothing(_: Path) -> None:
    pass


def renamed(path: Path) -> None:
    path.rename(path.with_suffix(".log.1"))


def renamed_to_another_name(path: Path) -> None:
    path.rename(path.with_name("old"))


def renamed_twice(path: Path) -> None:
    path.rename(path.with_suffix(".log.2"))
    append(path.with_suffix(".log.1"), b"between\n")


def copied_and_truncated(path: Path) -> None:
    shutil.copyfile(path, path.with_suffix(".log.1"))
    os.truncate(path, 0)


@pytest.mark.parametrize("away", [nothing, renamed, renamed_to_another_name, renamed_twice, copied_and_truncated])
async def test_a_restart_loses_and_repeats_nothing(away: Callable[[Path], None], tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    path.with_suffix(".log.3").write_bytes(b"a year ago\n")
    os.utime(path.with_suffix(".log.3"), (1, 1))
    append(path, b"a\nb\nhal")
    first, checkpoint = await read_to(path, follow)
    append(path, b"f\nc\n")
    away(path)
    append(path, b"d\n")
    between = [b"between"] * (away is renamed_twice)
    async with follow(path, checkpoint=checkpoint) as log:
        assert first + log.lines == [b"a", b"b", b"half", b"c", *between, b"d"]
        assert not any(batch.live for batch in log.batches)
        append(path, b"e\n")
        await log.hand.look()
        assert log.lines[-1] == b"e"
        assert log.batches[-1].live
        assert log.batches[-1].checkpoint.inode == path.stat().st_ino


@pytest.mark.parametrize("new", [b"x\n", b"x\n" * 100], ids=["smaller", "regrown-beyond"])
@pytest.mark.parametrize("recreate", [False, True], ids=["truncated", "recreated"])
async def test_a_position_in_other_bytes_is_none(new: bytes, recreate: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"first\nsecond\n")
    _, checkpoint = await read_to(path, follow)
    if recreate:
        path.unlink()  # the inode's number may be used again
    path.write_bytes(new)
    lines, _ = await read_to(path, lambda path: follow(path, checkpoint=checkpoint))
    assert lines == new.splitlines()


async def test_a_position_inside_a_line_goes_on_behind_it(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"first\n" + b"x" * 2 * BLOCK)
    _, checkpoint = await read_to(path, follow)
    append(path, b"user=<x rip=203.0.113.9>\nthird\n")
    lines, _ = await read_to(path, lambda path: follow(path, checkpoint=checkpoint))
    assert lines == [b"third"]


async def test_a_position_that_was_never_one_is_none(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"first\nsecond\nthird\n")
    _, checkpoint = await read_to(path, follow)
    lines, _ = await read_to(path, lambda path: follow(path, checkpoint=evolve(checkpoint, offset=6)))
    assert lines == [b"first", b"second", b"third"]


async def test_every_batch_carries_the_position_behind_it(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    content = b"".join(b"line %06d\n" % number for number in range(60_000))
    path.write_bytes(content)
    async with follow(path) as log:
        assert len(log.batches) > 2
        for batch in log.batches:
            assert len(batch.data) <= BLOCK
            assert batch.data.endswith(b"\n")
            assert content[batch.position :].startswith(batch.data)
            assert batch.checkpoint.offset == batch.position + len(batch.data)
        rest = await read_to(path, lambda path: follow(path, checkpoint=log.batches[0].checkpoint))
        assert log.batches[0].data + b"\n".join(rest[0]) + b"\n" == content


# -- found and live


async def test_found_bytes_are_no_later_than_the_file(tmp_path: Path, follow: Any, line: Line) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(line(1) + b"\n")
    changed = time.time() - 100
    os.utime(path, (changed, changed))
    async with follow(path) as log:
        now = log.clock.wall()
        append(path, line(2) + b"\n")
        await log.hand.look()
        found, live = log.batches
    assert (found.live, found.limit, found.received) == (False, pytest.approx(changed), now)
    assert (live.live, live.limit, live.received) == (True, now, now)


async def test_a_file_from_the_future_is_no_later_than_receipt(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"a\n")
    os.utime(path, (4e9, 4e9))
    async with follow(path) as log:
        assert log.batches[0].limit == log.clock.wall()


async def test_a_line_that_was_begun_before_is_found(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"a\nbegun")
    async with follow(path) as log:
        append(path, b" and ended\nc\n")
        await log.hand.look()
        assert [(batch.data, batch.live) for batch in log.batches] == [
            (b"a\n", False),
            (b"begun and ended\n", False),
            (b"c\n", True),
        ]


async def test_what_is_in_a_file_that_rotation_brought_is_found(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"a\n")
    async with follow(path) as log:
        append(path, b"b\n")
        path.rename(path.with_suffix(".log.1"))
        append(path, b"c\n")
        await log.hand.look()
        append(path, b"d\n")
        await log.hand.look()
        assert [batch.live for batch in log.batches] == [False, True, False, True]


async def test_a_line_is_held_back_until_it_ends(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    path.touch()
    async with follow(path) as log:
        for byte in b"ab\nc":
            append(path, bytes([byte]))
            await log.hand.look()
        assert log.data == b"ab\n"


async def test_a_line_without_end_is_cut_and_its_rest_passed_over(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    path.touch()
    async with follow(path) as log:
        append(path, b"a\n" + b"x" * 400_000)
        await log.hand.look()
        assert log.lines == [b"a", b"x" * BLOCK]
        append(path, b"x" * 400_000)
        await log.hand.look()
        append(path, b" rip=203.0.113.9\nb\n")
        await log.hand.look()
        assert log.lines == [b"a", b"x" * BLOCK, b"b"]


# -- how far back


async def test_without_a_position_only_the_fresh_end_is_read(tmp_path: Path, follow: Any, line: Line) -> None:
    now = time.time()
    path = tmp_path / "mail.log"
    path.write_bytes(
        line(1, now - 7200)
        + b"\n"
        + line(2, now - 1900)
        + b"\nno stamp\n"
        + line(3, now - 1700)
        + b"\n"
        + line(4)
        + b"\n"
    )
    lines, _ = await read_to(path, follow)
    assert lines == [b"no stamp", line(3, now - 1700), lines[-1]]


async def test_thirteen_months_without_a_year(tmp_path: Path, follow: Any) -> None:
    now = time.time()
    path = tmp_path / "mail.log"
    first, *history = [bsd(now - days * DAY, f"{days} days ago") for days in range(395, 0, -1)]
    path.write_bytes(first)
    os.utime(path, (now - 395 * DAY, now - 395 * DAY))
    then = FakeClock(now - 395 * DAY + 60)
    lines, checkpoint = await read_to(path, lambda path: follow(path, clock=then))
    assert lines == [first.rstrip()]
    append(path, b"".join(history) + bsd(now - 60, "fresh"))
    for known in (None, checkpoint):
        lines, _ = await read_to(path, lambda path, known=known: follow(path, checkpoint=known))
        assert lines == [bsd(now - 60, "fresh").rstrip()]


async def test_a_log_that_stopped_months_ago_is_history(tmp_path: Path, follow: Any) -> None:
    now = time.time()
    path = tmp_path / "mail.log"
    path.write_bytes(b"".join(bsd(now - days * DAY, f"{days}") for days in (366, 365.24, 364, 330, 300)))
    async with follow(path) as log:
        assert log.lines == []


async def test_a_big_log_is_not_read_whole(
    tmp_path: Path, follow: Any, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mail.log"
    path.touch()
    os.truncate(path, 10 * 2**30)
    now = time.time()
    append(path, b"\n" + line(1, now - 3600) + b"\n" + (line(2) + b"\n") * 10_000)
    count, read = [], os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: count.append(len(data := read(fd, size, at))) or data)
    lines, _ = await read_to(path, follow)
    assert len(lines) == 10_000
    assert sum(count) < 3 * 10_000 * len(lines[0]) + 10 * BLOCK


async def test_a_big_log_without_stamps_is_not_read_whole(
    tmp_path: Path, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mail.log"
    path.touch()
    os.truncate(path, 10 * 2**30)
    append(path, b"\nimap-login: Info: Login\n")
    count, read = [], os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: count.append(len(data := read(fd, size, at))) or data)
    lines, _ = await read_to(path, follow)
    assert lines == [b"imap-login: Info: Login"]
    assert sum(count) < 64 * 2**20


@pytest.mark.parametrize("size", [1, 7, 50, 1000, BLOCK])
async def test_the_walk_finds_the_same_line_whatever_the_blocks(
    size: int, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pop_before_smtp._sources.lines.BLOCK", size)
    now = time.time()
    old = line(1, now - 2000) + b"\n"
    data = b"x\n" + old + b"\n\nno stamp\n" + line(2, now) + b"\nunterminated"

    async def start(data: bytes) -> int:
        return await fresh(
            lambda size, at: data[at : at + size], 0, len(data), Layout(), limit=now, behind=1800, ahead=300
        )

    assert await start(data) == 2 + len(old)
    assert await start(data[2 + len(old) :]) == 0
    assert await start(old) == len(old)
    assert await start(line(3, now + 301) + b"\nx\n") == len(line(3, now + 301)) + 1
    assert await start(b"") == 0


# -- what is no log


def test_check(tmp_path: Path) -> None:
    log, directory, pipe, binary = (tmp_path / name for name in ("log", "directory", "pipe", "binary"))
    log.write_bytes(b"a NUL \0 and an escape \x1b from a hostile client\n" * 3)
    directory.mkdir()
    os.mkfifo(pipe)
    binary.write_bytes(bytes(range(256)) * 20)
    assert check(log) is None
    assert check(tmp_path / "missing") is None
    assert check(directory) == f"{directory}: is a directory, not a log file"
    assert check(pipe) == f"{pipe}: is not a regular file"
    assert check(binary) == f"{binary} is no text file; name the log itself"


def test_check_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "log").touch()
    monkeypatch.setattr(os, "open", refuse)
    assert "may not be read by this user" in str(check(tmp_path / "log"))
