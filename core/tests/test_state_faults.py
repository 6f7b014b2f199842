"""What happens to a daemon and its state at the worst moments: noise, a full disk, a second daemon, kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playground import DEADLINE, Site, until
from pop_before_smtp._record import Checkpoint
from pop_before_smtp._state import State, read
from pop_before_smtp._statefiles import read_status
from pop_before_smtp.api import LOGIN, LoginEvent
from pop_before_smtp.errors import StateError

NOON = 1_800_000_000.0
GRACE = 1800.0
HERE = {"log": Checkpoint(device=1, inode=2, offset=3, fingerprint=b"4", fingerprint_size=5)}

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and os.environ.get("CI") != "true", reason="needs root to mount a small file system"
)


def chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same moments and places in every run


def events(start: int, count: int, at: float = NOON) -> list[LoginEvent]:
    return [
        LoginEvent(
            kind=LOGIN, address=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", at=at, received=at, user="ann", source="log"
        )
        for n in range(start, start + count)
    ]


# -- damage while it is in use


@pytest.mark.parametrize("seed", range(10))
def test_noise_under_a_running_daemon_costs_no_more_than_what_the_logs_still_say(tmp_path: Path, seed: int) -> None:
    noise = chance(seed)
    state = State.open(tmp_path)
    state.append(events(0, 3000), HERE)
    database = tmp_path / "state.sqlite"
    for number in range(5):
        state._rows("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with database.open("r+b") as file:
            file.seek(noise.randrange(database.stat().st_size))
            file.write(noise.randbytes(noise.choice([1, 16, 4096])))
        state._rows("PRAGMA shrink_memory")
        with suppress(StateError):
            state.append(events(5000 + number, 1), HERE)
            state.compact(NOON - GRACE)
    state.close()
    state = State.open(tmp_path)
    assert len(list(state.logins(0))) <= 3005
    state.append(events(6000, 1), HERE)
    assert "10.0.23.112" in {login.address for login in state.logins(0)}
    state.close()


# -- full and read-only file systems


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=512k,mode=0750", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["/bin/umount", "-l", mount], check=True)


def fill(disk: Path) -> None:
    """Leave no room."""
    with pytest.raises(OSError, match="No space"):
        (disk / "ballast").write_bytes(b"x" * (1 << 20))


@needs_root
def test_a_status_that_does_not_fit_leaves_the_one_before(small_disk: Path) -> None:
    state = State.open(small_disk)
    state.publish({"pid": 1})
    fill(small_disk)
    with pytest.raises(StateError, match="No space left on device; free some space"):
        state.publish({"pid": 2, "counts": "x" * 10_000})
    assert read_status(small_disk) == {"pid": 1}
    (small_disk / "ballast").unlink()
    state.publish({"pid": 3})
    assert read_status(small_disk) == {"pid": 3}
    state.close()


@needs_root
def test_a_daemon_whose_state_can_no_longer_be_written_goes_on_and_says_so(site: Site, small_disk: Path) -> None:
    site.configure()
    site.file.write_text(site.file.read_text().replace(f"{site.folder}/state", f"{small_disk}/state"))
    daemon = site.start("run", "-c", str(site.file))
    site.wait_for_line(daemon, "startup log-scan complete")
    fill(small_disk)
    site.login("203.0.113.7")
    until(lambda: site.keys() == {"203.0.113.7"})
    site.wait_for_line(daemon, "state: nothing can be stored")
    (small_disk / "ballast").unlink()
    site.wait_for_line(daemon, "state: stored again")
    daemon.kill()
    daemon.communicate(timeout=DEADLINE)
    assert [row["address"] for row in json.loads(site("list", "-c", str(site.file), "--json")[1])] == ["203.0.113.7"]


# -- two daemons


def test_a_second_daemon_is_refused_and_the_first_does_not_notice(site: Site) -> None:
    first = site.start("run", "-c", str(site.file))
    site.wait_for_line(first, "startup log-scan complete")
    second = site.start("run", "-c", str(site.file))
    _, complaint = second.communicate(timeout=DEADLINE)
    assert second.returncode == 78
    assert f"another pop-before-smtp (pid {first.pid}) uses {site.folder}/state; stop it first" in complaint
    site.login("203.0.113.7")
    until(lambda: site.keys() == {"203.0.113.7"})
    assert first.poll() is None
    first.kill()
    first.communicate(timeout=DEADLINE)


# -- kill -9


OWNER = """
import itertools, sys
from pathlib import Path
from pop_before_smtp._state import State
from pop_before_smtp._statewriter import StateWriter
from pop_before_smtp.api import LOGIN, LoginEvent

