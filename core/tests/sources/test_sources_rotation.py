"""Every way in which a log turns into another, by hand and by inotify, between lines and in the middle of one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def rename_and_create(path: Path, unseen: bytes, new: bytes) -> None:
    append(path, unseen)
    path.rename(beside(path, ".1"))
    append(path, new)


def rename_by_date(path: Path, unseen: bytes, new: bytes) -> None:
    append(path, unseen)
    path.rename(beside(path, "-20261122"))
    append(path, new)


def writer_lets_go_late(path: Path, unseen: bytes, new: bytes) -> None:
    path.rename(beside(path, ".1"))
    path.touch()
    append(beside(path, ".1"), unseen)
    append(path, new)


def copytruncate(path: Path, unseen: bytes, new: bytes) -> None:
    append(path, unseen)
    shutil.copyfile(path, beside(path, ".1"))
    os.truncate(path, 0)
    append(path, new)


def copytruncate_and_grow(path: Path, unseen: bytes, new: bytes) -> None:
    copytruncate(path, unseen, new)
    append(path, b"grown beyond\n" * 500)


def delete_and_create(path: Path, unseen: bytes, new: bytes) -> None:
    append(path, unseen)
    path.unlink()
    append(path, new)


def replaced_by_rename(path: Path, unseen: bytes, new: bytes) -> None:
    append(path, unseen)
    append(beside(path, ".new"), new)
    beside(path, ".new").replace(path)


def symlink_switched(path: Path, unseen: bytes, new: bytes) -> None:
    append(path, unseen)
    target = path.resolve().parent / "second"
    append(target, new)
    beside(path, ".link").symlink_to(target)
    beside(path, ".link").replace(path)


def directory_replaced(path: Path, unseen: bytes, new: bytes) -> None:
    append(path, unseen)
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.mkdir()
    append(path, new)


def open_files() -> list[Path]:
    return [file.resolve() for file in Path("/proc/self/fd").iterdir()]


LOSSLESS = [
    rename_and_create,
    rename_by_date,
    writer_lets_go_late,
    copytruncate,
    copytruncate_and_grow,
    delete_and_create,
    replaced_by_rename,
    symlink_switched,
    directory_replaced,
]
by_hand_or_inotify = pytest.mark.parametrize("inotify", [False, True], ids=["hand", "inotify"])


def place(tmp_path: Path, way: Callable[..., None]) -> Path:
    """Return a log's path that suits a way to rotate."""
    path = tmp_path / "logs" / "mail.log"
    path.parent.mkdir()
    if way is symlink_switched:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "first").touch()
        path.symlink_to(tmp_path / "data" / "first")
    return path


@by_hand_or_inotify
@pytest.mark.parametrize("middle", [False, True], ids=["idle", "mid-line"])
@pytest.mark.parametrize("first", [b"", b"the same first line" * 20 + b"\n"], ids=["", "same-first-line"])
@pytest.mark.parametrize("way", LOSSLESS)
async def test_each_line_comes_once(
    *, way: Callable[..., None], first: bytes, middle: bool, inotify: bool, tmp_path: Path, follow: Any
) -> None:
    path = place(tmp_path, way)
    append(path, first + b"a\nb\n")
    unseen = b"c\nhalf" if middle else b"c\n"
    async with follow(path, inotify=inotify) as log:
        append(path, b"seen\n")
        await log.settle(3 + bool(first))
        way(path, unseen, first + b"d\ne\n")
        head = first.splitlines()
        expected = [*head, b"a", b"b", b"seen", *unseen.splitlines(), *head, b"d", b"e"]
        expected += [b"grown beyond"] * 500 * (way is copytruncate_and_grow)
        await log.settle(len(expected))
        assert sorted(log.lines) == sorted(expected)
        append(path, b"later\n")
        await log.settle(len(expected) + 1)
        assert sorted(log.lines) == sorted([*expected, b"later"])
        assert log.batches[-1].live


