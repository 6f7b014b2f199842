"""How the cost of a login grows with the number of leases: a table, and the plot ``bench/growth.png``.

CPU time of the thread that does it, the best of several runs.
"""

from __future__ import annotations

import gc
import importlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pop_before_smtp._state import State

from . import Row
from .parts import BATCH, GRACE, NOON, alone, engine, logins

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SOME = 10_000
RUNS = 3
PLOT = Path(__file__).with_name("growth.png")
GROWTH = 2
"""A login among a million leases costs at most so many times what it costs among a thousand: memory is slower then."""


def cost(count: int, work: Callable[[], object]) -> float:
    """Return microseconds for each of ``count`` things that ``work`` does."""
    gc.collect()
    start = time.thread_time()
    work()
    return (time.thread_time() - start) / count * 1e6


def run(size: int, directory: Path) -> dict[str, float]:
    """Measure once, with ``size`` leases and as many rows in the state."""
    some = min(size, SOME)
    machine, outlet = engine(2 * size)
    state = State.open(directory)

    def apply(numbers: range | list[int], now: float) -> Callable[[], None]:
        batches = [logins(numbers[start : start + BATCH]) for start in range(0, len(numbers), BATCH)]

        def work() -> None:
            for batch in batches:
                machine.apply(batch, now, NOON)
                outlet.changes()

        return work

    def store() -> None:
        for batch in new:
            state.append(batch, {})

    for start in range(0, size, BATCH):
        batch = logins(range(start, start + BATCH))
        machine.apply(batch, 0.0, NOON)
        state.append(batch, {})
    outlet.changes()
    chance = random.Random(1)
    found = {"renew": cost(some, apply([chance.randrange(size) for _ in range(some)], 1.0))}
    found["grant"] = cost(some, apply(range(size, size + some), 1.0))
    new = [logins(range(start, start + BATCH)) for start in range(0, some, BATCH)]
    found["store"] = cost(some, store)
    state.close()
    ended = len(outlet.leases)

    def expire() -> None:
        while outlet.leases.next_due() is not None:
            outlet.expire(2 * GRACE)
            outlet.changes()

    return found | {"expire": cost(ended, expire)}


def measure(size: int) -> dict[str, float]:
    """Return the best of several runs, in microseconds."""
    found = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as directory:
            found.append(run(size, Path(directory)))
    return {what: min(each[what] for each in found) for what in found[0]}


def plot(found: dict[int, dict[str, float]]) -> None:
    """Draw it. Matplotlib is asked for here, since nothing else needs it."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for what in found[SIZES[0]]:
        axes.plot(SIZES, [found[size][what] for size in SIZES], marker="o", label=what)
    axes.set(xscale="log", xlabel="leases", ylabel="CPU time per login, µs", ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(PLOT, dpi=100, metadata={"Software": None})


def rows() -> Iterator[Row]:
    """Measure each size in a process of its own."""
    found = {size: alone("growth", size) for size in SIZES}
    for what in found[SIZES[0]]:
        costs = [found[size][what] for size in SIZES]
        figure = " ".join(f"{each:.1f}" for each in costs)
        yield f"{what} a login among 10^3 .. 10^6 leases, µs of CPU", figure, f"last under {GROWTH} x first + 1"
    plot(found)
    yield "plotted", PLOT.name, ""


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
