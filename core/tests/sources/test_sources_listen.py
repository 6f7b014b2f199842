"""The socket that a syslog daemon sends to: one datagram is one record, whatever is in it."""

from __future__ import annotations

import asyncio
import grp
import os
import random
import socket
import stat
import time
import zoneinfo
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Self

import pytest
from pop_before_smtp._config import Config, SourceSettings
from pop_before_smtp._match import Matcher
from pop_before_smtp._record import Layout, Records
from pop_before_smtp._sockets import identity, make
from pop_before_smtp._sources import listen, open_sources, problem
from pop_before_smtp._sources.listen import SocketSource
from pop_before_smtp._trust import Trust
from pop_before_smtp.api import LOGIN, LogParser, LogPattern, Record
from pop_before_smtp.testing import FakeClock

Until = Callable[[Callable[[], object]], Awaitable[None]]
NOW = time.mktime((2026, 11, 22, 9, 5, 40, 0, 0, -1))
POPD = LogParser(
    name="popd",
    patterns=[
        LogPattern(kind=LOGIN, program=rb"popd", message=rb"login ok from (?P<ip>\S+)", contains=[b"login ok from "])
    ],
)


class Socket:
    """A SocketSource being read, in an ``async with``."""

    def __init__(self, path: Path, *, mode: int = 0o600, group: str | None = None, hosts: tuple[str, ...] = ()) -> None:
        self.path = path
        self.clock = FakeClock(NOW)
        layout = Layout(format="syslog", trust=Trust("socket", hosts=hosts), local=True)
        self.source = SocketSource("socket", path, layout, self.clock, mode=mode, group=group)
        self.batches: asyncio.Queue[Records] = asyncio.Queue()
        self.sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._collect(self.source.batches()))
        await self.source.caught_up.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sender.close()
        self._task.cancel()
        await asyncio.wait([self._task])
        assert self._task.cancelled()

    async def _collect(self, batches: AsyncIterator[Records]) -> None:
        async for batch in batches:
            self.batches.put_nowait(batch)

    def send(self, data: bytes) -> None:
        self.sender.sendto(data, str(self.path))

    async def records(self, count: int) -> list[Record]:
        records: list[Record] = []
        while len(records) < count:
            records += (await self.batches.get()).records
        return records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("datagram", "host", "program", "pid", "message"),
    [
        (b"<22>Nov 22 09:05:40 mx dovecot: imap-login: Login\n", b"mx", b"dovecot", b"", b"imap-login: Login"),
        (b"<22>Nov 22 09:05:40 dovecot: imap-login: Login", b"", b"dovecot", b"", b"imap-login: Login"),
        (b"<22>Nov 22 09:05:40 imapd[4242]: Login user=a", b"", b"imapd", b"4242", b"Login user=a"),
        (b"<22>Nov 22 09:05:40 mx imapd[4242]: Login user=a\n\0", b"mx", b"imapd", b"4242", b"Login user=a"),
        (b"<22>1 {iso} mx imapd 4242 - - Login user=a\n", b"mx", b"imapd", b"4242", b"Login user=a"),
        (b'<22>1 {iso} - imapd - ID47 [a@1 b="c"] Login user=a', b"", b"imapd", b"", b"Login user=a"),
        (b"<22>{iso} mx imapd[4242]: Login user=a", b"mx", b"imapd", b"4242", b"Login user=a"),
        (b"{iso} mx imapd[4242]: Login user=a\n", b"mx", b"imapd", b"4242", b"Login user=a"),
        (b"<22>{iso} imapd[4242]: Login user=a", b"", b"imapd", b"4242", b"Login user=a"),
    ],
)
async def test_every_form_of_a_record(  # noqa: PLR0917 - a row of the table
    datagram: bytes, host: bytes, program: bytes, pid: bytes, message: bytes, path: Path
) -> None:
    iso = time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime(NOW)).encode()
    async with Socket(path) as listening:
        listening.send(datagram.replace(b"{iso}", iso))
        (record,) = await listening.records(1)
    assert record == Record(
        time=NOW, received=NOW, host=host, program=program, pid=pid, message=message, source="socket", limit=NOW
    )
    assert record.live


