"""Patterns: one source for many logs, which come, rotate and go."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from playground import Site, until
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import build
from pop_before_smtp._record import Batch, Position
from pop_before_smtp._sources import SeveralSource, Watch, open_sources, problem, several
from pop_before_smtp._sources.rotated import logs_of
from pop_before_smtp._sources.watch import Bell
from pop_before_smtp.testing import FakeClock
from reading import Reading

BELLS: list[Bell] = []
"""All that ring in a test."""


def append(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


class Several(Reading[Batch]):
    """A source for a pattern being read, in an ``async with``."""

    def __init__(self, pattern: Path, positions: Mapping[str, Position] | None = None) -> None:
        self.clock = FakeClock(time.time())
        config = build({"source": [{"path": str(pattern), "escaped": True}]})
        [source] = open_sources(config, self.clock, positions or {})
        assert isinstance(source, SeveralSource)
        super().__init__(source)

    async def lines(self, count: int) -> dict[str, list[bytes]]:
        """Return the lines by file name when there are so many of them."""
        async with asyncio.timeout(5):
            while sum(batch.data.count(b"\n") for batch in self.batches) < count:
                await self._came.wait()
                self._came.clear()
        await asyncio.sleep(0.01)  # for what must not come
        lines: dict[str, list[bytes]] = {}
        for batch in self.batches:
            lines.setdefault(Path(batch.source).name, []).extend(batch.data.splitlines())
        return lines

    async def until(self, told: Callable[[], object]) -> None:
        """Return when something is so, looking at everything."""
        async with asyncio.timeout(5):
            while not told():
                for bell in BELLS:
                    bell.ring()
                await asyncio.sleep(0.01)

    @property
    def positions(self) -> dict[str, Position]:
        return {batch.source: batch.checkpoint for batch in self.batches if batch.checkpoint}


@pytest.fixture(autouse=True)
def _bells(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Watch.bell

    def bell(*arguments: Any) -> Bell:
        BELLS.append(make(*arguments))
        return BELLS[-1]

    BELLS.clear()
    monkeypatch.setattr(Watch, "bell", bell)


async def test_every_match_is_a_source_of_its_own(tmp_path: Path) -> None:
    append(tmp_path / "mail.log", b"a\n")
    append(tmp_path / "mailx.log", b"b\n")
    append(tmp_path / "syslog", b"none\n")
    append(tmp_path / "mail.dir.log" / "deep.log", b"none\n")
    async with Several(tmp_path / "mail*.log") as log:
        assert await log.lines(2) == {"mail.log": [b"a"], "mailx.log": [b"b"]}
        assert set(log.positions) == {str(tmp_path / "mail.log"), str(tmp_path / "mailx.log")}
        assert (log.source.up, log.source.problem) == (True, None)
        append(tmp_path / "mailx.log", b"c\n")
        append(tmp_path / "mail-2.log", b"d\n")
        assert await log.lines(4) == {"mail.log": [b"a"], "mailx.log": [b"b", b"c"], "mail-2.log": [b"d"]}


async def test_rotated_files_belong_to_their_log(tmp_path: Path) -> None:
    log_file = tmp_path / "mail.log"
    append(log_file, b"a\n")
    append(tmp_path / "mail.log.1", b"old\n")
    async with Several(tmp_path / "mail*") as log:
        assert await log.lines(2) == {"mail.log": [b"old", b"a"]}
        (tmp_path / "mail.log.1").rename(tmp_path / "mail.log.2")
        append(log_file, b"b\n")
        log_file.rename(tmp_path / "mail.log.1")
        await log.lines(3)  # it is missing for a while
        append(log_file, b"c\n")
        assert await log.lines(4) == {"mail.log": [b"old", b"a", b"b", b"c"]}
        shutil.move(log_file, tmp_path / "mail.log-20261122")
        append(log_file, b"d\n")
        assert await log.lines(5) == {"mail.log": [b"old", b"a", b"b", b"c", b"d"]}
        positions = log.positions
    log_file.rename(tmp_path / "mail.log-20261123")
    async with Several(tmp_path / "mail*", positions) as log:
        assert await log.lines(0) == {}
        append(log_file, b"e\n")
        assert await log.lines(1) == {"mail.log": [b"e"]}


async def test_none_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pattern = tmp_path / "*" / "mail.log"
    async with Several(pattern) as log:
        assert (log.source.up, log.source.problem) == (False, f"no file matches {pattern}")
        await log.until(lambda: True)
        append(tmp_path / "mx1" / "mail.log", b"a\n")
        assert await log.lines(1) == {"mail.log": [b"a"]}
        assert log.source.up
    assert caplog.messages == [f"no file matches {pattern}; waiting for one", f"{tmp_path}/mx1/mail.log has come"]


async def test_a_file_that_is_gone_is_let_go_when_it_is_drained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gone = tmp_path / "mx1.log"
    append(gone, b"a\n")
    async with Several(tmp_path / "*.log") as log:
        await log.lines(1)
        with gone.open("ab") as file:
            gone.unlink()
            await log.until(lambda: not log.source.up)
            log.clock.advance(20)
            file.write(b"b\n")
            file.flush()
            await log.lines(2)
            log.clock.advance(20)
            await log.until(lambda: True)
            assert open_files() >= {f"{gone} (deleted)"}
        log.clock.advance(11)
        await log.until(lambda: not log.source._files)
        assert f"{gone} (deleted)" not in open_files()
        append(gone, b"c\n")
        assert await log.lines(3) == {"mx1.log": [b"a", b"b", b"c"]}
    assert caplog.messages == [
        f"{gone} is gone",
        f"no file matches {tmp_path}/*.log; waiting for one",
        f"{gone} has come",
    ]


def open_files() -> set[str]:
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(each.readlink()))
        except OSError:  # that of the listing
            continue
    return found


async def test_a_slow_reader_holds_all_files_back(tmp_path: Path) -> None:
    for number in range(20):
        append(tmp_path / f"{number}.log", b"x" * 90_000 + b"\n" + b"y" * 90_000 + b"\n")
    config = build({"source": [{"path": f"{tmp_path}/*.log", "escaped": True}]})
    [source] = open_sources(config, Clock(), {})
    batches = source.batches()
    seen = [(await anext(batches)).source]
    await asyncio.sleep(0.05)
    assert isinstance(source, SeveralSource)
    assert source._queue.qsize() == 1
    assert sum(file._files[0].offset > 0 for file in source._files.values()) <= 20
    seen += [(await anext(batches)).source for _ in range(39)]
    assert sorted(seen) == sorted([f"{tmp_path}/{number}.log" for number in range(20)] * 2)
    await batches.aclose()


@pytest.mark.parametrize(
    ("name", "logs"),
    [
        ("mail.log.1", {"mail.log"}),
        ("mail.log.2.gz", {"mail.log"}),
        ("mail.log-20261122", {"mail.log"}),
        ("mail-20261122.log", {"mail.log"}),
        ("mail.1.log.xz", {"mail.log"}),
        ("mail.log-2026-11-22T03:00:00.zst", {"mail.log"}),
        ("maillog.0.bz2", {"maillog"}),
        ("mail.log", set()),
        ("mail.log.old", set()),
        ("mail2.log", set()),
        ("mail-2.log", set()),
        (".1", set()),
    ],
)
def test_names(name: str, logs: set[str]) -> None:
    assert logs_of(name) == logs


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "mail[1].log"
    assert several.is_pattern(path)
    path.touch()
    assert not several.is_pattern(path)


def test_what_speaks_against_a_pattern(tmp_path: Path) -> None:
    [source] = build({"source": [{"path": f"{tmp_path}/*.log", "escaped": True}]}).sources
    assert problem(source, ()) is None
    append(tmp_path / "mail.log", b"a\n")
    assert problem(source, ()) is None
    append(tmp_path / "btmp.log", bytes(range(256)) * 20)
    assert problem(source, ()) == f"{tmp_path}/btmp.log is no text file; name the log itself"


async def test_half_a_line_of_a_file_that_is_gone_is_the_last_one(tmp_path: Path) -> None:
    gone = tmp_path / "mx1.log"
    append(gone, b"a\nhalf")
    async with Several(tmp_path / "*.log") as log:
        await log.lines(1)
        gone.unlink()
        await log.until(lambda: not log.source.up)
        log.clock.advance(31)
        await log.until(lambda: log.batches[-1].data == b"half")
        log.clock.advance(31)
        await log.until(lambda: not log.source._files)


def test_the_daemon_follows_a_pattern(site: Site) -> None:
    site.configure(path=f"{site.folder}/*.log")
    site.login("203.0.113.1", ago=5)
    for number in range(2):  # the second one goes on where the first was killed
        daemon = site.start("run", "-c", str(site.file))
        until(lambda: site.keys() >= {"203.0.113.1"})
        with (site.folder / f"mx{number}.log").open("w") as file:
            file.write(site.line(f"203.0.113.{number + 2}") + "\n")
        until(lambda number=number: site("list", "-c", str(site.file))[1].count("203.0.113.") == number + 2)
        daemon.kill()
        daemon.communicate()
    assert site.keys() == {f"203.0.113.{number}" for number in (1, 2, 3)}
    code, _, err = site("--config", str(site.file), "--reprocess")
    assert (code, err.count("added ")) == (0, 3)
