"""A million leases: seconds to grant and to end them, and the memory of the process that holds them.

Measured in a process of its own, through the engine, one outlet and the upkeep of its map; the map itself writes
nothing. 20,000 users log in from 50 addresses each, half of them IPv6, all within one grace.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from pop_before_smtp._config import OutletSettings, PolicySettings, WriterSettings
from pop_before_smtp._engine import Engine
from pop_before_smtp._host import Host
from pop_before_smtp._mapthread import Upkeep
from pop_before_smtp._match import Matcher
from pop_before_smtp._networks import Netblocks
from pop_before_smtp._outlet import Outlet
from pop_before_smtp._policy import Policy
from pop_before_smtp.api import LOGIN, Changes, LoginEvent, Map, Writer
from pop_before_smtp.testing import FakeClock

from . import Row

LEASES = 1_000_000
USERS = 20_000
BATCH = 1_000
GRACE = 1800.0
LIMIT = 400
"""MiB."""


@frozen
class _Settings:
    """Nothing to set."""


class _Nothing(Map):
    """A map that keeps only the number of its keys."""

    rewrites = False
    path = Path("/nonexistent")
    keys = 0

    def write(self, changes: Changes) -> None:
        """Count."""
        self.keys = len(changes.current)

    def clear(self) -> None:
        """Forget."""
        self.keys = 0


def address(number: int) -> str:
    """Return one of a million addresses, IPv4 and IPv6 in turn."""
    low = number // 2
    if number % 2:
        return f"2001:db8:{low >> 16:x}:{low & 0xFFFF:x}::1"
    return f"100.{low >> 16}.{low >> 8 & 255}.{low & 255}"


def logins(start: int, at: float) -> Iterator[LoginEvent]:
    """Yield one batch of logins from new addresses."""
    for number in range(start, start + BATCH):
        user = f"user{number % USERS}@example.org"
        yield LoginEvent(kind=LOGIN, address=address(number), at=at, received=at, user=user, service="imap")


def measure() -> dict[str, float]:
    """Grant and end all leases in this process. Returns seconds, and peak memory in MiB."""
    policy = PolicySettings(max_leases=LEASES, private_addresses="allow")
    settings = OutletSettings(use="nothing")
    writer = Writer(name="nothing", settings=_Settings, open=lambda _: _Nothing())
    wanted = WriterSettings(outlet=settings, writer=writer, settings=_Settings(), index=0)
    outlet = Outlet(wanted, GRACE, Netblocks(), policy)
    engine = Engine(Matcher([]), Policy(policy, Host()), [outlet])
    target, clock = _Nothing(), FakeClock()
    upkeep = Upkeep(target, outlet.label, 0.0)

    def write() -> None:
        upkeep.take(outlet.changes(), clock.now())
        upkeep.work(clock.now)

    start = time.perf_counter()
    for number in range(0, LEASES, BATCH):
        engine.apply(logins(number, clock.wall()), clock.now(), clock.wall())
        write()
        clock.advance(GRACE / 2 * BATCH / LEASES)
    granted = time.perf_counter()
    assert len(outlet.leases) == target.keys == LEASES
    while (due := engine.next_due()) is not None:
        clock.advance(max(0.0, due - clock.now()))
        outlet.expire(clock.now())
        write()
    ended = time.perf_counter()
    assert len(outlet.leases) == target.keys == 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"granted": granted - start, "ended": ended - granted, "peak": peak}


def rows() -> Iterator[Row]:
    """Measure in a process of its own."""
    argv = [sys.executable, "-m", "bench.leases"]
    done = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    yield f"{LEASES:,} leases granted", f"{done['granted']:.1f} s", ""
    yield f"{LEASES:,} leases ended", f"{done['ended']:.1f} s", ""
    yield f"{LEASES:,} leases, peak memory", f"{done['peak']:.0f} MiB", f"under {LIMIT} MiB"


if __name__ == "__main__":
    print(json.dumps(measure()))