async def test_the_settings_of_a_socket_count(path: Path) -> None:
    zone = zoneinfo.ZoneInfo("Asia/Tokyo")
    settings = SourceSettings(listen=path, timezone=zone, hosts=("mx",), mode="0620")
    (source,) = open_sources(Config(sources=(settings,)), FakeClock(NOW), {})
    batches = source.batches()
    first = asyncio.ensure_future(anext(batches))
    await source.caught_up.wait()
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o620
    stamp = datetime.fromtimestamp(NOW, zone).strftime("%b %d %H:%M:%S").encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"<22>" + stamp + b" other popd: login ok from 203.0.113.7", str(path))
    batch = await first
    assert isinstance(batch, Records)
    assert batch.records[0].time == NOW
    assert batch.trust.refusal("popd", b"other", {}) == "other_host"
    assert source.name == f"socket {path}"
    following = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    following.cancel()
    await asyncio.wait([following])
    assert os.listdir(path.parent) == []  # noqa: PTH208 - the socket is gone


async def test_a_newline_begins_no_record(path: Path) -> None:
    line = b"<22>Nov 22 09:05:40 mx popd: login ok from "
    forged = b"<22>Nov 22 09:05:40 mx popd: login failed for x\n" + line + b"198.51.100.66"
    async with Socket(path) as listening:
        for datagram in (forged, forged + b"\n", b"\n" + line + b"198.51.100.66", line + b"203.0.113.7"):
            listening.send(datagram)
        records = await listening.records(3)
    assert [record.message.count(b"\n") for record in records] == [1, 1, 0]
    matcher = Matcher([POPD])
    assert [event.address for record in records for event in matcher.events(record)] == ["203.0.113.7"]


async def test_a_file_is_not_taken_apart_like_that() -> None:
    line = b"<22>Nov 22 09:05:40 dovecot: mx popd: login ok from 203.0.113.7"
    assert Layout(format="syslog").split(line, NOW, live=True) is None
    assert Layout(format="syslog", local=True).split(line[4:], NOW, live=True) is None


