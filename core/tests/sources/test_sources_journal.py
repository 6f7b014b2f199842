"""The journal: what is there and what comes, where reading goes on, and what can go wrong with journalctl."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journals import UNIT, Journal, JournalReading, entry
from pop_before_smtp import ConfigError
from pop_before_smtp._config import build
from pop_before_smtp._sources import journal as module
from pop_before_smtp._trust import Senders
from pop_before_smtp.testing import FakeClock


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)


# -- what is there and what comes


async def test_what_is_there_and_what_comes(journal: Journal) -> None:
    journal.say("one", "two")
    async with JournalReading(journal.command) as reading:
        assert reading.messages == ["one", "two"]
        journal.say("three")
        await reading.until(3)
        assert reading.messages == ["one", "two", "three"]
        assert [record.live for record in reading.records] == [False, False, True]
        assert reading.source.up


async def test_a_record_has_what_a_line_of_a_file_has(journal: Journal) -> None:
    at = 1_795_339_046.123456
    sent = {"_SOURCE_REALTIME_TIMESTAMP": f"{at - 1:.6f}".replace(".", ""), "SYSLOG_TIMESTAMP": "Jan  1 00:00:00 "}
    journal.write(entry("hello", at=at, SYSLOG_PID="311", _PID="312", _COMM="popd", **sent))
    async with JournalReading(journal.command, FakeClock(at + 60)) as reading:
        (record,) = reading.records
    assert (record.host, record.program, record.pid, record.message) == (b"mail", b"popd", b"311", b"hello")
    assert (record.time, record.limit) == (pytest.approx(at - 1), pytest.approx(at))
    assert (record.received, record.source, record.position) == (at + 60, "journal", round(at * 1e6))
    assert record.trusted == {name: value.encode() for name, value in UNIT.items()}


async def test_a_process_that_logs_for_others_gives_them_no_pid(journal: Journal) -> None:
    journal.write(entry("hello", _PID="312"))
    async with JournalReading(journal.command) as reading:
        assert [record.pid for record in reading.records] == [b""]


async def test_only_what_can_matter_is_read(journal: Journal) -> None:
    now = time.time()
    journal.write(*(entry(f"{age} s ago", at=now - age) for age in (9000, 1810, 1700, 5)))
    async with JournalReading(journal.command, FakeClock(now)) as reading:
        assert reading.messages == ["1700 s ago", "5 s ago"]


async def test_only_what_is_asked_for_is_read(journal: Journal) -> None:
    journal.write(
        entry("a", SYSLOG_IDENTIFIER="a"), entry("b", _SYSTEMD_UNIT="b.service"), entry("c", _SYSTEMD_UNIT="c.service")
    )
    wanted = module.matches([Senders(units=("popd.service",)), Senders(units=("b.service",))], [])
    async with JournalReading(journal.command, matches=wanted) as reading:
        assert reading.messages == ["a", "b"]
    async with JournalReading(journal.command, matches=module.matches([Senders(units=("*",))], ["a"])) as reading:
        assert reading.messages == ["a"]


def test_journalctl_is_asked_for_units_where_they_are_plain() -> None:
    dovecot, courier = Senders(units=("dovecot.service",)), Senders(units=("b.service", "a.service"))
    assert module.matches([dovecot], []) == ["_SYSTEMD_UNIT=dovecot.service"]
    assert module.matches([dovecot, courier, Senders()], ["x"]) == [
        "_SYSTEMD_UNIT=a.service",
        "_SYSTEMD_UNIT=b.service",
        "_SYSTEMD_UNIT=dovecot.service",
        "SYSLOG_IDENTIFIER=x",
    ]
    assert module.matches([dovecot, Senders(units=("imap@*.service",))], ["x"]) == ["SYSLOG_IDENTIFIER=x"]


async def test_much_comes_in_parts_and_others_run_in_between(journal: Journal) -> None:
    journal.say(*(f"{number:05} {'x' * 200}" for number in range(2000)))
    reading = JournalReading(journal.command)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(others())
        async with reading:
            assert [message[:5] for message in reading.messages] == [f"{number:05}" for number in range(2000)]
        task.cancel()
    assert len(reading.batches) <= turns
    assert max(len(batch.records) for batch in reading.batches) < 1000


# -- where reading goes on


async def test_a_restart_goes_on_behind_the_last_record(journal: Journal) -> None:
    journal.say("one", "two")
    async with JournalReading(journal.command) as reading:
        cursor = reading.cursor
    async with JournalReading(journal.command, cursor=cursor) as reading:
        assert reading.messages == []
        journal.say("three")
        await reading.until(1)
    async with JournalReading(journal.command, cursor=cursor) as reading:
        assert reading.messages == ["three"]


async def test_records_of_no_use_are_not_read_again(journal: Journal) -> None:
    journal.write(entry("one"), entry("two", MESSAGE=("a", "b")))
    async with JournalReading(journal.command) as reading:
        assert reading.messages == ["one"]
    async with JournalReading(journal.command, cursor=reading.cursor) as reading:
        assert reading.batches == []


@pytest.mark.parametrize("cursor", ["gone", "rubbish"])
async def test_a_cursor_that_leads_nowhere(journal: Journal, caplog: pytest.LogCaptureFixture, cursor: str) -> None:
    """Not one of the records that are left is passed over."""
    if cursor == "gone":
        journal.say("one", "two")
        async with JournalReading(journal.command) as reading:
            cursor = reading.cursor or ""
        journal.delete()
    now = time.time()
    journal.write(entry("old", at=now - 9000), entry("three"), entry("four"), file="new")
    async with JournalReading(journal.command, cursor=cursor) as reading:
        assert reading.messages == ["three", "four"]
        journal.say("five", file="new")
        await reading.until(3)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert warned[0].endswith("reading the last 1800 seconds again")


async def test_an_empty_journal_with_a_cursor(journal: Journal) -> None:
    journal.say("one")
    async with JournalReading(journal.command) as reading:
        cursor = reading.cursor
    journal.delete()
    journal.write(entry("old", at=time.time() - 9000), file="new")
    async with JournalReading(journal.command, cursor=cursor) as reading:
        journal.say("two", file="new")
        assert await reading.until(1) == ["two"]


async def test_a_cursor_from_before_all_that_matters_is_not_asked_for(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    journal.write(entry("one", at=now - 9000))
    async with JournalReading(journal.command, FakeClock(now - 8990)) as reading:
        assert reading.messages == ["one"]
    journal.delete()
    journal.write(entry("two", at=now - 8000), entry("three"), file="new")
    async with JournalReading(journal.command, cursor=reading.cursor) as reading:
        assert reading.messages == ["three"]
    assert caplog.records == []


async def test_rotation_and_vacuum_while_it_is_read(journal: Journal) -> None:
    journal.say("one")
    async with JournalReading(journal.command) as reading:
        journal.say("two", file="new")
        await reading.until(2)
        journal.delete()
        journal.say("three", file="newer")
        await reading.until(3)
        journal.delete("new")
        journal.say("four", file="newer")
        assert await reading.until(4) == ["one", "two", "three", "four"]


# -- journalctl


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.005)


def following(pid: Path) -> bool:
    try:
        return b"--follow" in Path(f"/proc/{pid.read_text().strip()}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def test_killed_it_is_started_again_and_nothing_is_lost(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pid = tmp_path / "pid"
    command = ["sh", "-c", f'echo $$ > {pid}; exec "$@"', "sh", *journal.command]
    journal.say("one")
    async with JournalReading(command) as reading:
        for count in range(2, 5):
            await until(lambda: following(pid))
            os.kill(int(pid.read_text()), signal.SIGKILL)
            journal.say(f"{count}")
            await reading.until(count)
        assert reading.messages == ["one", "2", "3", "4"]
        await until(lambda: reading.source.up)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["journal: journalctl was ended by SIGKILL; trying again", "journal: can be read again"] * 3


async def test_it_ends_with_the_source(journal: Journal, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    before = descriptors()
    async with JournalReading(["sh", "-c", f'echo $$ > {pid}; exec "$@"', "sh", *journal.command]):
        await until(lambda: following(pid))
        assert len(descriptors() - before) <= 4
    assert not following(pid)
    assert descriptors() == before


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["nosuch-journalctl"], "journalctl is not installed; name a log file instead"),
        (["sh", "-c", "exit 3"], "journalctl ended with 3"),
        (["sh", "-c", "echo Failed to open: No space >&2; exit 1"], "journalctl: Failed to open: No space"),
        (
            ["sh", "-c", "echo No journal files were opened due to insufficient permissions. >&2; exit 1"],
            "may not be read by this user; put it into the group systemd-journal",
        ),
        (["sh", "-c", "yes complaint | head -n 100000 >&2; exit 1"], "journalctl: complaint"),
    ],
)
async def test_a_failure_is_told_once(
    command: list[str], problem: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.02)
    async with JournalReading(command) as reading:
        await asyncio.sleep(0.1)
        assert (reading.source.up, reading.source.problem) == (False, f"journal: {problem}")
    assert [record.getMessage() for record in caplog.records] == [f"journal: {problem}; trying again"]


async def test_pauses_grow_and_are_short_again_after_a_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(100 if len(pauses) == 12 else 0)
        await real(0)

    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.5)
    clock = FakeClock(time.time())
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    async with JournalReading(["nosuch-journalctl"], clock):
        while len(pauses) < 12:
            await real(0)
    assert pauses[:9] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


# -- what speaks against it at the start


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["nosuch-journalctl"], "journalctl is not installed; name a log file instead"),
        (["sh", "-c", 'echo \'{"__REALTIME_TIMESTAMP": "1"}\''], None),
        (["true"], "there is none here, journald does not run"),
        (["sh", "-c", "echo Permission denied >&2; exit 1"], "may not be read by this user"),
    ],
)
def test_what_check_says(command: list[str], problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND", command)
    said = module.check(known=False)
    assert (problem in said) if problem and said else said == problem
    said = module.check(known=True)
    assert (problem in said) if said else problem in {None, module.NONE}


def test_check_does_not_wait_for_ever_and_does_not_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND", ["sh", "-c", "exec sleep 9"])
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    assert module.check(known=False) is None
    with pytest.raises(module.LateError):
        module.newest()


PLUGIN = """
from pop_before_smtp import LogParser, hookimpl

@hookimpl
def pop_before_smtp_parsers():
    yield LogParser(name="{name}", patterns=[], units={units})
"""


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"journal": True}, 'source[0].units: the parser "imapd" names no systemd units; name those of your server'),
        ({"journal": True, "units": ["imap@*.service"]}, None),
        ({"path": "/var/log/mail.log"}, None),
    ],
)
def test_without_units_nothing_would_be_believed(
    source: dict[str, Any], problem: str | None, install: Callable[..., str]
) -> None:
    install("popd", PLUGIN.format(name="popd", units=["popd.service"]))
    install("imapd", PLUGIN.format(name="imapd", units=[]))
    data = {"plugins": ["popd", "imapd"], "source": [source]}
    if problem is None:
        assert build(data).sources
        assert build(data | {"source": [{"journal": True}, {"path": "/log"}]}).sources, "the file may be the other's"
        return
    with pytest.raises(ConfigError) as caught:
        build(data)
    assert caught.value.problems == (problem,)
