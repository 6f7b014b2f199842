"""The thread that stores: soon, in order, never ahead of itself, and patient with a full disk."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pop_before_smtp import _statewriter
from pop_before_smtp._record import Checkpoint
from pop_before_smtp._state import State
from pop_before_smtp._statewriter import StateWriter
from pop_before_smtp.api import LOGIN, LoginEvent
from pop_before_smtp.errors import StateError

NOON = 1_800_000_000.0
DEADLINE = 10.0

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true", reason="needs root to mount a small file system"
)


def event(number: int) -> LoginEvent:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return LoginEvent(kind=LOGIN, address=address, at=NOON + number, received=NOON, source="log", position=number)


def events(*numbers: int) -> list[LoginEvent]:
    return [event(number) for number in numbers]


def behind(offset: int) -> dict[str, Checkpoint]:
    return {"log": Checkpoint(device=1, inode=2, offset=offset, fingerprint=b"", fingerprint_size=0)}


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Broken(State):
    """A state whose disk fails while ``error`` is set; it notes each transaction."""

    error: Exception | None = None

    def append(self, *args: Any) -> None:
        self.__dict__.setdefault("tries", []).append(time.monotonic())
        if self.error:
            raise self.error
        super().append(*args)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Broken]:
    state = Broken.open(tmp_path)
    state.__dict__["tries"] = []
    yield state
    state.close()


@pytest.fixture
def writer(state: Broken) -> Iterator[StateWriter]:
    writer = StateWriter(state)
    yield writer
    writer.close()


def tries(state: Broken) -> int:
    return len(state.__dict__["tries"])


def positions(state: State) -> list[int]:
    return [login.position for login in state.logins(0)]


def offset(state: State) -> int:
    return state.positions()["log"].offset


def test_what_waits_is_stored_together_within_moments(state: Broken, writer: StateWriter) -> None:
    start = time.monotonic()
    for number in range(5):
        writer.submit(events(number), behind(number + 1))
    wait_for(lambda: tries(state))
    assert 0.15 < state.__dict__["tries"][0] - start < 2
    writer.close()
    assert (tries(state), positions(state), offset(state)) == (1, [0, 1, 2, 3, 4], 5)


def test_500_logins_do_not_wait(state: Broken, writer: StateWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statewriter, "_SECONDS", 3600.0)
    writer.submit(events(*range(499)), {})
    time.sleep(0.05)
    assert tries(state) == 0
    writer.submit(events(499), {})
    wait_for(lambda: tries(state))


def test_flush_stores_at_once(state: Broken, writer: StateWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statewriter, "_SECONDS", 3600.0)
    writer.submit(events(1), behind(2))
    writer.flush().result(DEADLINE)
    assert (positions(state), offset(state)) == ([1], 2)


def test_close_stores_what_waits(state: Broken, writer: StateWriter) -> None:
    connects = [("log", b"host", b"popd", "12", NOON, "192.0.2.7")]
    writer.submit(events(1), {}, connects, {"ann": NOON})
    writer.submit(events(2), behind(3))
    writer.close()
    assert (positions(state), offset(state)) == ([1, 2], 3)
    assert (state.connects(), state.revocations()) == (connects, {"ann": NOON})
    writer.close()


def test_jobs_are_done_in_the_thread(state: Broken, writer: StateWriter) -> None:
    writer.own(Path("/relay")).result(DEADLINE)
    writer.own(Path("/other"), cleared=True).result(DEADLINE)
    assert (state.owned(), state.cleared()) == ({Path("/relay"), Path("/other")}, {Path("/other")})
    writer.submit(events(1, 2, 3), {})
    writer.flush().result(DEADLINE)
    writer.compact(NOON + 3).result(DEADLINE)
    assert positions(state) == [3]


def test_a_job_that_nobody_waits_for_any_more_does_no_harm(writer: StateWriter, state: Broken) -> None:
    hold = threading.Event()
    writer._soon(lambda: bool(hold.wait(DEADLINE)) and None)
    cancelled = writer.own(Path("/relay"))
    assert cancelled.cancel()
    hold.set()
    writer.own(Path("/other")).result(DEADLINE)
    assert state.owned() == {Path("/other")}


def test_a_job_that_fails_tells_who_waits(
    writer: StateWriter, state: Broken, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_before: float) -> None:
        raise StateError("no space")

    monkeypatch.setattr(state, "compact", fail)
    with pytest.raises(StateError, match="no space"):
        writer.compact(0).result(DEADLINE)
    assert "not compacted: no space" in caplog.text
    writer.flush().result(DEADLINE)


def test_after_close_nothing_can_be_asked(writer: StateWriter) -> None:
    writer.close()
    with pytest.raises(StateError, match="closed"):
        writer.own(Path("/relay"))


def test_an_idle_writer_sleeps(writer: StateWriter) -> None:
    writer.submit(events(1), behind(2))
    writer.flush().result(DEADLINE)
    status = Path(f"/proc/self/task/{writer._thread.native_id}/status")

    def wakeups() -> list[str]:
        return [line for line in status.read_text().splitlines() if "ctxt_switches" in line]

    time.sleep(0.05)
    before = wakeups()
    time.sleep(0.6)
    assert wakeups() == before


# -- failure


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statewriter, "_RETRY", 0.02)
    monkeypatch.setattr(_statewriter, "_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_a_failure_is_told_once_and_tried_again_until_it_is_over(
    state: Broken, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    state.error = StateError("state.sqlite: database or disk is full")
    for number in range(3):
        writer.submit(events(number), behind(number + 1))
        wait_for(lambda: tries(state) > 1)
    assert writer.problem == "state.sqlite: database or disk is full"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    state.error = None
    wait_for(lambda: writer.problem is None)
    writer.close()
    assert (positions(state), offset(state)) == ([0, 1, 2], 3)
    assert [record.message for record in caplog.records] == [
        "state: nothing can be stored: state.sqlite: database or disk is full; trying again",
        "state: stored again",
    ]


@pytest.mark.usefixtures("quick")
def test_tries_become_rarer(state: Broken, writer: StateWriter) -> None:
    state.error = StateError("full")
    writer.submit(events(1), {})
    wait_for(lambda: tries(state) >= 5)
    at = state.__dict__["tries"]
    pauses = [later - sooner for sooner, later in itertools.pairwise(at)]
    assert pauses[3] > 2 * pauses[0]


def test_new_logins_do_not_hasten_a_retry(state: Broken, writer: StateWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_statewriter, "_RETRY_MOST", 3600.0)
    writer._retry = 3600.0
    state.error = StateError("full")
    writer.submit(events(*range(500)), {})
    wait_for(lambda: writer.problem)
    for _ in range(100):
        writer.submit(events(*range(500)), {})
    time.sleep(0.05)
    assert tries(state) == 1


@pytest.mark.usefixtures("quick")
def test_a_bug_keeps_its_traceback_and_the_thread(
    state: Broken, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    state.error = ZeroDivisionError("a bug")
    writer.submit(events(1), {})
    wait_for(lambda: writer.problem)
    assert "ZeroDivisionError" in caplog.text
    state.error = None
    wait_for(lambda: not writer.problem)
    writer.close()
    assert positions(state) == [1]


def test_flush_tells_of_a_failure(state: Broken, writer: StateWriter) -> None:
    state.error = StateError("full")
    writer.submit(events(1), {})
    with pytest.raises(StateError, match="full"):
        writer.flush().result(DEADLINE)


def test_close_with_a_full_disk_says_what_that_means(
    state: Broken, writer: StateWriter, caplog: pytest.LogCaptureFixture
) -> None:
    state.error = StateError("full")
    writer.submit(events(1), behind(2))
    writer.close()
    assert "the next start reads them from the log again" in caplog.text
    assert (positions(state), state.positions()) == ([], {})


@pytest.mark.usefixtures("quick")
def test_too_much_for_memory_is_dropped_with_every_position_behind_it(
    state: Broken, writer: StateWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_statewriter, "_MOST", 100)
    writer.submit(events(0), behind(1))
    writer.flush().result(DEADLINE)
    state.error = StateError("full")
    for number in range(1, 301):
        writer.submit(events(number), behind(number + 1), [], {"ann": NOON})
        assert len(writer._pending.logins) <= 100
        if number == 10:
            wait_for(lambda: writer.problem)
    assert "logins dropped" in caplog.text
    state.error = None
    writer.flush().result(DEADLINE)
    writer.submit(events(301), behind(302))
    writer.close()
    assert positions(state)[-1] == 301
    assert len(positions(state)) < 250
    assert offset(state) == 1, "the next start begins where all was still complete"
    assert state.revocations() == {"ann": NOON}


# -- real failures


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=512k,mode=0750", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["/bin/umount", "-l", mount], check=True)


@needs_root
@pytest.mark.usefixtures("quick")
def test_a_full_disk_loses_nothing_once_there_is_room(small_disk: Path) -> None:
    state = State.open(small_disk)
    writer = StateWriter(state)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(b"x" * (1 << 20))
    for number in range(2000):
        writer.submit(events(number), behind(number + 1))
    wait_for(lambda: writer.problem)
    assert "full" in str(writer.problem) or "disk I/O" in str(writer.problem)
    with pytest.raises(StateError, match="No space left on device; free some space"):
        writer.own(Path("/relay")).result(DEADLINE)
    assert state.owned() == set()
    ballast.unlink()
    wait_for(lambda: writer.problem is None)
    writer.own(Path("/relay")).result(DEADLINE)
    writer.close()
    state.close()
    state = State.open(small_disk)
    assert (len(positions(state)), offset(state), state.owned()) == (2000, 2000, {Path("/relay")})
    state.close()


@needs_root
def test_a_state_on_a_read_only_file_system_is_refused(small_disk: Path) -> None:
    State.open(small_disk).close()
    subprocess.run(["/bin/mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StateError, match="Read-only file system; put it on a file system that can be written"):
        State.open(small_disk)