async def test_junk_is_no_record(path: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    async with Socket(path) as listening:
        listening.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for size in (0, 1, 2, 100, 65536, 200_000):
            listening.send(chance.randbytes(size))
            listening.send(b"\n" * size)
            await asyncio.sleep(0)
        listening.send(b"<22>Nov 22 09:05:40 mx popd: \xff\x00\xfe")
        (record,) = await listening.records(1)
    assert record.message == b"\xff\x00\xfe"


async def test_a_record_that_is_too_long_grants_nothing(path: Path) -> None:
    line = b"<22>Nov 22 09:05:40 mx popd: login ok from 203.0.113.7"
    sizes = []
    matcher = Matcher([POPD])
    async with Socket(path) as listening:
        for end in (b"\0" * 60000, b" " * 8000 + b"\n" * 600, b"\n"):
            listening.send(line + end)
            batch = await listening.batches.get()
            sizes.append(len(batch.records[0].message))
            assert len(list(matcher.feed(batch))) == (end == b"\n")
    assert max(sizes) < 9000
    assert matcher.counts == {"lines_cut": 1}


async def test_many_records_are_taken_together_while_others_run(path: Path) -> None:
    def send() -> None:
        for number in range(5000):
            listening.send(b"<22>Nov 22 09:05:40 mx popd: %d" % number)

    async with Socket(path) as listening:
        sending = asyncio.to_thread(send)
        records: list[Record] = []
        sizes: list[int] = []
        task = asyncio.create_task(sending)
        while len(records) < 5000:
            batch = await listening.batches.get()
            sizes.append(len(batch.records))
            records += batch.records
        await task
    assert [record.message for record in records] == [b"%d" % number for number in range(5000)]
    assert max(sizes) <= 256
    assert len(sizes) < 5000


async def test_who_may_send(path: Path) -> None:
    group = grp.getgrgid(os.getegid()).gr_name
    async with Socket(path, mode=0o620, group=group):
        status = identity(path), os.lstat(path)
        assert stat.S_IMODE(status[1].st_mode) == 0o620
        assert stat.S_ISSOCK(status[1].st_mode)
        assert status[1].st_gid == os.getegid()
        assert os.listdir(path.parent) == ["log"]  # noqa: PTH208 - the socket only
    assert os.listdir(path.parent) == []  # noqa: PTH208 - as above


async def test_the_hosts_of_a_socket(path: Path) -> None:
    async with Socket(path, hosts=("mx",)) as listening:
        for host in (b"mx ", b"other ", b""):
            listening.send(b"<22>Nov 22 09:05:40 " + host + b"popd: login ok from 203.0.113.7")
        matcher = Matcher([POPD])
        batch = await listening.batches.get()
        assert len(batch.records) == 3
        assert len(list(matcher.feed(batch))) == 1
    assert matcher.counts == {"other_host": 2}


async def test_an_abandoned_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind(str(path))
    async with Socket(path) as listening:
        assert listening.source.up
        listening.send(b"<22>Nov 22 09:05:40 mx popd: x")
        await listening.records(1)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_another_programs_socket_is_left_alone(
    path: Path, kind: socket.SocketKind, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listen, "_PAUSE", 0.02)
    caplog.set_level("INFO")
    other = socket.socket(socket.AF_UNIX, kind)
    other.bind(str(path))
    if kind is socket.SOCK_STREAM:
        other.listen()
    async with Socket(path) as listening:
        assert not listening.source.up
        assert listening.source.problem in {
            f"{path}: another program listens there",
            f"{path}: is another program's socket (Protocol wrong type for socket)",
        }
        await asyncio.sleep(0.1)
        other.close()
        await until(lambda: listening.source.up)
        listening.send(b"<22>Nov 22 09:05:40 mx popd: x")
        await listening.records(1)
    assert [message.rpartition("; ")[2] for message in caplog.messages] == [
        "trying again",
        f"{path} is listened at now",
    ]


async def test_a_socket_that_was_removed_is_made_anew(
    path: Path, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listen, "TICK", 0.02)
    async with Socket(path) as listening:
        await asyncio.to_thread(path.unlink)
        await until(path.exists)
        listening.send(b"<22>Nov 22 09:05:40 mx popd: x")
        await listening.records(1)
    assert caplog.messages == [f"{path} was removed or replaced; listening there again"]


async def test_what_another_program_put_there_is_not_removed(path: Path) -> None:
    async with Socket(path):
        await asyncio.to_thread(path.unlink)
        await asyncio.to_thread(path.write_text, "x")
    assert await asyncio.to_thread(path.read_text) == "x"


def test_nothing_is_left_of_a_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "rename", refuse)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names only
    with pytest.raises(PermissionError):
        make(path, 0o600, None)
    assert not list(path.parent.iterdir())
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 - as above
    with pytest.raises(OSError, match='there is no group "no-such-group"'):
        make(path, 0o600, "no-such-group")


def test_what_speaks_against_a_socket(path: Path) -> None:
    assert problem(SourceSettings(listen=path), ()) is None
    long = path.parent / ("x" * 107)
    assert "is longer than the 107 bytes that a socket's path may have" in (
        problem(SourceSettings(listen=long), ()) or ""
    )
    assert "does not exist; create it with" in (problem(SourceSettings(listen=path / "x"), ()) or "")
    grouped = SourceSettings(listen=path, group="no-such-group")
    assert problem(grouped, ()) == 'there is no group "no-such-group"; create it or name another in group'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind(str(path))
        assert problem(SourceSettings(listen=path), ()) is None
    path.unlink()
    path.write_text("")
    text = f"{path} is no socket and stays as it is; name another path or move it away"
    assert problem(SourceSettings(listen=path), ()) == text
    path.parent.chmod(0o777)
    assert "is writable by others" in (problem(SourceSettings(listen=path), ()) or "")


@pytest.mark.parametrize("name", ["xx", "x", "~x", "~"])
def test_the_longest_path_can_be_bound(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("d" * (106 - len(name)), name)
    path.parent.mkdir()
    with make(path, 0o600, None):
        assert len(os.fsencode(path)) == 107
        assert [each.name for each in path.parent.iterdir()] == [name]
