"""Each type of map while its writer is killed again and again: no reader fails, and nobody is refused or let in wrongly.

``KILLS`` says how many kills for each type, then with 20,000 leases; ``make soak`` takes 300 of them.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from maptypes import TYPES, MapType, furnish
from pop_before_smtp._mapthread import Upkeep

KILLS = int(os.environ.get("KILLS", "10"))
LEASES = 20_000 if "KILLS" in os.environ else 1_000
STEP = LEASES // 40
"""So many leases end, and as many begin, from one write to the next."""
STABLE = frozenset(
    {*(f"192.0.{n >> 8}.{n & 255}" for n in range(1, 400)), *(f"2001:db8:9::{n:x}" for n in range(1, 100))}
)
BLOCK = 1 << 16
MEMORY = Path("/dev/shm")
"""Processes are killed, not machines: no disk has to keep anything."""


@pytest.mark.parametrize("name", TYPES)
def test_the_map_is_whole_and_right_after_every_kill(name: str) -> None:
    argv = [sys.executable, __file__, name]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60 + 5 * KILLS, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)  # noqa: T201 - for -rP


# -- what follows runs in processes of its own


def leases(turn: int, step: int) -> list[str]:
    """Return the addresses that have leases beside the stable ones: no two turns have one in common."""
    numbers = ((step * STEP + n) % BLOCK for n in range(LEASES - len(STABLE)))
    return [f"10.{turn % 256}.{n >> 8}.{n & 255}" for n in numbers]


def write(map_type: MapType, directory: Path, turn: int, started: int) -> None:
    """Do what a daemon does that was started anew: build the map, then change it for ever."""
    upkeep = Upkeep(map_type.open(directory), "map", 0.0)
    before: list[str] = []
    for step in itertools.count():
        now = leases(turn, step)
        changes = dict.fromkeys(STABLE, True) if not before else dict.fromkeys(before[:STEP], False)
        upkeep.take(changes | dict.fromkeys(now[-STEP:] if before else now, True), time.monotonic())
        assert upkeep.work(time.monotonic), upkeep.problem
        if not before:
            os.write(started, b".")
        before = now


def read(map_type: MapType, directory: Path) -> None:
    """Do what a mail server does: look up the stable clients."""
    while True:
        time.sleep(0.005)
        try:
            keys = map_type.holds(directory)
        except TimeoutError:  # Postfix waits for the lock of a writer, too
            continue
        assert keys >= STABLE, f"{len(STABLE - keys)} stable clients refused"


def fork(work: Callable[[], None]) -> int:
    """Run it in a process of its own, which ends badly if the work does; return the process id."""
    if pid := os.fork():
        return pid
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the parent
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - the parent process goes on elsewhere
        os.write(2, f"{error!r}\n".encode())
    os._exit(1)


def check(keys: set[str], turns: set[int], kill: int) -> None:
    """Tell whether a map is of one moment of one of these turns."""
    rest = keys - STABLE
    assert len(keys) == LEASES, f"kill {kill}: {len(keys)} addresses, {len(keys & STABLE)} of them stable"
    found = {int(key.split(".")[1]) for key in rest}
    assert len(found) == 1, f"kill {kill}: addresses of several turns"
    assert found <= turns, f"kill {kill}: addresses that expired long ago"


def main(name: str, directory: Path) -> None:
    """Kill writers of one type of map at random moments, a third of them in their first write."""
    map_type = TYPES[name]
    reader, turns, spans, began = 0, set[int](), [0.0], time.monotonic()
    for kill in range(KILLS + 1):
        ended, started = os.pipe()
        start = time.monotonic()
        writer = fork(lambda: write(map_type, directory, kill, started))  # noqa: B023 - called at once
        os.close(started)
        if not kill or kill % 3:
            assert os.read(ended, 1), "the writer failed"
            spans.append(time.monotonic() - start)
            turns = {kill % 256}
        turns.add(kill % 256)
        time.sleep(random.uniform(0, 2 * min(spans[1:])))  # noqa: S311 - no secret
        os.kill(writer, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(writer, 0)[1]), "the writer failed"
        os.close(ended)
        check(map_type.holds(directory), turns, kill)
        reader = reader or fork(lambda: read(map_type, directory))
    assert os.waitpid(reader, os.WNOHANG) == (0, 0), "the reader failed"
    os.kill(reader, signal.SIGKILL)
    os.waitpid(reader, 0)
    print(f"{name}: {KILLS} kills in {time.monotonic() - began:.0f} s")  # noqa: T201 - for the test above


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        os.environ["PATH"] = furnish(Path(place))
        main(sys.argv[1], Path(place, sys.argv[1]))
