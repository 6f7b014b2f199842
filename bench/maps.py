"""What it costs to write a map: one more lease, 1,000 more in a batch, and the whole map anew as at the start.

Beside each figure stands how many plain copies of the same file could have been made in that time, each synced and
renamed as a map is. Half of the addresses are IPv6. All types but lmdb are written anew each time, so the largest maps
are only measured that way. What makesmtpaccess takes for Courier's map comes on top.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

from pop_before_smtp.api import Changes, Map
from pop_before_smtp.maps.bdb import BtreeMap, HashMap
from pop_before_smtp.maps.cdb import CdbMap
from pop_before_smtp.maps.lmdb import LmdbMap
from pop_before_smtp.maps.text import TextMap
from pop_before_smtp_courier._writer import AccessMap
from pop_before_smtp_qmail._map import TcpserverMap

from . import Row, match

SIZES = {1_000: 5, 10_000: 3, 100_000: 1, 1_000_000: 1}
"""Leases in the map, and how often each figure is taken."""
LARGEST = max(SIZES)
BATCH = 1_000
NOTHING: frozenset[str] = frozenset()
RULES = '127.:allow,RELAYCLIENT=""\n192.168.0-255.:allow\n:allow\n'
KINDS: dict[str, Callable[[Path], Map]] = {
    "lmdb": lambda folder: LmdbMap(folder / "maps/relay", value="OK", nul=True),
    "cdb": lambda folder: CdbMap(folder / "maps/relay", value="OK"),
    "hash": lambda folder: HashMap(folder / "maps/relay", value="OK", nul=True),
    "btree": lambda folder: BtreeMap(folder / "maps/relay", value="OK", nul=True),
    "host list": lambda folder: TextMap(folder / "maps/relay"),
    "tcpserver's cdb": lambda folder: TcpserverMap(folder / "maps/relay", folder / "rules", b"+RELAYCLIENT=\0"),
    "smtpaccess": lambda folder: AccessMap(folder / "maps/relay", "true"),
}
"""Each type of map, in a folder that has the rules of tcpserver."""


def address(number: int) -> str:
    """Return one of some millions of addresses, IPv4 and IPv6 in turn."""
    low = number // 2
    if number % 2:
        return f"2001:db8:{(low >> 15) + 1:x}:{(low & 0x7FFF) + 1:x}::1"
    return f"100.{low >> 16}.{low >> 8 & 255}.{low & 255}"


def timed(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of some work in ms."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def copy(path: Path, target: Path) -> None:
    """Copy a file, wait for the disk, and rename the copy."""
    new = target.with_suffix(".new")
    shutil.copyfile(path, new)
    _sync(new)
    new.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def measure(target: Map, size: int, copies: Path) -> dict[str, float]:
    """Return the times in ms of what can be done to a map with so many leases, and of a copy of its file."""
    repeats = SIZES[size]
    addresses = map(address, count())
    keys = set(islice(addresses, size))

    def anew() -> None:
        target.close()
        target.write(Changes(added=NOTHING, removed=NOTHING, current=keys))

    def add(number: int) -> float:
        added = set(islice(addresses, number))
        more = Changes(added=added, removed=NOTHING, current=keys | added)
        taken = timed(lambda: target.write(more), 1)
        target.write(Changes(added=NOTHING, removed=added, current=keys))
        return taken

    times = {"anew": timed(anew, repeats)}
    times["copied"] = timed(lambda: copy(target.path, copies), 3)
    if size < LARGEST or not target.rewrites:
        times["one more"] = statistics.median(add(1) for _ in range(repeats))
        times[f"{BATCH:,} more"] = statistics.median(add(BATCH) for _ in range(repeats))
    target.close()
    return times


def rows() -> Iterator[Row]:
    """Measure each type of map at each size, on the disk that this folder is on."""
    match.DATA.mkdir(parents=True, exist_ok=True)
    for kind, make in KINDS.items():
        for size in SIZES:
            with tempfile.TemporaryDirectory(dir=match.DATA) as name:
                folder = Path(name)
                (folder / "maps").mkdir(0o755)
                (folder / "rules").write_text(RULES)
                times = measure(make(folder), size, folder / "copy")
            copied = times.pop("copied")
            for what, ms in times.items():
                yield f"{kind}, {size:,} leases, {what}", f"{ms:.1f} ms", f"({ms / copied:.1f} copies)"
