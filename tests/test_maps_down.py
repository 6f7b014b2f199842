"""How each type of map goes down: at a clean end, by ``purge``, and where a removal cannot be written."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from maptypes import TYPES, MapType, config, folder
from pop_before_smtp._cli._purge import purge
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config
from pop_before_smtp._daemon import Daemon
from pop_before_smtp._mapthread import Upkeep
from pop_before_smtp.errors import MapError
from pop_before_smtp.testing import FakeClock
from pop_before_smtp.testing._writers import full_disk

__all__ = ["folder"]

OLD = frozenset({"203.0.113.7", "2001:db8:9::10", *(f"198.51.100.{n}" for n in range(200))})
LEFT = frozenset({"203.0.113.7"})
NONE: frozenset[str] = frozenset()
TEETH = 10.0
every_type = pytest.mark.parametrize("name", TYPES)


# -- the clean end, and purge: one daemon with all types at once


def run(settings: Config, *, kill: bool = False) -> None:
    """Run a daemon until every map is right, and end it."""

    async def story() -> None:
        daemon = Daemon(settings, Clock())
        ready = asyncio.Event()
        task = asyncio.create_task(daemon.run(ready.set))
        await asyncio.wait([task, asyncio.create_task(ready.wait())], timeout=20, return_when=asyncio.FIRST_COMPLETED)
        daemon.stop(settings if kill else None)
        await task
        assert ready.is_set()

    asyncio.run(story())


def every(folder: Path, **keys: object) -> Config:
    """Return the configuration with all types."""
    return config(folder, *({**each.keys(folder / name), **keys} for name, each in TYPES.items()))


def login(folder: Path, address: str) -> None:
    """Let Dovecot log a login of now."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    with (folder / "mail.log").open("a") as log:
        log.write(f"{stamp} mail dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip={address}, lip=192.0.2.1\n")


def held(folder: Path) -> dict[str, set[str]]:
    """Return what each map holds; what always stays has to be there."""
    return {name: each.holds(folder / name) for name, each in TYPES.items()}


@pytest.mark.parametrize(("on_exit", "left"), [("clear", set[str]()), ("keep", {"203.0.113.7", "2001:db8:9::10"})])
def test_a_clean_end_leaves_no_map_missing(folder: Path, on_exit: str, left: set[str]) -> None:
    for address in ("203.0.113.7", "2001:db8:9::10"):
        login(folder, address)
    run(every(folder, on_exit=on_exit))
    assert held(folder) == dict.fromkeys(TYPES, left)
    beside = [
        path for name, each in TYPES.items() for path in (folder / name).iterdir() if path != each.path(folder / name)
    ]
    assert beside == []


def test_purge_ends_leases_and_leaves_no_map_missing(folder: Path) -> None:
    login(folder, "203.0.113.7")
    settings = every(folder)
    run(settings, kill=True)
    clock = FakeClock(time.time())
    purge(settings, clock)
    assert held(folder) == dict.fromkeys(TYPES, LEFT)
    clock.advance(1801)
    purge(settings, clock)
    assert held(folder) == dict.fromkeys(TYPES, NONE)


def test_purge_goes_on_where_one_map_cannot_be_written(folder: Path) -> None:
    login(folder, "203.0.113.7")
    settings = every(folder)
    run(settings, kill=True)
    (folder / "lmdb").rename(folder / "aside")
    with pytest.raises(MapError, match=r"cannot write .*/lmdb/map\.lmdb"):
        purge(settings, FakeClock(time.time() + 1801))
    (folder / "aside").rename(folder / "lmdb")
    assert held(folder) == dict.fromkeys(TYPES, NONE) | {"lmdb": {"203.0.113.7"}}


# -- removals that cannot be written


@contextmanager
def directory_gone(directory: Path) -> Iterator[None]:
    aside = directory.rename(directory.with_name("aside"))
    yield
    aside.rename(directory)


@contextmanager
def disk_full(directory: Path) -> Iterator[None]:
    assert directory.is_dir()
    with full_disk(0):
        yield


