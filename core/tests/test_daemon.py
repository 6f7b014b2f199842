"""The whole pipeline in one process: real files, a real map, real time where only real time will do."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import ConfigError
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config, build
from pop_before_smtp._daemon import Daemon
from pop_before_smtp._statereader import read

DEADLINE = 10.0


class Site:
    """A log, a map and a state below one folder, and the configuration for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "mail.log"
        self.map = folder / "maps" / "relay"
        self.map.parent.mkdir(mode=0o755)
        self.log.touch()

    def config(self, grace: object = "30m", **keys: Any) -> Config:
        writer = {"use": "textfile", "map": str(self.map), **keys.pop("outlet", {})}
        data = {
            "plugins": ["popd", "textfile"],
            "grace": grace,
            "state_dir": str(self.folder / "state"),
            "source": [{"path": str(self.log)}],
            "writer": [writer],
            **keys,
        }
        return build(data)

    def login(self, address: str, user: str = "ann", ago: float = 0.0, program: str = "popd") -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - ago))
        with self.log.open("a") as log:
            log.write(f"{stamp} mail {program}: login {user} from {address}\n")

    def keys(self) -> set[str]:
        return set(self.map.read_text().split())


@pytest.fixture
def site(tmp_path: Path, parser_plugin: str, writer_plugin: str) -> Site:
    assert (parser_plugin, writer_plugin) == ("popd", "textfile")
    return Site(tmp_path)


@contextlib.asynccontextmanager
async def running(config: Config, *, kill: bool = False) -> AsyncIterator[Daemon]:
    daemon = Daemon(config, Clock())
    ready = asyncio.Event()
    task = asyncio.create_task(daemon.run(ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiting], timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if task.done():
            await task
        yield daemon
    finally:
        daemon.stop(config if kill else None)
        await task


async def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)


def test_a_login_opens_and_the_end_of_its_lease_closes(site: Site) -> None:
    async def story() -> None:
        async with running(site.config(grace=1)):
            assert site.keys() == set()
            site.login("203.0.113.7")
            site.login("203.0.113.66", program="smtpd")
            await until(lambda: site.keys() == {"203.0.113.7"}, 2)
            began = time.monotonic()
            await until(lambda: site.keys() == set())
            assert time.monotonic() - began < 2.1  # stamps have whole seconds: the lease is shorter, never longer

    asyncio.run(story())


def test_a_restart_keeps_the_lease_and_a_clean_end_empties_the_map(site: Site) -> None:
    async def story() -> None:
        async with running(site.config()):
            site.login("203.0.113.7")
            await until(lambda: site.keys() == {"203.0.113.7"})
        assert site.keys() == set()
        async with running(site.config()):
            assert site.keys() == {"203.0.113.7"}
        async with running(site.config(policy={"refuse": ["203.0.113.0/24"]})):
            assert site.keys() == set(), "today's configuration counts, not that of the login"

    asyncio.run(story())


def test_logins_from_before_the_first_start_count_by_their_own_time(site: Site) -> None:
    site.login("203.0.113.1", ago=7200)
    site.login("203.0.113.2", ago=1700)
    site.login("203.0.113.3", ago=10)

    async def story() -> None:
        async with running(site.config()):
            assert site.keys() == {"203.0.113.2", "203.0.113.3"}

    asyncio.run(story())


def test_on_exit_keep_leaves_the_map(site: Site) -> None:
    async def story() -> None:
        async with running(site.config(outlet={"on_exit": "keep"})):
            site.login("203.0.113.7")
            await until(lambda: site.keys() == {"203.0.113.7"})

    asyncio.run(story())
    assert site.keys() == {"203.0.113.7"}


def test_a_foreign_map_stays_as_it_is(site: Site) -> None:
    site.map.write_text("192.0.2.1\n")
    with pytest.raises(ConfigError, match=r"writer\[0\]\.map: .* was not written by us and stays as it is"):
        asyncio.run(_start(site.config()))
    assert site.map.read_text() == "192.0.2.1\n"
    asyncio.run(_start(site.config(outlet={"adopt": True})))
    assert site.map.read_text() == ""


def test_everything_that_speaks_against_starting_is_said_at_once(site: Site) -> None:
    config = site.config(
        source=[{"path": str(site.folder / "nosuch.log")}],
        outlet={"map": "/nosuch/relay", "netblocks": ["0.0.0.0/0"]},
    )
    with pytest.raises(ConfigError) as caught:
        asyncio.run(_start(config))
    keys = [line.split(":")[0] for line in caught.value.problems]
    assert keys == ["writer[0].netblocks", "source[0].path", "writer[0].map"]


def test_a_log_that_may_come_later_is_waited_for(site: Site) -> None:
    later = site.folder / "later.log"

    async def story() -> None:
        async with running(site.config(source=[{"path": str(later), "missing": "wait"}])):
            site.log = later
            site.login("203.0.113.7")
            await until(lambda: site.keys() == {"203.0.113.7"})

    asyncio.run(story())


def test_two_daemons_do_not_share_a_state(site: Site) -> None:
    async def story() -> None:
        async with running(site.config()):
            with pytest.raises(ConfigError, match="state_dir: another pop-before-smtp"):
                await Daemon(site.config(), Clock()).run()

    asyncio.run(story())


def test_a_dry_run_touches_nothing(site: Site) -> None:
    site.login("203.0.113.7")

    async def story() -> None:
        daemon = Daemon(site.config(), Clock(), write=False)
        ready = asyncio.Event()
        task = asyncio.create_task(daemon.run(ready.set))
        await asyncio.wait_for(ready.wait(), DEADLINE)
        daemon.stop()
        await task
        assert daemon.counts()["logins"] == 1

    asyncio.run(story())
    assert not site.map.exists()
    assert not (site.folder / "state").exists()


def test_what_was_decided_is_counted(site: Site) -> None:
    async def story() -> Daemon:
        async with running(site.config(policy={"exempt": ["198.51.100.0/24"]})) as daemon:
            for address in ("203.0.113.7", "203.0.113.7", "198.51.100.1", "127.0.0.1"):
                site.login(address)
            await until(lambda: daemon.counts()["loopback"] == 1)
        return daemon

    counts = asyncio.run(story()).counts()
    assert (counts["logins"], counts["exempt"], counts["loopback"]) == (2, 1, 1)


def test_the_state_says_who_and_when(site: Site) -> None:
    async def story() -> None:
        async with running(site.config()):
            site.login("203.0.113.7", user="ann")
            site.login("203.0.113.7", user="bob")
            await until(lambda: site.keys() == {"203.0.113.7"})

    asyncio.run(story())
    with read(site.folder / "state") as state:
        assert [(login.address, login.user, login.service) for login in state.logins(0)] == [
            ("203.0.113.7", "ann", "pop3"),
            ("203.0.113.7", "bob", "pop3"),
        ]


def test_a_new_configuration_is_taken_over_without_closing_the_map(site: Site) -> None:
    async def story() -> None:
        async with running(site.config(), kill=True):
            site.login("203.0.113.7")
            await until(lambda: site.keys() == {"203.0.113.7"})
        assert site.keys() == {"203.0.113.7"}

    asyncio.run(story())


def test_a_bug_in_a_map_ends_the_daemon(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    config = site.config()
    target = config.writers[0].writer.open(config.writers[0].settings)
    monkeypatch.setattr(type(target), "write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(_start(config))


async def _start(config: Config) -> None:
    async with running(config):
        pass
