"""A mail server that asks the daemon: what it is told, and when, with real files and sockets and a clock to turn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import ConfigError, _cli
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config, build
from pop_before_smtp._daemon import Daemon
from pop_before_smtp._serve import Servers, server
from pop_before_smtp.testing import FakeClock

LOOKUP = """
from attrs import frozen
from pop_before_smtp import Lookup, Writer, hookimpl

@frozen(kw_only=True)
class Settings:
    map: str
    allow_remote: bool = False

@hookimpl
def pop_before_smtp_writers():
    yield Writer(name="asked", settings=Settings, open=lambda settings: Lookup(
        protocol="socketmap", listen=settings.map, mode="0666", allow_remote=settings.allow_remote))
"""
ADDRESS = "203.0.113.7"


class Site:
    """A log, a socket and a state below one folder, and the configuration for them."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.log = folder / "mail.log"
        self.socket = folder / "relay"
        self.log.touch()

    def data(self, **keys: Any) -> dict[str, Any]:
        return {
            "plugins": ["popd", "asked"],
            "state_dir": str(self.folder / "state"),
            "source": [{"path": str(self.log)}],
            "writer": [{"use": "asked", "map": f"unix:{self.socket}", "netblocks": []}],
            **keys,
        }

    def config(self, **keys: Any) -> Config:
        return build(self.data(**keys))

    def login(self, address: str = ADDRESS, ago: float = 0.0) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - ago))
        with self.log.open("a") as log:
            log.write(f"{stamp} mail popd: login ann from {address}\n")

    async def asked(self, address: str = ADDRESS) -> bool:
        return await asyncio.to_thread(ask, self.socket, address)


def ask(path: Path, address: str) -> bool:
    """Tell whether an address is found."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        return answered(client, address)


def answered(client: socket.socket, address: str) -> bool:
    key = f"relay {address}"
    client.sendall(f"{len(key)}:{key},".encode())
    said = client.recv(100)
    assert said in {b"5:OK OK,", b"9:NOTFOUND ,"}
    return said == b"5:OK OK,"


@pytest.fixture
def site(tmp_path: Path, parser_plugin: str, install: Callable[..., str]) -> Site:
    assert parser_plugin == "popd"
    install("asked", LOOKUP)
    return Site(tmp_path)


@contextlib.asynccontextmanager
async def running(config: Config, clock: Clock | None = None, **keys: Any) -> AsyncIterator[Daemon]:
    daemon = Daemon(config, clock or Clock(), **keys)
    ready = asyncio.Event()
    task = asyncio.create_task(daemon.run(ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if task.done():
            await task
        yield daemon
    finally:
        daemon.stop(config if "servers" in keys else None)
        await task


async def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while True:
        now = condition()
        if await now if asyncio.iscoroutine(now) else now:
            return
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)


def test_a_login_is_found_and_nobody_else(site: Site) -> None:
    async def story() -> None:
        async with running(site.config()):
            assert not await site.asked()
            site.login()
            await until(site.asked)
            for other in ("203.0.113.70", "203.0.113", "unknown", "::ffff:203.0.113.7", "203.0.113.7%lo", ""):
                assert not await site.asked(other)
        assert not await asyncio.to_thread(site.socket.exists)
        async with running(site.config()):
            assert await site.asked(), "a restart keeps the lease"

    asyncio.run(story())


def test_the_deadline_is_looked_at_when_the_question_comes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when expiry comes round to it."""
    clock: Any = FakeClock(time.time())

    async def never(_: Daemon) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Daemon, "_expire", never)

    async def story() -> None:
        async with running(site.config(), clock) as daemon:
            site.login()
            await until(site.asked)
            with socket.socket(socket.AF_UNIX) as session:
                session.connect(str(site.socket))
                clock.advance(1790)
                assert await asyncio.to_thread(answered, session, ADDRESS)
                clock.advance(11)
                assert not await asyncio.to_thread(answered, session, ADDRESS)
            assert len(daemon._engine.outlets[0].leases) == 1

    asyncio.run(story())


