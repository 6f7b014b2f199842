"""Journal files made to measure, and a JournalSource that reads them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp._record import Records
from pop_before_smtp._sources.journal import JournalSource
from pop_before_smtp._trust import Senders, Trust
from pop_before_smtp.api import Record
from pop_before_smtp.testing import FakeClock
from reading import Reading

REMOTE = Path("/lib/systemd/systemd-journal-remote")
"""It writes journal files from text in which any field can stand, the trusted ones included."""
UNIT = {"_SYSTEMD_UNIT": "popd.service", "_UID": "0"}
POPD = Trust("journal", senders={"popd": Senders(units=("popd.service",), uids=(0,))})
Fields = dict[str, str | bytes | tuple[str, ...]]


def entry(message: str | bytes = "", *, at: float | None = None, **fields: str | bytes | tuple[str, ...]) -> bytes:
    """Return a record in the journal's export format; a tuple is a field with several values."""
    micros = str(int((time.time() if at is None else at) * 1e6))
    named: Fields = {
        "__REALTIME_TIMESTAMP": micros,
        "__MONOTONIC_TIMESTAMP": micros,
        "_BOOT_ID": "0" * 31 + "1",
        "_HOSTNAME": "mail",
        "SYSLOG_IDENTIFIER": "popd",
        "MESSAGE": message,
        **UNIT,
        **fields,
    }
    lines = []
    for name, values in named.items():
        for value in values if isinstance(values, tuple) else (values,):
            data = value.encode() if isinstance(value, str) else value
            size = b"\n" + len(data).to_bytes(8, "little") if name == "MESSAGE" or b"\n" in data else b"="
            lines.append(name.encode() + size + data + b"\n")
    return b"".join(lines) + b"\n"


class Journal:
    """A folder of journal files."""

    def __init__(self, folder: Path) -> None:
        if not REMOTE.exists():
            pytest.skip("needs the package systemd-journal-remote")
        self.folder = folder

    def write(self, *entries: bytes, file: str = "system") -> None:
        """Append records to one of its files."""
        argv = [REMOTE, "-o", self.folder / f"{file}.journal", "-"]
        subprocess.run(argv, input=b"".join(entries), check=True, capture_output=True)

    def say(self, *messages: str, file: str = "system") -> None:
        self.write(*(entry(message) for message in messages), file=file)

    def delete(self, file: str = "system") -> None:
        (self.folder / f"{file}.journal").unlink()

    @property
    def command(self) -> list[str]:
        return ["journalctl", f"--directory={self.folder}"]


class JournalReading(Reading[Records]):
    """A JournalSource being read, in an ``async with``."""

    def __init__(self, command: Sequence[str], clock: FakeClock | None = None, **options: Any) -> None:
        self.clock = clock or FakeClock(time.time())
        options = {"trust": POPD, "horizon": 1800.0} | options
        super().__init__(JournalSource("journal", self.clock, command=command, **options))

    async def until(self, count: int) -> list[str]:
        """Return the messages once there are as many."""
        while len(self.records) < count:
            self._came.clear()
            await self._came.wait()
        return self.messages

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch.records]

    @property
    def messages(self) -> list[str]:
        return [record.message.decode() for record in self.records]

    @property
    def cursor(self) -> str | None:
        return self.batches[-1].checkpoint if self.batches else None


def printing(folder: Path, *records: dict[str, Any] | str) -> list[str]:
    """Return a command that prints records as journalctl does, whatever it is asked for, and ends."""
    known = {"__REALTIME_TIMESTAMP": str(int(time.time() * 1e6)), "SYSLOG_IDENTIFIER": "popd"}
    named = [
        each if isinstance(each, str) else json.dumps(known | UNIT | {"__CURSOR": str(number)} | each)
        for number, each in enumerate(records)
    ]
    file = folder / "printed"
    file.write_text("".join(line + "\n" for line in named))
    return ["sh", "-c", f"cat {file}"]