def built(map_type: MapType, directory: Path) -> tuple[Upkeep, FakeClock]:
    """Return a map that holds ``OLD`` and is at rest."""
    clock = FakeClock()
    upkeep = Upkeep(map_type.open(directory), "test", 0.0)
    upkeep.take(dict.fromkeys(OLD, True), clock.now())
    assert upkeep.work(clock.now)
    assert map_type.holds(directory) == OLD
    clock.advance(5)
    return upkeep, clock


def work_until(upkeep: Upkeep, clock: FakeClock, end: Callable[[], bool], within: float) -> None:
    """Work whenever something is due."""
    start = clock.now()
    upkeep.work(clock.now)
    while not end():
        due = upkeep.due()
        assert due is not None
        assert due - start <= within, "it did not happen in time"
        clock.advance(max(0.0, due - clock.now()))
        upkeep.work(clock.now)


@every_type
def test_a_removal_on_a_full_disk_ends_in_the_empty_map(
    folder: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    map_type, directory = TYPES[name], folder / name
    upkeep, clock = built(map_type, directory)
    upkeep.take(dict.fromkeys(OLD - LEFT, False), clock.now())
    with disk_full(directory):
        work_until(upkeep, clock, lambda: caplog.records[-1].levelno == logging.CRITICAL, TEETH)
    assert map_type.holds(directory) == set()
    work_until(upkeep, clock, lambda: upkeep.problem is None, 5.0)
    assert map_type.holds(directory) == LEFT
    upkeep.finish(clear=True)


@every_type
def test_a_removal_without_the_directory_is_an_alarm_until_it_is_back(
    folder: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    map_type, directory = TYPES[name], folder / name
    upkeep, clock = built(map_type, directory)
    upkeep.take(dict.fromkeys(OLD - LEFT, False), clock.now())
    with directory_gone(directory):
        work_until(upkeep, clock, lambda: caplog.records[-1].levelno == logging.CRITICAL, TEETH)
        assert "expired addresses may still relay" in caplog.text
    work_until(upkeep, clock, lambda: upkeep.problem is None, 5.0)
    assert map_type.holds(directory) == LEFT
    upkeep.finish(clear=True)


@every_type
@pytest.mark.parametrize("cause", [directory_gone, disk_full])
def test_an_addition_that_cannot_be_written_takes_nothing_away(
    folder: Path, name: str, cause: Callable[[Path], AbstractContextManager[None]]
) -> None:
    map_type, directory = TYPES[name], folder / name
    upkeep, clock = built(map_type, directory)
    new = {f"192.0.2.{n}": True for n in range(250)}
    upkeep.take(new, clock.now())
    with cause(directory):
        for _ in range(20):
            assert not upkeep.work(clock.now)
            clock.advance(5)
    assert map_type.holds(directory) == OLD
    assert upkeep.work(clock.now)
    assert map_type.holds(directory) == OLD | new.keys()
    upkeep.finish(clear=True)


# -- locks of others


@contextmanager
def locked_by_another(path: Path) -> Iterator[None]:
    """Hold all locks that there are on a file, in another process that may only read it."""
    code = f"""
import fcntl, sys
file = open({str(path)!r}, "rb")
fcntl.flock(file, fcntl.LOCK_EX)
fcntl.lockf(file, fcntl.LOCK_SH)
print(flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        yield
        process.communicate(b"")


@every_type
def test_locks_of_others_delay_a_removal_by_no_more_than_a_second(folder: Path, name: str) -> None:
    map_type, directory = TYPES[name], folder / name
    upkeep, clock = built(map_type, directory)
    upkeep.take(dict.fromkeys(OLD - LEFT, False), clock.now())
    with locked_by_another(map_type.path(directory)):
        with map_type.path(directory).open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        start = time.thread_time(), time.monotonic()
        assert upkeep.work(clock.now)
        busy, waited = time.thread_time() - start[0], time.monotonic() - start[1]
    assert waited - busy < 5.0, "a second, and what a busy disk takes"
    assert map_type.holds(directory) == LEFT
    upkeep.finish(clear=True)
