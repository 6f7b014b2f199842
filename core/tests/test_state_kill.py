"""kill -9 at any moment: what is stored is always a prefix of what was handed over, and the position behind it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pop_before_smtp._state import State, read

DAEMON = """
import itertools, sys, time
from pathlib import Path
from pop_before_smtp._record import Checkpoint
from pop_before_smtp._state import State
from pop_before_smtp._statewriter import StateWriter
from pop_before_smtp.api import LOGIN, LoginEvent

state = State.open(Path(sys.argv[1]))
writer = StateWriter(state)
begin = max((checkpoint.offset for checkpoint in state.positions().values()), default=0)
for start in itertools.count(begin, 50):
    logins = [
        LoginEvent(
            kind=LOGIN, address=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", at=1.8e9 + n, received=1.8e9 + n,
            user=f"user{n % 7}", source="log", position=n,
        )
        for n in range(start, start + 50)
    ]
    at = Checkpoint(device=1, inode=2, offset=start + 50, fingerprint=b"", fingerprint_size=0)
    connects = [("log", b"host", b"popd", str(start), 1.8e9, "192.0.2.1")]
    writer.submit(logins, {"log": at}, connects)
    if start % 3000 == 0:
        writer.compact(0)
    if start - begin == 1000:
        print("going", flush=True)
    time.sleep(0.0005)
"""


@pytest.fixture
def moments() -> list[float]:
    """Seconds from the first logins to the kill."""
    chance = random.Random(4)  # noqa: S311 - the same moments in every run
    return [chance.uniform(0, 0.4) for _ in range(10)]


def kill_after(seconds: float, directory: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(directory)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)


def test_after_any_kill_no_login_is_missing_that_the_position_has_passed(tmp_path: Path, moments: list[float]) -> None:
    before = 0
    for seconds in moments:
        kill_after(seconds, tmp_path)
        with read(tmp_path) as beside:
            seen = len(list(beside.logins(0)))
        state = State.open(tmp_path, patience=0)
        logins = list(state.logins(0))
        (checkpoint,) = state.positions().values()
        ((*_, name, _at, _address),) = state.connects()
        state.close()
        assert seen == len(logins), "a reader sees what the next start sees"
        assert [login.position for login in logins] == list(range(checkpoint.offset))
        assert int(name) == checkpoint.offset - 50
        assert checkpoint.offset >= before
        before = checkpoint.offset
    assert before > 5000, "the runs got some way"


def test_a_map_is_ours_even_if_the_kill_comes_at_once(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from pop_before_smtp._state import State
from pop_before_smtp._statewriter import StateWriter
StateWriter(State.open(Path(sys.argv[1]))).own(Path("/relay")).result()
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    with read(tmp_path) as state:
        assert state.owned() == {Path("/relay")}