def test_nothing_grows(site: Site) -> None:
    async def story() -> None:
        async with running(site.config()) as daemon:
            for number in range(200):
                site.login(f"203.0.113.{number}")
            await until(lambda: site.asked("203.0.113.199"))
            assert daemon._engine.outlets[0]._changes == {}

    asyncio.run(story())


def test_a_reload_leaves_connections_open(site: Site) -> None:
    async def story() -> None:
        with contextlib.closing(Servers()) as servers, socket.socket(socket.AF_UNIX) as session:
            async with running(site.config(), servers=servers):
                site.login()
                await until(site.asked)
                session.connect(str(site.socket))
                assert await asyncio.to_thread(answered, session, ADDRESS)
            async with running(site.config(grace="1d"), servers=servers):
                assert await asyncio.to_thread(answered, session, ADDRESS)
            refusing = site.config(policy={"refuse": ["203.0.113.0/24"]})
            async with running(refusing, servers=servers):
                assert not await asyncio.to_thread(answered, session, ADDRESS), "today's configuration counts"

    asyncio.run(story())


def test_a_socket_that_is_gone_is_a_problem_in_the_status(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)
    monkeypatch.setattr(server, "_RETRY", 0.02)

    async def story() -> None:
        (site.folder / "sockets").mkdir(mode=0o755)
        site.socket = site.folder / "sockets" / "relay"
        async with running(site.config()) as daemon:

            def status() -> dict[str, Any]:
                (found,) = daemon._status()["writers"]
                return dict(found)

            assert status() == {"writer": f"unix:{site.socket}", "leases": 0, "problem": None, "written": None}
            site.socket.parent.rename(site.folder / "away")
            await until(lambda: status()["problem"])
            assert status()["problem"] == f"unix:{site.socket}: No such file or directory"
            (site.folder / "away").rename(site.socket.parent)
            site.login()
            await until(lambda: status()["problem"] is None)
            await until(site.asked)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"map": "unix:relay"}, "writer[0].map: "),
        ({"map": "unix:/nosuch/relay"}, "writer[0].map: /nosuch does not exist"),
        ({"map": "inet:0.0.0.0:7777"}, "writer[0].map: other machines reach 0.0.0.0; "),
    ],
)
def test_what_speaks_against_starting(site: Site, keys: dict[str, Any], says: str) -> None:
    async def story() -> None:
        async with running(site.config(writer=[{"use": "asked", **keys}])):
            pass

    with pytest.raises(ConfigError) as caught:
        asyncio.run(story())
    (problem,) = caught.value.problems
    assert problem.startswith(says)


def test_two_writers_at_one_socket(site: Site) -> None:
    async def story() -> None:
        async with running(site.config(writer=site.data()["writer"] * 2)):
            pass

    with pytest.raises(ConfigError, match="two writers keep unix:"):
        asyncio.run(story())


def test_the_commands(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    file = site.folder / "pop-before-smtp.toml"
    file.write_text(f"""
        plugins = ["popd", "asked"]
        state_dir = "{site.folder}/state"
        [[source]]
        path = "{site.log}"
        [[writer]]
        use = "asked"
        map = "unix:{site.socket}"
    """)

    def said(*command: str) -> str:
        assert _cli.run([*command, "-c", str(file)]) == 0
        return capsys.readouterr().out

    async def story() -> None:
        async with running(site.config()):
            site.login()
            await until(site.asked)
            assert f'map = "unix:{site.socket}"' in await asyncio.to_thread(said, "check")

    asyncio.run(story())
    assert ADDRESS in said("list")
    assert f"unix:{site.socket}: may relay for" in said("why", ADDRESS)
    said("purge")
    assert sorted(path.name for path in site.folder.iterdir()) == ["mail.log", file.name, "site", "state"]
