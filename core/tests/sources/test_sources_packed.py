"""Predecessors of a log, compressed or not: what of them is read, and what damage does."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pop_before_smtp._sources import ledger, packed
from pop_before_smtp._sources.packed import SUFFIXES, Damaged, unpack

Line = Callable[..., bytes]
PACK = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
each_kind = pytest.mark.parametrize("suffix", SUFFIXES)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def compress(path: Path, suffix: str) -> Path:
    result = beside(path, suffix)
    result.write_bytes(PACK[suffix](path.read_bytes()))
    shutil.copystat(path, result)
    path.unlink()
    return result


def age(path: Path, seconds: float) -> None:
    changed = time.time() - seconds
    os.utime(path, (changed, changed))


# -- at the start


@each_kind
async def test_a_restart_goes_on_in_a_compressed_file(suffix: str, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\nb\n")
    async with follow(path) as log:
        checkpoint = log.checkpoint
    append(path, b"c\nunterminated")
    path.rename(beside(path, ".1"))
    append(path, b"d\n")
    path.rename(beside(path, "-20261122"))
    append(path, b"e\n")
    compress(beside(path, ".1"), suffix)
    compress(beside(path, "-20261122"), suffix)
    async with follow(path, checkpoint=checkpoint) as log:
        assert sorted(log.lines) == [b"c", b"d", b"e", b"unterminated"]
        assert not any(batch.live for batch in log.batches)
        checkpoint = log.checkpoint
    async with follow(path, checkpoint=checkpoint) as log:
        assert log.lines == []


@pytest.mark.parametrize("suffix", ["", *SUFFIXES])
async def test_without_a_position_as_far_back_as_the_longest_grace(
    suffix: str, line: Line, tmp_path: Path, follow: Any
) -> None:
    now = time.time()
    path = tmp_path / "mail.log"
    ages = {"-20260101": [9000, 5000], ".3": [2000, 1900], ".2": [3550, 1700], ".1": [1600, 1000], "": [900, 5]}
    for name, seconds in ages.items():
        append(beside(path, name), b"".join(line(each, now - each) + b"\n" for each in seconds))
        age(beside(path, name), seconds[-1])
        if name and suffix:
            compress(beside(path, name), suffix)
    async with follow(path) as log:
        told = [int(each.rpartition(b" ")[2]) for each in log.lines]
        assert sorted(told, reverse=True) == [1700, 1600, 1000, 900, 5]
        limits = {batch.data.split()[-1]: batch.limit for batch in log.batches}
        assert limits[b"1700"] == pytest.approx(now - 1700)
        assert limits[b"5"] == pytest.approx(now - 5)
        assert not any(batch.live for batch in log.batches)


async def test_predecessors_are_read_before_anything_is_at_the_path(line: Line, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(beside(path, ".1"), line(0, time.time() - 5000) + b"\n" + line(1) + b"\n")
    async with follow(path) as log:
        assert [each[-1:] for each in log.lines] == [b"1"]
        append(path, line(2) + b"\n")
        await log.settle()
        assert [each[-1:] for each in log.lines] == [b"1", b"2"]


async def test_what_cannot_matter_is_not_opened(tmp_path: Path, follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    for number in range(3):
        append(beside(path, f".{number}"), b"x\n")
        age(beside(path, f".{number}"), 1900)
        append(beside(path, f".{number}.gz"), gzip.compress(b"x\n"))
        age(beside(path, f".{number}.gz"), 1900)
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda name, *rest, **more: opened.append(name) or real(name, *rest, **more))
    async with follow(path) as log:
        assert log.lines == [b"a"]
    assert opened == [path]


# -- while it runs


@each_kind
async def test_several_rotations_with_the_middle_one_compressed_at_once(
    suffix: str, tmp_path: Path, follow: Any
) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path) as log:
        append(path, b"b\n")
        path.rename(beside(path, ".3"))
        append(path, b"c\n")
        path.rename(beside(path, ".2"))
        compress(beside(path, ".2"), suffix)
        append(path, b"d\n")
        path.rename(beside(path, ".1"))
        append(path, b"e\n")
        await log.hand.look()
        assert sorted(log.lines) == [b"a", b"b", b"c", b"d", b"e"]
        compress(beside(path, ".3"), suffix)
        compress(beside(path, ".1"), suffix)
        log.clock.advance(40)
        await log.settle()
        log.clock.advance(40)
        await log.settle()
        assert len(log.lines) == 5
        checkpoint = log.checkpoint
    async with follow(path, checkpoint=checkpoint) as log:
        assert log.lines == []


async def test_a_copy_that_is_compressed_at_once(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    async with follow(path) as log:
        append(path, b"b\n")
        shutil.copy2(path, beside(path, ".1"))
        os.truncate(path, 0)
        compress(beside(path, ".1"), ".gz")
        append(path, b"c\n")
        await log.hand.look()
        assert sorted(log.lines) == [b"a", b"b", b"c"]


async def test_a_backup_of_the_log_holds_nothing_new(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\nb\n")
    shutil.copyfile(path, beside(path, ".1"))
    append(beside(path, ".2.gz"), gzip.compress(path.read_bytes()))
    async with follow(path) as log:
        append(path, b"c\n")
        shutil.copyfile(path, beside(path, "-20261122"))
        log.clock.advance(40)
        await log.settle()
        assert log.lines == [b"a", b"b", b"c"]


@each_kind
async def test_a_file_that_is_being_compressed(
    suffix: str, tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    old, half = beside(path, ".1"), beside(path, f".1{suffix}")
    content = b"".join(b"%d\n" % number for number in range(1000))
    append(old, content)
    half.write_bytes(PACK[suffix](content)[:-9])
    async with follow(path) as log:
        assert len(log.lines) == 1001
        compress(old, suffix)
        log.clock.advance(40)
        await log.settle()
        assert len(log.lines) == 1001
    assert caplog.messages == []


@each_kind
@pytest.mark.parametrize("damage", ["cut", "overwritten", "empty"])
async def test_a_damaged_file_is_skipped_and_tried_again(
    suffix: str, damage: str, tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mail.log"
    content = b"".join(b"%d\n" % number for number in range(1000))
    whole = PACK[suffix](content)
    bad = {"cut": whole[:-9], "overwritten": whole[:50] + b"x" * 20 + whole[70:], "empty": b""}[damage]
    old = beside(path, f".1{suffix}")
    append(path, b"a\n")
    old.write_bytes(bad)
    async with follow(path) as log:
        assert log.lines == [b"a"]
        for _ in range(2):
            log.clock.advance(40)
            await log.settle()
        told = caplog.messages
        assert len(told) == (damage != "empty" or suffix != ".gz")
        assert all(each.startswith(f"{old} is skipped: damaged (") for each in told)
        old.write_bytes(whole)
        log.clock.advance(40)
        await log.settle()
        assert len(log.lines) == 1001
        assert caplog.messages == told


async def test_without_the_extra_for_zstd(
    tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "zstandard", None)
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    for number in (1, 2):
        append(beside(path, f".{number}.zst"), PACK[".zst"](b"b\n"))
    async with follow(path) as log:
        log.clock.advance(40)
        await log.settle()
        assert log.lines == [b"a"]
    [told] = caplog.messages
    assert "is skipped: reading it needs the extra zstd: pip install 'pop-before-smtp[zstd]'" in told


async def test_a_compressed_file_that_may_not_be_read(
    tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mail.log"
    append(path, b"a\n")
    old = beside(path, ".1.gz")
    append(old, gzip.compress(b"b\n"))
    allowed = Path.open

    def refuse(self: Path, *arguments: Any) -> Any:
        if self == old:
            raise PermissionError(13, "Permission denied")
        return allowed(self, *arguments)

    with monkeypatch.context() as denied:
        denied.setattr(Path, "open", refuse)
        async with follow(path) as log:
            log.clock.advance(40)
            await log.settle()
            assert log.lines == [b"a"]
            denied.undo()
            log.clock.advance(40)
            await log.settle()
            assert log.lines == [b"a", b"b"]
    assert caplog.messages == [f"{old} is skipped: Permission denied"]


# -- in slices


@each_kind
def test_a_slice_is_a_moments_work(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log compresses well, and what a client sends a hundred thousand times does so best of all."""
    path = tmp_path / f"mail.log.1{suffix}"
    content = b"".join(b"%d %s\n" % (number, b"x" * (number % 90)) for number in range(50_000)) + b"y" * 20_000_000
    path.write_bytes(PACK[suffix](content))
    sizes, real = [], packed._next
    monkeypatch.setattr(packed, "_next", lambda slices: sizes.append(len(data := real(slices) or b"")) or data or None)
    *_, file = unpack(path)
    assert file
    assert file.size() == len(content) == sum(sizes)
    assert max(sizes) <= (10_000_000 if suffix == ".zst" else packed._SLICE)
    file.close()


@each_kind
def test_joined_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mail.log.1{suffix}"
    path.write_bytes(PACK[suffix](b"a\n") + PACK[suffix](b"b\n"))
    *_, file = unpack(path)
    assert file
    assert file.read() == (0, b"a\nb\n")
    file.close()
    path.write_bytes(PACK[suffix](b"a\n") + PACK[suffix](b"b\n")[:-3])
    with pytest.raises(Damaged):
        list(unpack(path))


async def test_nothing_that_is_known_grows_without_bound(tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "mail.log"
    append(path, b"first\n")
    checkpoint = None
    for number in range(3 * ledger._VANISHED):
        async with follow(path, checkpoint=checkpoint) as log:
            append(path, b"%d\n" % number)
            await log.settle()
            shutil.copyfile(path, beside(path, ".1"))
            os.truncate(path, 0)
            append(path, b"after %d\n" % number)
            await log.settle()
            assert log.lines[-2:] == [b"%d" % number, b"after %d" % number]
            beside(path, ".1").unlink()
            checkpoint = log.checkpoint
    assert len(checkpoint.others) <= ledger._VANISHED + 2
