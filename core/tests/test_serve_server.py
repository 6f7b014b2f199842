"""The sockets at which mail servers ask: who is answered, who is cut, and what is left when the socket is gone."""

# ruff: noqa: ASYNC240 - a test may wait for the disk

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pop_before_smtp import Lookup
from pop_before_smtp._serve import Server, Servers, server

LEASED = "203.0.113.7"
QUESTION, OK = b"17:relay 203.0.113.7,", b"5:OK OK,"
OTHER, NOT = b"17:relay 203.0.113.8,", b"9:NOTFOUND ,"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path / "relay"


@contextlib.asynccontextmanager
async def serving(path: Path | str, **keys: Any) -> AsyncIterator[Server]:
    listen = f"unix:{path}" if isinstance(path, Path) else path
    keys.setdefault("protocol", "socketmap")
    served = Server(Lookup(listen=listen, **keys), lambda address: address == LEASED)
    keeping = asyncio.create_task(served.keep())
    await until(lambda: served._listening or served.problem)
    try:
        yield served
    finally:
        keeping.cancel()
        served.close()
        await until(lambda: not served._connections)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)


async def told(streams: Streams, question: bytes, size: int) -> bytes:
    reader, writer = streams
    writer.write(question)
    return await reader.readexactly(size)


async def ended(streams: Streams) -> bytes:
    """Return what still comes before the server ends the connection."""
    reader, writer = streams
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def connect(path: Path) -> Streams:
    return await asyncio.open_unix_connection(path)


async def healthy(path: Path) -> None:
    """See to it that somebody else is served."""
    streams = await connect(path)
    assert await told(streams, QUESTION, 8) == OK
    streams[1].close()


def test_a_question_is_answered_in_the_same_connection(path: Path) -> None:
    async def story() -> None:
        async with serving(path) as served:
            streams = await connect(path)
            for _ in range(3):
                assert await told(streams, QUESTION, 8) == OK
                assert await told(streams, OTHER, 12) == NOT
            assert served.questions == 6
            streams[1].write_eof()
            assert await ended(streams) == b""
        assert not path.exists()

    run(story())


def test_the_mail_servers_own_spelling_is_undone(path: Path) -> None:
    async def story() -> None:
        async with serving(path, address=lambda text: text.removeprefix(b"ip:"), reply="yes"):
            streams = await connect(path)
            assert await told(streams, b"20:relay ip:203.0.113.7,", 9) == b"6:OK yes,"
            streams[1].close()

    run(story())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_network(host: str) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
            free.bind((host.strip("[]"), 0))
            port = free.getsockname()[1]
        async with serving(f"inet:{host}:{port}", protocol="policy") as served:
            assert served.problem is None
            streams = await asyncio.open_connection(host.strip("[]"), port)
            request = b"request=smtpd_access_policy\nclient_address=203.0.113.7\n\n"
            assert await told(streams, request, 11) == b"action=OK\n\n"
            streams[1].close()
            other = Server(Lookup(protocol="policy", listen=f"inet:{host}:{port}"), lambda _: False)
            await other.listen()
            assert other.problem == f"inet:{host}:{port}: Address already in use"

    run(story())


def test_a_long_pipeline_holds_up_nobody(path: Path) -> None:
    async def story() -> None:
        async with serving(path):
            many, one = await connect(path), await connect(path)
            many[1].write(QUESTION * 100_000)
            answers = asyncio.create_task(many[0].readexactly(8 * 100_000))
            turns = 0
            while not answers.done():
                assert await told(one, OTHER, 12) == NOT
                turns += 1
            assert await answers == OK * 100_000
            assert turns > 50
            for _, writer in (many, one):
                writer.close()

    run(story())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from([QUESTION, OTHER, QUESTION[:5], b"\n\n", b"9:"]) | st.binary(max_size=30)))
def test_any_bytes_are_answered_or_cut(path: Path, pieces: list[bytes]) -> None:
    async def story() -> None:
        async with serving(path):
            streams = await connect(path)
            for piece in pieces:
                streams[1].write(piece)
                await asyncio.sleep(0)
            with contextlib.suppress(OSError):
                streams[1].write_eof()
            said = await ended(streams)
            assert said.count(OK) <= b"".join(pieces).count(b"203.0.113.7")
            assert said.replace(OK, b"").replace(NOT, b"") == b""
            await healthy(path)

    run(story())


@pytest.mark.parametrize("begun", [QUESTION[:7], QUESTION + b"1"])
def test_a_request_that_does_not_end_is_cut(path: Path, begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.1)
    monkeypatch.setattr(server, "_SWEEP", 0.02)

    async def story() -> None:
        async with serving(path) as served:
            idle, slow = await connect(path), await connect(path)
            slow[1].write(begun)
            start = time.monotonic()
            assert await ended(slow) in {b"", OK}
            assert time.monotonic() - start >= 0.1
            await until(lambda: served._sweep is None)  # idle connections wake nobody
            assert await told(idle, QUESTION, 8) == OK
            idle[1].close()

    run(story())


def test_a_drip_of_bytes_does_not_buy_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.2)
    monkeypatch.setattr(server, "_SWEEP", 0.02)

    async def story() -> None:
        async with serving(path, protocol="policy"):
            slow = await connect(path)
            end = asyncio.create_task(ended(slow))
            start = time.monotonic()
            while not end.done():
                assert time.monotonic() - start < 5
                slow[1].write(b"x")
                await asyncio.sleep(0.02)
            assert await end == b""

    run(story())


