"""Logins through lease table and state, and a start with a million of them in the state."""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pop_before_smtp._mapthread import MapThread
from pop_before_smtp._replay import replay
from pop_before_smtp._state import State
from pop_before_smtp._statefiles import DATABASE
from pop_before_smtp._statewriter import StateWriter
from pop_before_smtp.testing import FakeClock

from . import Row
from .leases import SWITCH
from .parts import BATCH, GRACE, NOON, Nothing, alone, engine, logins

LOGINS = 1_000_000
PER_HOUR = 100_000
COMPACTED = 600
"""Seconds between two compactions."""
MOST_MB = 20
HOURS = 3
"""It is as large after one: what is older than the grace is forgotten."""
WAITING = 100_000
"""Logins that may wait for the state before the reader of a log has to wait too."""


def store(directory: Path) -> dict[str, float]:
    """Take logins that the matcher has found through the engine and into the state, until all are stored."""
    machine, outlet = engine(LOGINS)
    writer = StateWriter(state := State.open(directory))
    used = wall = 0.0
    for first in range(0, LOGINS, WAITING):
        batches = [logins(range(start, start + BATCH)) for start in range(first, first + WAITING, BATCH)]
        gc.collect()
        start, before = time.perf_counter(), time.process_time()
        for batch in batches:
            writer.submit(machine.apply(batch, 0.0, NOON), {})
            outlet.changes()
        writer.flush().result()
        wall += time.perf_counter() - start
        used += time.process_time() - before
    assert len(outlet.leases) == LOGINS
    writer.close()
    state.close()
    return {"rate": LOGINS / wall, "rate_cpu": LOGINS / used}


def start(directory: Path) -> dict[str, float]:
    """Start as the daemon does: open and check, judge, build the first map."""
    begin, before = time.perf_counter(), time.process_time()
    machine, outlet = engine(LOGINS)
    state = State.open(directory)
    opened = time.perf_counter()
    replay(machine, state, FakeClock(NOON + 1), GRACE)
    thread = MapThread(Nothing(), outlet.label, 0.0)
    thread.start(outlet.changes())
    thread.settled().result()
    end, used = time.perf_counter(), time.process_time() - before
    assert len(outlet.leases) == LOGINS
    thread.close(clear=False)
    state.close()
    return {"open": opened - begin, "start": end - begin, "start_cpu": used}


def hours(directory: Path) -> dict[str, float]:
    """Store hours of logins from as many addresses, compacted as the daemon does. Returns the largest size in MB."""
    largest, slot, state = 0, PER_HOUR * COMPACTED // 3600, State.open(directory)
    for number in range(HOURS * 3600 // COMPACTED):
        now = NOON + COMPACTED * number
        state.append(logins(range(slot * number, slot * (number + 1)), at=now), {})
        largest = max(largest, sum(file.stat().st_size for file in directory.iterdir()))
        state.compact(now - GRACE)
    state.close()
    return {"largest": largest / 1e6, "left": (directory / DATABASE).stat().st_size / 1e6}


def rows() -> Iterator[Row]:
    """Measure in processes of their own."""
    with tempfile.TemporaryDirectory() as directory:
        small = alone("state", "hours", directory)
    with tempfile.TemporaryDirectory() as directory:
        found = alone("state", "store", directory) | alone("state", "start", directory)
    yield "logins through lease table and state", f"{found['rate']:,.0f} /s", "100,000 /s"
    yield "  by the CPU time of both threads", f"{found['rate_cpu']:,.0f} /s", ""
    yield (
        f"{PER_HOUR:,} logins an hour, all from new addresses: state",
        f"{small['largest']:.0f} MB",
        f"under {MOST_MB} MB",
    )
    yield f"start with {LOGINS:,} remembered logins", f"{found['start']:.1f} s", "under 5 s"
    yield "  of it opening and checking the database", f"{found['open']:.1f} s", ""
    yield "  CPU time of it", f"{found['start_cpu']:.1f} s", ""


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH)
    task = {"store": store, "start": start, "hours": hours}[sys.argv[1]]
    print(json.dumps(task(Path(sys.argv[2]))))
