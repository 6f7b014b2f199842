"""Records of the journal: what journalctl can print, who is believed, and when it was."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from journals import Journal, JournalReading, entry, printing
from pop_before_smtp import LOGIN, LogParser, LogPattern
from pop_before_smtp._match import Matcher
from pop_before_smtp._sources import journal as module
from pop_before_smtp._trust import Senders
from pop_before_smtp.testing import FakeClock

PARSER = LogParser(
    name="popd",
    patterns=[
        LogPattern(kind=LOGIN, program=b"popd", message=rb"login ok from (?P<ip>\S+)", contains=[b"login ok from "])
    ],
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"MESSAGE": "plain"}, b"plain"),
        ({"MESSAGE": list(b"user \xff\xfe\n")}, b"user \xff\xfe\n"),
        ({"MESSAGE": "\u00e9\ud800"}, b"\xc3\xa9\xed\xa0\x80"),
        ({"MESSAGE": "x" * 100_000}, b"x" * 100_000),
        ({"MESSAGE": ""}, b""),
        ({"MESSAGE": None}, None),
        ({"MESSAGE": ["one", "two"]}, None),
        ({"MESSAGE": [[1], [2]]}, None),
        ({"MESSAGE": [1, 300]}, None),
        ({"MESSAGE": 7}, None),
        ({}, None),
        ({"MESSAGE": "x", "_UID": ["0", "1000"]}, None),
        ({"MESSAGE": "x", "_SYSTEMD_UNIT": ["popd.service", "session-1.scope"]}, None),
        ({"MESSAGE": "x", "SYSLOG_IDENTIFIER": ["popd", "popd"]}, None),
        ({"MESSAGE": "x", "SYSLOG_PID": ["1", "2"]}, None),
        ({"MESSAGE": "x", "__REALTIME_TIMESTAMP": "soon"}, None),
        ({"MESSAGE": "x", "__REALTIME_TIMESTAMP": None}, None),
        ({"MESSAGE": "x", "__CURSOR": None}, None),
        ({"MESSAGE": "x" * 400_000}, None),
    ],
)
async def test_what_journalctl_can_print(fields: dict[str, Any], message: bytes | None, tmp_path: Path) -> None:
    async with JournalReading(printing(tmp_path, {"MESSAGE": "first"}, fields, {"MESSAGE": "last"})) as reading:
        found = [record.message for record in reading.records]
    assert found[: found.index(b"last") + 1] == [b"first", *([] if message is None else [message]), b"last"]


@pytest.mark.parametrize("line", ["", "{", "[]", "7", "null", '"x"', '{"__CURSOR": 5}', "\xff", "-- No entries --"])
async def test_what_is_no_record_is_passed_over(line: str, tmp_path: Path) -> None:
    async with JournalReading(printing(tmp_path, line, {"MESSAGE": "first"}, line)) as reading:
        assert reading.messages[:1] == ["first"]


LOGIN_LINE = "login ok from 203.0.113.9"


@pytest.mark.parametrize(
    ("fields", "granted"),
    [
        ({}, 1),
        ({"_SYSTEMD_UNIT": "session-3.scope"}, 0),
        ({"_SYSTEMD_UNIT": "session-3.scope", "_UID": "1000", "_COMM": "popd", "_EXE": "/usr/sbin/popd"}, 0),
        ({"_SYSTEMD_UNIT": "user@1000.service", "_SYSTEMD_USER_UNIT": "popd.service", "_UID": "1000"}, 0),
        ({"_SYSTEMD_UNIT": "user@0.service", "_SYSTEMD_USER_UNIT": "popd.service"}, 0),
        ({"_SYSTEMD_UNIT": "xpopd.service"}, 0),
        ({"_SYSTEMD_UNIT": "popd.service.d"}, 0),
        ({"_SYSTEMD_UNIT": b"popd.service\n"}, 0),
        ({"_SYSTEMD_UNIT": "init.scope", "UNIT": "popd.service", "OBJECT_SYSTEMD_UNIT": "popd.service"}, 0),
        ({"_SYSTEMD_UNIT": "cron.service", "SYSTEMD_UNIT": "popd.service"}, 0),
        ({"_UID": "1000"}, 0),
        ({"_UID": "1000", "_SYSTEMD_UNIT": ("popd.service", "session-3.scope")}, 0),
        ({"_UID": ("0", "1000")}, 0),
        ({"MESSAGE": (LOGIN_LINE, "another")}, 0),
        ({"SYSLOG_IDENTIFIER": ("popd", "sshd")}, 0),
        ({"SYSLOG_IDENTIFIER": "sshd"}, 0),
        ({"MESSAGE": b"failed for x\n" + LOGIN_LINE.encode()}, 0),
        ({"MESSAGE": LOGIN_LINE.encode() + b"\nfailed"}, 0),
        ({"MESSAGE": b"failed for \xff\n<6>popd: " + LOGIN_LINE.encode()}, 0),
        ({"MESSAGE": b"\xff" + LOGIN_LINE.encode()}, 0),
        ({"SYSLOG_TIMESTAMP": "Jan  1 00:00:00 ", "SYSLOG_PID": "1"}, 1),
    ],
)
async def test_who_is_believed(journal: Journal, fields: dict[str, Any], granted: int) -> None:
    """Both where journalctl is asked for the units alone and where it shows the records of all."""
    journal.write(entry(LOGIN_LINE, **fields))
    counts: Counter[str] = Counter()
    for wanted in (module.matches([Senders(units=("popd.service",))], []), []):
        async with JournalReading(journal.command, matches=wanted) as reading:
            matcher = Matcher([PARSER])
            found = [event.address for batch in reading.batches for event in matcher.feed(batch)]
            assert found == ["203.0.113.9"] * granted
            counts += matcher.counts
    unit = fields.get("_SYSTEMD_UNIT", "popd.service")
    if isinstance(unit, str) and unit != "popd.service":
        assert counts == {"untrusted_sender": 1}


async def test_a_stamp_can_only_be_true(journal: Journal) -> None:
    """What the client says of the time counts for nothing, nor does a record from the future that was found."""
    now = time.time()
    claims = f"{(now + 900) * 1e6:.0f}"
    journal.write(
        entry(LOGIN_LINE, at=now - 60, _SOURCE_REALTIME_TIMESTAMP=claims, SYSLOG_TIMESTAMP="Jan  1 00:00:00 "),
        entry("login ok from 203.0.113.10", at=now + 9000),
    )
    async with JournalReading(journal.command, FakeClock(now)) as reading:
        matcher = Matcher([PARSER])
        events = [event for batch in reading.batches for event in matcher.feed(batch)]
    assert [(event.address, event.at) for event in events] == []
    assert matcher.counts == {"future": 2}