@by_hand_or_inotify
@pytest.mark.parametrize("copy", [False, True], ids=["rename", "copytruncate"])
async def test_three_rotations_between_two_looks(copy: bool, inotify: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    beside(path, ".1").write_bytes(b"long ago\n")
    os.utime(beside(path, ".1"), (1, 1))
    append(path, b"0\n")
    async with follow(path, inotify=inotify) as log:
        for number in range(1, 4):
            append(path, b"%d a\n%d b\n" % (number, number))
            for old in (3, 2, 1):
                if beside(path, f".{old}").exists():
                    beside(path, f".{old}").rename(beside(path, f".{old + 1}"))
            if copy:
                shutil.copyfile(path, beside(path, ".1"))
                os.truncate(path, 0)
            else:
                path.rename(beside(path, ".1"))
        append(path, b"last\n")
        expected = [b"0", b"1 a", b"1 b", b"2 a", b"2 b", b"3 a", b"3 b", b"last"]
        await log.settle(len(expected))
        assert log.lines == expected
        append(path, b"later\n")
        await log.settle(len(expected) + 1)
        assert log.lines == [*expected, b"later"]


@by_hand_or_inotify
async def test_created_late(inotify: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path, inotify=inotify) as log:
        path.rename(beside(path, ".1"))
        append(beside(path, ".1"), b"b\nhal")
        await log.settle(2)
        assert (log.source.up, log.source.problem) == (False, f"{path} does not exist")
        append(beside(path, ".1"), b"f\n")
        await log.settle(3)
        append(path, b"c\n")
        await log.settle(4)
        assert (log.source.up, log.source.problem) == (True, None)
        assert log.lines == [b"a", b"b", b"half", b"c"]


@by_hand_or_inotify
async def test_written_to_the_old_file_after_the_new_one(inotify: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path, inotify=inotify) as log:
        rename_and_create(path, b"b\n", b"c\n")
        await log.settle(3)
        append(beside(path, ".1"), b"late\n")
        await log.settle(4)
        assert log.lines == [b"a", b"b", b"c", b"late"]
        assert log.checkpoint.inode == path.stat().st_ino
        if not inotify:
            assert beside(path, ".1") in open_files()
            log.clock.advance(30)
            await log.settle()
            assert beside(path, ".1") not in open_files()


async def test_half_a_line_of_a_rotated_file_is_waited_for_but_not_for_ever(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\nhal")
    async with follow(path) as log:
        path.rename(beside(path, ".1"))
        path.touch()
        await log.hand.look()
        assert (log.lines, log.hand.pause) == ([b"a"], 1.0)
        log.clock.advance(1)
        await log.hand.look()
        assert log.lines == [b"a", b"hal"]
        append(beside(path, ".1"), b"f rip=203.0.113.9\nb\n")
        await log.hand.look()
        assert log.lines == [b"a", b"hal", b"b"]  # what follows half a line begins no line


@by_hand_or_inotify
@pytest.mark.parametrize("new", [b"x\n", b"x\n" * 100], ids=["smaller", "regrown-beyond"])
@pytest.mark.parametrize("middle", [b"", b"half"], ids=["idle", "mid-line"])
async def test_truncated_without_a_copy(new: bytes, middle: bytes, inotify: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\nb\nc\n" + middle)
    async with follow(path, inotify=inotify) as log:
        path.write_bytes(new)
        expected = [b"a", b"b", b"c", *new.splitlines()]
        await log.settle(len(expected))
        assert log.lines == expected
        append(path, b"later\n")
        await log.settle(len(expected) + 1)
        assert log.lines == [*expected, b"later"]


async def test_cut_to_a_part_of_itself_loses_nothing_new(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\nb\nc\n")
    async with follow(path) as log:
        os.truncate(path, 2)
        append(path, b"new\n")
        await log.hand.look()
        assert log.lines == [b"a", b"b", b"c", b"a", b"new"]


@by_hand_or_inotify
async def test_moved_away_and_back(inotify: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path, inotify=inotify) as log:
        path.rename(beside(path, ".1"))
        append(path, b"b\n")
        await log.settle(2)
        path.rename(beside(path, ".2"))
        beside(path, ".1").rename(path)
        append(path, b"c\n")
        await log.settle(3)
        assert log.lines == [b"a", b"b", b"c"]


async def test_one_file_under_two_names_is_read_once(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path) as log:
        rename_and_create(path, b"b\n", b"c\n")
        path.rename(beside(path, ".2"))
        beside(path, "-20261122").hardlink_to(beside(path, ".2"))
        beside(path, ".0").symlink_to(beside(path, ".2"))
        append(path, b"d\n")
        await log.settle()
        assert sorted(log.lines) == [b"a", b"b", b"c", b"d"]


@by_hand_or_inotify
async def test_directory_missing_at_the_start(inotify: bool, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "var" / "log" / "mail.log"
    async with follow(path, inotify=inotify) as log:
        assert not log.source.up
        path.parent.mkdir(parents=True)
        append(path, b"a\n")
        await log.settle(1)
        append(path, b"b\n")
        await log.settle(2)
        assert (log.lines, log.source.up) == ([b"a", b"b"], True)


async def test_symlinked_directory_switched(tmp_path: Path, follow: Any) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        append(tmp_path / name / "mail.log", name.encode() + b"\n")
    (tmp_path / "current").symlink_to("one")
    async with follow(tmp_path / "current" / "mail.log", inotify=True) as log:
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "current")
        await log.settle(2)
        assert log.lines == [b"one", b"two"]


async def test_a_missing_file_is_reported_once(tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mail.log"
    caplog.set_level("INFO")
    async with follow(path) as log:
        pauses = []
        for _ in range(8):
            pauses.append(log.hand.pause)
            await log.hand.look()
        assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
        append(path, b"a\n")
        await log.hand.look()
        assert log.hand.pause == 30
        path.rename(beside(path, ".1"))
        await log.hand.look()
        append(path, b"b\n")
        await log.hand.look()
        path.unlink()
        await log.hand.look()
        log.clock.advance(5)
        await log.hand.look()
    gone, back = f"{path} does not exist; trying again", f"{path} can be read again"
    assert caplog.messages == [gone, back, gone]


async def test_a_file_that_cannot_be_read_is_tried_again(
    tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    caplog.set_level("INFO")
    async with follow(path) as log:
        with monkeypatch.context() as broken:
            broken.setattr(os, "pread", fail)
            await log.hand.look()
            await log.hand.look()
        assert (log.source.up, log.source.problem) == (False, f"{path}: Input/output error")
        append(path, b"b\n")
        await log.hand.look()
        assert log.lines == [b"a", b"b"]
        assert log.source.up
    assert len(caplog.messages) == 2


async def test_permission_lost_and_regained(tmp_path: Path, follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    async with follow(path) as log:
        with monkeypatch.context() as denied:
            denied.setattr(os, "open", refuse)
            rename_and_create(path, b"b\n", b"c\n")
            await log.hand.look()
            assert "may not be read by this user" in log.source.problem
        await log.hand.look()
        assert log.lines == [b"a", b"b", b"c"]
        assert [batch.live for batch in log.batches] == [False, True, False]