def test_who_fetches_no_answers_is_asked_nothing_more_and_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.3)
    monkeypatch.setattr(server, "_SWEEP", 0.02)

    async def story() -> None:
        async with serving(path) as served:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX) as greedy:
                greedy.setblocking(False)
                await loop.sock_connect(greedy, str(path))
                asking = asyncio.create_task(loop.sock_sendall(greedy, QUESTION * 1_000_000))
                await until(lambda: served._connections)
                (connection,) = served._connections
                while not asking.done():
                    assert connection._transport.get_write_buffer_size() <= 32 * 1024
                    assert len(connection._dialogue._held) <= 32 * 1024
                    await asyncio.sleep(0.001)
                assert isinstance(asking.exception(), ConnectionError)
            assert served.questions < 100_000

    run(story())


def test_a_client_that_vanishes_takes_nobody_along(path: Path) -> None:
    async def story() -> None:
        async with serving(path) as served:
            for _ in range(50):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(path))
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.send(QUESTION * 500)
                await asyncio.sleep(0)
            await until(lambda: not served._connections)
            await healthy(path)

    run(story())


def test_two_thousand_connections(path: Path) -> None:
    async def story() -> None:
        async with serving(path) as served:
            clients = [await connect(path) for _ in range(2000)]
            for _, writer in clients:
                writer.write(QUESTION)
            for reader, _ in clients:
                assert await reader.readexactly(8) == OK
            assert len(served._connections) == 2000
            for _, writer in clients:
                writer.close()
            await until(lambda: not served._connections)

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8000, limits[1]), limits[1]))
    try:
        run(story())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_one_connection_too_many_is_ended_at_once(path: Path) -> None:
    async def story() -> None:
        async with serving(path) as served:
            served.most = 3
            clients = [await connect(path) for _ in range(3)]
            await until(lambda: len(served._connections) == 3)
            assert await ended(await connect(path)) == b""
            assert await told(clients[0], QUESTION, 8) == OK
            clients.pop()[1].close()
            await until(lambda: len(served._connections) == 2)
            clients.append(await connect(path))
            assert await told(clients[-1], QUESTION, 8) == OK
            for _, writer in clients:
                writer.close()

    run(story())


def test_who_may_ask(path: Path) -> None:
    async def story() -> None:
        async with serving(path, mode="0620"):
            status = await asyncio.to_thread(path.lstat)
            assert stat.S_IMODE(status.st_mode) == 0o620
            assert stat.S_ISSOCK(status.st_mode)
            assert os.listdir(path.parent) == ["relay"]  # noqa: PTH208 - the socket only

    run(story())


def test_a_socket_that_was_removed_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)
    monkeypatch.setattr(server, "_RETRY", 0.02)

    async def story() -> None:
        async with serving(path) as served:
            old = await connect(path)
            await asyncio.to_thread(path.unlink)
            await until(path.exists)
            for streams in (await connect(path), old):
                assert await told(streams, QUESTION, 8) == OK
                streams[1].close()
            path.unlink()
            path.parent.rename(path.parent.with_name("away"))
            await until(lambda: served.problem)
            assert served.problem == f"unix:{path}: No such file or directory"
            path.parent.with_name("away").rename(path.parent)
            await until(path.exists)
            await until(lambda: served.problem is None)

    run(story())
    again = f"unix:{path} was removed or replaced; listening there again"
    assert caplog.messages[:2] == [again, f"unix:{path}: No such file or directory; trying again"]


def test_what_another_program_put_there_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)
    monkeypatch.setattr(server, "_RETRY", 0.02)

    async def story() -> None:
        async with serving(path) as served:
            path.unlink()
            with socket.socket(socket.AF_UNIX) as other:
                other.bind(str(path))
                other.listen()
                await until(lambda: served.problem)
                assert served.problem == f"unix:{path}: another program listens there"
                ours = path.stat().st_ino
            await until(lambda: path.stat().st_ino != ours)
            await until(lambda: served.problem is None)
            path.unlink()
            path.write_text("x")
            await until(lambda: served.problem)
        assert path.read_text() == "x"

    run(story())


def test_a_reload_keeps_the_sockets_that_are_wanted_again(path: Path) -> None:
    kept = Lookup(protocol="socketmap", listen=f"unix:{path}")
    gone = Lookup(protocol="socketmap", listen=f"unix:{path}2")

    async def story() -> None:
        with contextlib.closing(Servers()) as servers:
            await servers.take({kept: lambda _: False, gone: lambda _: False})
            streams = await connect(path)
            assert await told(streams, QUESTION, 12) == NOT
            before = path.stat().st_ino
            await servers.take({kept: lambda address: address == LEASED})
            assert await told(streams, QUESTION, 8) == OK
            assert path.stat().st_ino == before
            assert not path.with_name("relay2").exists()
            streams[1].close()
        assert not path.exists()
        await asyncio.sleep(0.01)

    run(story())


def test_where_few_files_may_be_open_fewer_connections_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1500))
    set_to = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    assert server._room(2) == 500
    assert set_to == [(1500, 1500)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert server._room(2) == 2500
    assert len(set_to) == 1


def test_room_is_made_for_all_connections(path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lookup = Lookup(protocol="socketmap", listen=f"unix:{path}")

    async def story() -> None:
        with contextlib.closing(Servers()) as servers:
            await servers.take({})
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
            await servers.take({lookup: lambda _: False})
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 3000
            assert servers[lookup].most == 2500

    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        run(story())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
