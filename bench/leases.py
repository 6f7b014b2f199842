"""A million IPv4 leases: the memory that each takes, and how long it takes to end them all.

Measured in a process of its own, through the engine, one outlet and the thread of its map with its own set of keys; the
map itself writes nothing. 20,000 users log in from 50 addresses each, or a million users from one each.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pop_before_smtp._mapthread import MapThread
from pop_before_smtp._outlet import Outlet

from . import Row
from .parts import BATCH, GRACE, NOON, USERS, Nothing, alone, engine, logins

LEASES = 1_000_000
BYTES = 250
SLICE_MS = 10
SWITCH = 0.0005
"""As the daemon sets it: how long one thread may keep the others from running Python, in seconds."""


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def end_all(outlet: Outlet, thread: MapThread) -> dict[str, float]:
    """End every lease as the daemon does, in slices. Returns seconds, by the clock and of CPU."""
    clock, longest = 0.0, 0.0
    start, used = time.perf_counter(), time.process_time()
    while outlet.leases.next_due() is not None:
        begin, before = time.perf_counter(), time.thread_time()
        outlet.expire(2 * GRACE)
        thread.submit(outlet.changes())
        clock, longest = max(clock, time.perf_counter() - begin), max(longest, time.thread_time() - before)
        time.sleep(0)
    thread.settled().result()
    return {"ended": time.perf_counter() - start, "cpu": time.process_time() - used} | {
        "slice": longest,
        "slice_clock": clock,
    }


def measure(users: int) -> dict[str, float]:
    """Grant and end all leases in this process."""
    sys.setswitchinterval(SWITCH)
    machine, outlet = engine(LEASES)
    thread = MapThread(Nothing(), outlet.label, 0.0)
    thread.start({})
    thread.settled().result()
    machine.apply(logins([0]), 0.0, NOON)
    before = resident()
    for number in range(0, LEASES, BATCH):
        machine.apply(logins(range(number, number + BATCH), users=users), GRACE * number / LEASES, NOON)
        thread.submit(outlet.changes())
    thread.settled().result()
    gc.collect()
    found = {"bytes": (resident() - before) / LEASES} | end_all(outlet, thread)
    thread.close(clear=False)
    return found


def rows() -> Iterator[Row]:
    """Measure in processes of their own."""
    some, all_ = alone("leases", USERS), alone("leases", LEASES)
    yield f"{LEASES:,} leases of {USERS:,} users, memory each", f"{some['bytes']:.0f} bytes", f"under {BYTES} bytes"
    yield f"{LEASES:,} leases of {LEASES:,} users, memory each", f"{all_['bytes']:.0f} bytes", ""
    yield f"{LEASES:,} leases ended", f"{some['ended']:.2f} s", "under 1 s"
    yield "  CPU time of it, the map's thread included", f"{some['cpu']:.2f} s", ""
    yield "  longest slice, CPU time of the loop", f"{1000 * some['slice']:.1f} ms", f"under {SLICE_MS} ms"
    yield "  longest slice by the clock, what else runs included", f"{1000 * some['slice_clock']:.1f} ms", ""


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
