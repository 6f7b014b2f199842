"""systemd's journal, as journalctl(1) prints it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Self

from pop_before_smtp._clock import Clock
from pop_before_smtp._record import Records
from pop_before_smtp._trust import Senders, Trust
from pop_before_smtp.api import Record
from pop_before_smtp.errors import SourceError

from .condition import Condition
from .lines import BLOCK, Cutter

_log = logging.getLogger("pop_before_smtp.source")

NONE = "there is none here, journald does not run"
COMMAND = ("journalctl",)
"""The program, which tests replace."""
_OPTIONS = ("--output=json", "--all", "--no-pager", "--quiet")
"""``--all``: without it a long field is null."""
_TRUSTED = ("_SYSTEMD_UNIT", "_UID")
_FIELDS = ("MESSAGE", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_HOSTNAME", "_SOURCE_REALTIME_TIMESTAMP", *_TRUSTED)
"""The fields that are printed, beside the cursor and the time of receipt, which always are."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before journalctl is started again: they double. Once it has run for the longest, the first is due again."""
_PATIENCE = 5.0
"""How long an answer about the newest record may take, in seconds."""
_TIME = re.compile(r";t=([0-9a-f]{1,15})(?:;|$)")
"""In a cursor, the microseconds at which its record was received: journald's own business, so it may be missing."""
_GONE = "the record that was read last is gone, its cursor leads nowhere"
_SAID = 4096
"""Bytes of what journalctl complains about that are kept."""


class LateError(SourceError):
    """journalctl takes its time, as it may while a machine starts."""


