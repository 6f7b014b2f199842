"""How fast the daemon answers a mail server that asks it, at rest and while it reads a log of a gigabyte.

The log is that of the matcher's figures, seven times, a year ago; with a grace of years every login in it counts.
Questions come once a millisecond by the clock, whether or not the one before has been answered, and an answer's time
counts from when its question was due.
"""

from __future__ import annotations

import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import Row, match

QUESTION, ANSWER = b"18:relay 198.51.100.7,", b"9:NOTFOUND ,"
TOGETHER, ROUNDS = 500, 400
COPIES = 7
PAUSE = 0.001
LEAST, WORST = 10_000, 5  # a second, ms

CONFIG = """
plugins = ["dovecot", "postfix"]
grace = "10000d"
state_dir = "{folder}/state"
[[source]]
path = "{log}"
[[writer]]
use = "postfix"
map = "socketmap:unix:{folder}/relay"
netblocks = []
"""


def log() -> Path:
    """Return the log, made if it is not there. None of its lines is ahead of now."""
    path = match.DATA / "mail-1GB.log"
    if not path.exists():
        earlier = match.log(0.05).read_bytes().replace(b"2026-11-2", b"2025-11-2")
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.writelines([earlier] * COPIES)
        fresh.replace(path)
    return path


@contextmanager
def daemon(path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Run the daemon on a log, and yield a connection to ask at and the socket that READY=1 comes to."""
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        folder = Path(name)
        notify.bind(str(folder / "notify"))
        notify.settimeout(20)
        (folder / "config.toml").write_text(CONFIG.format(folder=folder, log=path))
        process = subprocess.Popen(
            [sys.executable, "-m", "pop_before_smtp", "run", "-c", folder / "config.toml"],
            env=os.environ | {"NOTIFY_SOCKET": str(folder / "notify")},
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (folder / "relay").exists():
                assert process.poll() is None
                time.sleep(0.01)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(folder / "relay"))
                yield connection, notify
        finally:
            process.kill()
            process.wait()


def is_ready(notify: socket.socket) -> bool:
    """Tell whether READY=1 has come."""
    while select.select([notify], [], [], 0)[0]:
        if b"READY=1" in notify.recv(4096):
            return True
    return False


def pipelined() -> float:
    """Return the answers a second on one connection that never waits for one before the next question."""
    with tempfile.NamedTemporaryFile() as empty, daemon(Path(empty.name)) as (connection, notify):
        while not is_ready(notify):
            time.sleep(0.01)
        start = time.perf_counter()
        connection.sendall(QUESTION * TOGETHER)
        for turn in range(ROUNDS):
            if turn < ROUNDS - 1:
                connection.sendall(QUESTION * TOGETHER)
            for _ in range(TOGETHER):
                assert connection.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
        return TOGETHER * ROUNDS / (time.perf_counter() - start)


def busy() -> tuple[list[float], float]:
    """Return the times of answers in ms while the log is read, and how long that took in seconds."""
    due: list[float] = []
    times: list[float] = []
    rest = 0
    with daemon(log()) as (connection, notify):
        start = time.perf_counter()
        looked = start
        while True:
            now = time.perf_counter()
            while (question := start + PAUSE * len(due)) <= now:
                connection.sendall(QUESTION)
                due.append(question)
            if select.select([connection], [], [], max(0.0, question - time.perf_counter()))[0]:
                rest += len(connection.recv(1 << 16))
                now = time.perf_counter()
                while rest >= len(ANSWER):
                    rest -= len(ANSWER)
                    times.append(1e3 * (now - due[len(times)]))
            if now - looked > 0.1:
                looked = now
                if is_ready(notify):
                    return times, now - start


def rows() -> Iterator[Row]:
    """Measure both."""
    yield "lookups on one connection, pipelined", f"{pipelined():,.0f}/s", f">= {LEAST:,}/s"
    times, seconds = busy()
    what = f"lookup at 1,000/s while {log().stat().st_size / 1e9:.1f} GB are read"
    yield f"{what}, median", f"{statistics.median(times):.2f} ms", f"({seconds:.0f} s)"
    yield "  99th percentile", f"{statistics.quantiles(times, n=100)[98]:.2f} ms", f"under {WORST} ms"
    yield "  slowest", f"{max(times):.1f} ms", ""
