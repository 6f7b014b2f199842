"""From write() of a login line to the address in the map, through the real daemon and as a reader of the file sees it.

Logins come one by one, each from a new address. A cdb is rewritten as a whole and therefore throttled: a lone change
is written at once, the next a second later. To time lone changes without waiting a second for each, 50 maps take
turns, each for one user.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

from . import Row

LOGINS = 500
PAUSE = 0.025
LOOK = 0.0001  # between two looks at the map: a reader that never rests would take the daemon's share of the CPU
CDB_MAPS = 50  # times PAUSE, that is more than min_interval
MEDIAN, WORST = 3, 10  # ms

CONFIG = """
plugins = ["dovecot", "postfix"]
state_dir = "{folder}/state"
[[source]]
path = "{folder}/mail.log"
"""
WRITER = """
[[writer]]
use = "postfix"
map = "{kind}:{folder}/{name}"
netblocks = []
users = ["{users}"]
"""
LINE = (
    "{stamp} mail dovecot: imap-login: Login: user=<user{user}>, method=PLAIN, rip={ip}, lip=198.51.100.1, "
    "mpid=4711, TLS, session=<{number:016d}>\n"
)


def address(number: int) -> str:
    """Return an address of 203.0.112.0/22."""
    return f"203.0.{112 + number // 250}.{number % 250 + 1}"


def cdb_has(path: Path, key: bytes) -> bool:
    """Look a key up as a reader that opens the file now would: D. J. Bernstein's cdb, first hash table, then record."""
    data = path.read_bytes()
    digest = 5381
    for byte in key:
        digest = (digest << 5) + digest & 0xFFFFFFFF ^ byte
    table, slots = struct.unpack_from("<II", data, digest % 256 * 8)
    for probe in range(slots):
        found, record = struct.unpack_from("<II", data, table + (digest // 256 + probe) % slots * 8)
        if not record:
            return False
        length = struct.unpack_from("<I", data, record)[0]
        if found == digest and data[record + 8 : record + 8 + length] == key:
            return True
    return False


def lmdb_reader(path: Path) -> Callable[[bytes], bool]:
    """Return a look-up in the map, in a new transaction each time, keys as Postfix spells them."""
    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False)

    def has(key: bytes) -> bool:
        with environment.begin() as transaction:
            return transaction.get(key + b"\0") is not None

    return has


def start(folder: Path, writers: str) -> subprocess.Popen[bytes]:
    """Start the daemon and wait for READY=1."""
    (folder / "mail.log").touch()
    (folder / "config.toml").write_text(CONFIG.format(folder=folder) + writers)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (folder / "stderr").open("wb") as stderr:
        notify.bind(str(folder / "notify"))
        notify.settimeout(20)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "pop_before_smtp", "run", "-c", folder / "config.toml"],
            env=os.environ | {"NOTIFY_SOCKET": str(folder / "notify")},
            stderr=stderr,
        )
        while b"READY=1" not in notify.recv(4096):
            pass
    return daemon


def time_logins(folder: Path, has: Callable[[int, bytes], bool]) -> list[float]:
    """Write the lines and return each one's latency in ms.

    Args:
        folder: of the daemon.
        has: whether the map that the login of this number changes holds a key.
    """
    latencies = []
    with (folder / "mail.log").open("a") as log:
        for number in range(LOGINS):
            stamp = dt.datetime.now(tz=dt.UTC).isoformat()
            ip = address(number)
            line = LINE.format(stamp=stamp, user=number % CDB_MAPS, ip=ip, number=number)
            written = time.perf_counter()
            os.write(log.fileno(), line.encode())
            while not has(number, ip.encode()):
                time.sleep(LOOK)
                if time.perf_counter() > written + 5:
                    raise TimeoutError((folder / "stderr").read_text())
            latencies.append(1e3 * (time.perf_counter() - written))
            time.sleep(PAUSE)
    return latencies


def lmdb_latencies(folder: Path) -> list[float]:
    """Time one lmdb map."""
    daemon = start(folder, WRITER.format(kind="lmdb", folder=folder, name="relay", users="*"))
    try:
        has = lmdb_reader(folder / "relay.lmdb")
        return time_logins(folder, lambda _, key: has(key))
    finally:
        daemon.terminate()
        daemon.wait()


def cdb_latencies(folder: Path) -> list[float]:
    """Time lone changes of cdb maps."""
    names = [f"relay{turn}" for turn in range(CDB_MAPS)]
    writers = (WRITER.format(kind="cdb", folder=folder, name=name, users=f"user{name[5:]}") for name in names)
    daemon = start(folder, "".join(writers))
    try:
        return time_logins(folder, lambda number, key: cdb_has(folder / f"relay{number % CDB_MAPS}.cdb", key))
    finally:
        daemon.terminate()
        daemon.wait()


def sync_latencies(folder: Path) -> list[float]:
    """Time what every map waits for: a page on the disk."""
    latencies = []
    with (folder / "page").open("wb", buffering=0) as file:
        for _ in range(LOGINS):
            file.write(bytes(4096))
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            latencies.append(1e3 * (time.perf_counter() - start))
    return latencies


def rows() -> Iterator[Row]:
    """Measure both kinds of map, and the disk under them."""
    things = (
        ("login line to lmdb map", lmdb_latencies, f"under {MEDIAN} ms", f"under {WORST} ms"),
        ("login line to cdb map", cdb_latencies, "", ""),
        ("fdatasync of one page here", sync_latencies, "", ""),
    )
    for what, measure, median, worst in things:
        with tempfile.TemporaryDirectory() as folder:
            latencies = measure(Path(folder))
        yield f"{what}, median", f"{statistics.median(latencies):.2f} ms", median
        yield f"{what}, 99th percentile", f"{statistics.quantiles(latencies, n=100)[98]:.2f} ms", worst