class JournalSource(Condition):
    """The records of the journal: first what is there, up to its end, then what comes.

    Args:
        name: how batches, messages and the state call it.
        clock: the time.
        trust: whose records are believed.
        matches: which records are asked for, as journalctl takes it: ``FIELD=VALUE``.
        cursor: the record that was read last; None if nothing was.
        horizon: how old a record may be to matter, in seconds.
        command: what to run instead of journalctl, options of its own included.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        *,
        trust: Trust,
        matches: Sequence[str] = (),
        cursor: str | None = None,
        horizon: float,
        command: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name)
        self._clock = clock
        self._trust = trust
        self._matches = matches
        self._cursor = cursor
        self._horizon = horizon
        self._command = command or COMMAND
        self._resuming = False  # the next record is to be the one with the cursor
        self._pause = _FIRST_PAUSE
        self._said = False

    async def batches(self) -> AsyncIterator[Records]:
        """Yield what is there and what comes, for ever."""
        while True:
            began = self._clock.now()
            try:
                for live in (False, True):
                    cutter = Cutter()
                    with _Program([*self._command, *self._arguments(follow=live)]) as program:
                        while block := await program.read():
                            if records := self._records(cutter.feed(block)[1], live=live):
                                yield records
                        program.check(ended=live)
                    self._recover()
            except (OSError, SourceError) as error:
                self._fail(error, lasted=self._clock.now() - began)
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _arguments(self, *, follow: bool) -> list[str]:
        """Return the options of one run; it begins with the record that was read last, or where records matter.

        Not behind that record: where it is gone, ``--after-cursor`` passes over the first of those that are left.
        """
        start = self._clock.wall() - self._horizon
        time = _TIME.search(self._cursor or "")
        if time and int(time[1], 16) / 1e6 < start:
            self._cursor = None
        self._resuming = self._cursor is not None
        begin = f"--cursor={self._cursor}" if self._cursor else f"--since=@{int(start)}"
        options = [*_OPTIONS, f"--output-fields={','.join(_FIELDS)}", begin]
        return [*options, *(["--follow", "--no-tail"] if follow else []), *self._matches]

    def _records(self, lines: bytes, *, live: bool) -> Records | None:
        received = self._clock.wall()
        records = []
        behind = self._cursor
        for line in lines.split(b"\n"):
            fields = _fields(line)
            cursor = fields.get("__CURSOR")
            if not isinstance(cursor, str):
                continue
            if self._resuming:
                if cursor != self._cursor:
                    raise SourceError(_GONE)
                self._resuming = False
                continue
            behind = cursor
            if record := _record(fields, self.name, received, live=live):
                records.append(record)
        if behind == self._cursor:
            return None
        self._cursor = behind
        return Records(source=self.name, records=records, trust=self._trust, checkpoint=behind)

    def _recover(self) -> None:
        """Go on where everything that was there has been read."""
        if self._resuming:
            raise SourceError(_GONE)
        if self._said:
            _log.info("%s: can be read again", self.name)
        self.up, self.problem, self._said = True, None, False
        self.caught_up.set()

    def _fail(self, error: OSError | SourceError, *, lasted: float) -> None:
        """Say why, once, and begin anew where the cursor leads nowhere."""
        lost = self._resuming and "cursor" in str(error)
        self.up = False
        self.problem = f"{self.name}: {_reason(error)}"
        if not self._said:
            again = f"reading the last {self._horizon:.0f} seconds again" if lost else "trying again"
            _log.warning("%s; %s", self.problem, again)
            self._said = True
        if lasted >= _LONGEST_PAUSE:
            self._pause = _FIRST_PAUSE
        if lost:
            self._cursor = None
        else:
            self.caught_up.set()


class _Program:
    """A program whose output is read block by block; it ends with the ``with`` at the latest.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        # in a process group of its own, so that a terminal's Ctrl-C is for us to handle
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, process_group=0)
        assert self._process.stdout  # noqa: S101 - a pipe was asked for
        assert self._process.stderr  # noqa: S101 - the same
        self._output, self._errors = self._process.stdout, self._process.stderr
        self._said = b""
        self._ready = asyncio.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for pipe, act in ((self._output, self._ready.set), (self._errors, self._listen)):
            os.set_blocking(pipe.fileno(), False)
            self._loop.add_reader(pipe, act)
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._output, self._errors):
            self._loop.remove_reader(pipe)
            pipe.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    async def read(self) -> bytes:
        """Return what it has printed, at most a block; empty at its end."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            try:
                return os.read(self._output.fileno(), BLOCK)
            except BlockingIOError:
                pass

    def check(self, *, ended: bool) -> None:
        """Raise SourceError with what it complained of, if it failed, or if it was not to end at all."""
        try:
            code = self._process.wait(1)  # it has closed its output, so it is ending
        except subprocess.TimeoutExpired:
            code = 0
        self._listen()
        if code or ended:
            raise SourceError(_complaint(self._said, code))

    def _listen(self) -> None:
        """Keep the end of what it complains of."""
        try:
            said = os.read(self._errors.fileno(), BLOCK)
        except BlockingIOError:
            return
        if not said:
            self._loop.remove_reader(self._errors)
        _log.debug("journalctl: %s", ascii(said.decode("utf-8", "replace")))
        self._said = (self._said + said)[-_SAID:]


def matches(senders: Iterable[Senders], identifiers: Iterable[str]) -> list[str]:
    """Return what journalctl is asked for: all records that may be believed, and as few others as its index allows.

    Args:
        senders: whose records are believed, of all parsers.
        identifiers: the syslog identifiers that are wanted; all if there are none.
    """
    units = sorted({unit for each in senders for unit in each.units})
    if any(set(unit) & set("*?[") for unit in units):
        units = []
    return [f"_SYSTEMD_UNIT={unit}" for unit in units] + [f"SYSLOG_IDENTIFIER={name}" for name in identifiers]


def newest(*arguments: str) -> float | None:
    """Return when the newest record that fits was received, in unix seconds; None if none does.

    Raises:
        LateError: there was no answer.
        SourceError: the journal cannot be read.
    """
    argv = [*COMMAND, *_OPTIONS, "--output-fields=_UID", "--lines=1", *arguments]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise LateError(f"journalctl did not answer within {_PATIENCE:.0f} seconds") from error
    except OSError as error:
        raise SourceError(_reason(error)) from error
    if done.returncode:
        raise SourceError(_complaint(done.stderr, done.returncode))
    found = _micros(_fields(done.stdout), "__REALTIME_TIMESTAMP")
    return None if found is None else found / 1e6


def check(*, known: bool) -> str | None:
    """Return what speaks against reading the journal, for people.

    Args:
        known: it has been read before, so if there is none now it will come.
    """
    try:  # without --system a user who may read nobody's records but his own would not be told so
        found = newest("--system")
    except LateError:
        return None
    except SourceError as error:
        return str(error)
    return NONE if found is None and not known else None


def _reason(error: OSError | SourceError) -> str:
    if isinstance(error, FileNotFoundError):
        return "journalctl is not installed; name a log file instead"
    if isinstance(error, OSError):
        return f"journalctl: {error.strerror}"
    return str(error)


def _complaint(said: bytes, code: int) -> str:
    """Return why journalctl ended, for people."""
    text = said.decode("utf-8", "backslashreplace").strip()
    if "permission" in text.lower():
        return "may not be read by this user; put it into the group systemd-journal"
    if text:
        return f"journalctl: {ascii(text.splitlines()[-1])[1:-1]}"
    return f"journalctl was ended by {signal.Signals(-code).name}" if code < 0 else f"journalctl ended with {code}"


def _fields(line: bytes) -> dict[str, Any]:
    """Return the fields of a record; none where it was cut because it is too long."""
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _record(fields: Mapping[str, Any], source: str, received: float, *, live: bool) -> Record | None:
    """Return the record of these fields; None if it has no message, or a field more than once.

    The pid is the client's own, as in a log file, and not the journal's: where one process logs for all the others,
    that would join their lines.
    """
    texts = {name: _text(fields[name]) for name in _FIELDS if name in fields}
    known = {name: text for name, text in texts.items() if text is not None}
    at = _micros(fields, "__REALTIME_TIMESTAMP")
    if len(known) < len(texts) or "MESSAGE" not in known or at is None:
        return None
    sent = _micros(fields, "_SOURCE_REALTIME_TIMESTAMP")
    return Record(
        time=(at if sent is None else sent) / 1e6,
        received=received,
        host=known.get("_HOSTNAME", b""),
        program=known.get("SYSLOG_IDENTIFIER", b""),
        pid=known.get("SYSLOG_PID", b""),
        message=known["MESSAGE"],
        trusted={name: known[name] for name in _TRUSTED if name in known},
        source=source,
        position=at,
        limit=min(received, at / 1e6),
        live=live,
    )


def _text(value: object) -> bytes | None:
    """Return a field's bytes: journalctl prints a text, or an array of bytes; an array of values has none."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    try:
        return bytes(value) if isinstance(value, list) else None
    except (TypeError, ValueError):
        return None


def _micros(fields: Mapping[str, Any], name: str) -> int | None:
    """Return a stamp in microseconds."""
    value = fields.get(name)
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else None