state = State.open(Path(sys.argv[1]))
known = len(state.owned())
writer = StateWriter(state)
print("going", flush=True)
for number in itertools.count():
    logins = [LoginEvent(kind=LOGIN, address=f"10.0.0.{n}", at=1.8e9, received=1.8e9, user="ann") for n in range(200)]
    writer.submit(logins, {})
    writer.compact(0)
    writer.publish({"number": number, "text": "x" * 5000})
    writer.own(Path(f"/map/{known + number}"), cleared=bool(number % 2)).result()
"""


def test_after_a_kill_between_any_two_writes_every_file_is_whole(tmp_path: Path) -> None:
    moments = chance(5)
    owned = 0
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"going\n"
            time.sleep(moments.uniform(0.02, 0.3))
            process.send_signal(signal.SIGKILL)
        status = read_status(tmp_path)
        assert status is None or len(status["text"]) == 5000
        with read(tmp_path) as state:
            assert len(state.owned()) >= owned
            owned = len(state.owned())
            assert len({login.address for login in state.logins(0)}) in {0, 200}
    assert owned > 5
    assert not list(tmp_path.glob("*corrupt*"))


TWO_LINES = """
from pop_before_smtp import CONNECT, LOGIN, PART, LogParser, LogPattern, hookimpl

@hookimpl
def pop_before_smtp_parsers():
    yield LogParser(name="twod", patterns=[
        LogPattern(kind=CONNECT, program=b"twod", message=rb"session from (?P<ip>\\\\S+)", contains=[b"session from "]),
        LogPattern(kind=LOGIN, program=b"twod", message=rb"(?P<user>\\\\w+) is in", contains=[b"]: ann is in", b"]: bob is in"],
                   fixed={"service": "pop3"})])
    yield LogParser(name="webd", patterns=[
        LogPattern(kind=PART, program=b"webd", message=b"denied for x{500,}", contains=[b"denied for "]),
        LogPattern(kind=LOGIN, program=b"webd", message=rb"welcome (?P<user>\\\\w+) from (?P<ip>\\\\S+)",
                   contains=[b"welcome "], fixed={"service": "imap"})])
"""


def test_what_a_line_left_open_outlives_a_kill(site: Site, install: object) -> None:
    install("twod", TWO_LINES.replace("\\\\\\\\", "\\\\").replace("\\\\", "\\"))  # type: ignore[operator]  # the fixture
    site.file.write_text(site.file.read_text().replace('["popd",', '["popd", "twod",'))

    def write(*messages: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        with site.log.open("a") as log:
            log.write("".join(f"{stamp} mail {message}\n" for message in messages))

    first = site.start("run", "-c", str(site.file))
    site.wait_for_line(first, "startup log-scan complete")
    write("twod[7]: session from 203.0.113.7", f"webd[8]: denied for {'x' * 600}", "popd: login ann from 203.0.113.1")
    until(lambda: json.loads(site("list", "-c", str(site.file), "--json")[1]))
    first.kill()
    first.communicate(timeout=DEADLINE)
    write("webd[8]: welcome eve from 203.0.113.66", "twod[7]: ann is in")
    second = site.start("run", "-c", str(site.file))
    site.wait_for_line(second, "startup log-scan complete")
    assert site.keys() == {"203.0.113.1", "203.0.113.7"}
    second.kill()
    second.communicate(timeout=DEADLINE)


# -- size


def test_a_day_of_logins_keeps_the_file_as_small_as_one_grace(tmp_path: Path) -> None:
    per_hour, pause = 1_200, 600.0
    state = State.open(tmp_path)
    largest = 0
    for start in range(24 * 6):
        now = NOON + pause * start
        count = per_hour // 6
        for part in range(0, count, 100):
            state.append(events(count * start + part, 100, now), HERE)
        state.compact(now - GRACE)
        largest = max(largest, sum(file.stat().st_size for file in tmp_path.iterdir() if file.name.startswith("state")))
    rows = len(list(state.logins(0)))
    state.close()
    assert rows <= per_hour * (GRACE + pause) / 3600 + 100
    assert (tmp_path / "state.sqlite").stat().st_size < 150 * rows + 100_000
    assert largest < 150 * rows * 3 + (4 << 20) + 100_000, "the write-ahead log is bounded too"
    with sqlite3.connect(tmp_path / "state.sqlite") as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] < 100
    connection.close()
