"""Noticing changes: what is watched, what rings, and polling where the kernel does not tell."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from inotify_simple import Event, INotify, flags
from pop_before_smtp._sources import Watch, watch
from pop_before_smtp._sources.watch import places


def below(path: Path, tmp_path: Path) -> list[tuple[str, str]]:
    found = [(Path(directory), name) for directory, name in places(path)]
    return [(str(directory.relative_to(tmp_path)), name) for directory, name in found]


def test_places_are_where_links_and_the_file_stand(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mail.log").touch()
    (tmp_path / "logs").symlink_to("data")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "logs" / "mail.log")
    assert below(tmp_path / "data" / "mail.log", tmp_path) == [("data", "mail.log")]
    assert below(tmp_path / "logs" / "mail.log", tmp_path) == [(".", "logs"), ("data", "mail.log")]
    assert below(tmp_path / "logs" / "link", tmp_path) == [
        (".", "logs"),
        ("data", "link"),
        (".", "logs"),
        ("data", "mail.log"),
    ]
    assert below(tmp_path / "data" / ".." / "data" / "mail.log", tmp_path) == [("data", "mail.log")]


def test_places_of_what_is_missing_are_where_it_would_begin(tmp_path: Path) -> None:
    assert below(tmp_path / "a" / "b" / "mail.log", tmp_path) == [(".", "a")]
    (tmp_path / "loop").symlink_to("loop")
    assert below(tmp_path / "loop", tmp_path)[-1] == (".", "loop")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def rings(bell: watch.Bell, seconds: float = 0.05) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return False
    return True


async def test_only_the_file_and_its_name_ring(tmp_path: Path) -> None:
    log, neighbour = tmp_path / "mail.log", tmp_path / "syslog"
    bell = Watch().bell(log)
    bell.follow(())
    neighbour.write_bytes(b"x")
    assert not await rings(bell)
    log.write_bytes(b"x")
    assert await rings(bell, 5)
    with log.open("ab") as file:
        bell.follow([file.fileno()])
        await rings(bell)
        neighbour.write_bytes(b"y")
        assert not await rings(bell)
        file.write(b"y")
        file.flush()
        assert await rings(bell, 5)
        log.unlink()
        assert await rings(bell, 5)
        file.write(b"z")
        file.flush()
        assert await rings(bell, 5)  # an open file is heard of without a name too
    bell.close()


async def test_sources_share_one_descriptor_that_goes_with_the_last(tmp_path: Path) -> None:
    before = descriptors()
    shared = Watch()
    bells = [shared.bell(tmp_path / name) for name in ("a", "b")]
    for bell in bells:
        bell.follow(())
    assert descriptors() == before + 1
    (tmp_path / "b").touch()
    assert [await rings(bell) for bell in bells] == [False, True]
    bells[1].close()
    (tmp_path / "a").touch()
    assert await rings(bells[0], 5)
    bells[0].close()
    assert descriptors() == before


async def test_a_lost_event_rings_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = Watch()
    bells = [shared.bell(tmp_path / name) for name in ("a", "b")]
    for bell in bells:
        bell.follow(())
    monkeypatch.setattr(INotify, "read", lambda *_, **__: [Event(-1, flags.Q_OVERFLOW, 0, "")])
    shared._read()
    assert [await rings(bell) for bell in bells] == [True, True]
    for bell in bells:
        bell.close()


async def test_idle_sources_wake_together_and_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    due: list[float] = []
    call_at = loop.call_at

    def record(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        due.append(when)
        return call_at(when, *args, **options)

    monkeypatch.setattr(loop, "call_at", record)
    shared = Watch()
    bells = [shared.bell(tmp_path / name) for name in "ab"]
    for bell in bells:
        bell.follow(())
        waiting = asyncio.create_task(bell.wait())
        await asyncio.sleep(0.01)
        waiting.cancel()
        bell.close()
    ticks = [when for when in due if when % watch.TICK == 0]
    assert len(ticks) == len(bells)
    assert watch.TICK >= 60 / 5


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "fs.inotify.max_user_watches is reached"),
        (errno.EACCES, "Permission denied"),
    ],
)
async def test_what_cannot_be_watched_is_polled_with_one_warning(
    *,
    number: int,
    reason: str,
    tmp_path: Path,
    follow: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(INotify, "add_watch", refuse)
    monkeypatch.setattr(watch, "_INTERVAL", 0.01)
    path = tmp_path / "mail.log"
    path.write_bytes(b"a\n")
    async with follow(path, inotify=True) as log:
        path.rename(tmp_path / "mail.log.1")
        path.write_bytes(b"b\n")
        await log.settle(2)
        assert log.lines == [b"a", b"b"]
    assert len(caplog.messages) == 1
    assert reason in caplog.text


async def test_no_inotify_at_all(
    tmp_path: Path, follow: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> INotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(watch, "INotify", refuse)
    monkeypatch.setattr(watch, "_INTERVAL", 0.01)
    path = tmp_path / "mail.log"
    async with follow(path, inotify=True) as log:
        path.write_bytes(b"a\n")
        await log.settle(1)
    limit = "the limit fs.inotify.max_user_instances or that of open files is reached"
    told = [message for message in caplog.messages if "no inotify" in message]
    assert told == [f"{path}: no inotify ({limit}); looking at it every 0.01 s instead"]


async def test_a_network_file_system_is_polled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "_file_system", lambda *_: "nfs4")
    bell = Watch().bell(tmp_path / "mail.log")
    bell.follow(())
    assert bell.polling
    assert "it is on nfs4" in caplog.text
    monkeypatch.undo()
    bell.follow(())
    assert not bell.polling
    bell.close()


def test_the_mount_table_knows_this_file_system() -> None:
    assert Watch()._file_system(Path("/proc").stat().st_dev) == "proc"
    assert Watch()._file_system(0xFFFF) == ""
