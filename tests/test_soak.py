"""The daemon for minutes on end, on a log that is rotated in every way, killed again and again: no login is lost.

``SOAK`` says how many logins; ``make soak`` takes 100,000 of them.
"""

from __future__ import annotations

import contextlib
import gzip
import ipaddress
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from pop_before_smtp.maps import cdb, lmdb

LOGINS = int(os.environ.get("SOAK", "5000"))
BURST = 100
"""Logins written without a pause, on average."""
PAUSE = 0.05
"""Seconds after a burst, on average."""
KILLS = 0.15
ROTATIONS = 0.2
"""How often after a burst."""
CHANCE = random.Random(1)  # noqa: S311 - the same steps in every run
GRACE = 7200
PATIENCE = 60.0

CONFIG = """
plugins = ["dovecot", "postfix"]
grace = {grace}
state_dir = "{folder}/state"
[[source]]
path = "{folder}/mail.log"
missing = "wait"
[policy]
private_addresses = "allow"
max_leases = 1_000_000
[[writer]]
use = "postfix"
map = "lmdb:{folder}/relay"
netblocks = []
[[writer]]
use = "postfix"
map = "cdb:{folder}/relay"
netblocks = []
"""
LOGIN = "imap-login: Login: user=<{user}>, method=PLAIN, rip={address}, lip=198.51.100.1, mpid=7, TLS, session=<x>"
OTHERS = (
    "dovecot: imap-login: Disconnected (auth failed): user=<x>, method=PLAIN, rip=192.0.2.1, lip=198.51.100.1",
    "postfix/smtpd[7]: connect from unknown[192.0.2.1]",
    "dovecot: imap(ann)<7><x>: Disconnected: Logged out in=1 out=1",
)


class Writer:
    """A syslog daemon and its logrotate.

    Args:
        log: the file.
    """

    def __init__(self, log: Path) -> None:
        self.logins: dict[str, float] = {}
        """Address and when, in unix seconds."""
        self.rotations: Counter[str] = Counter()
        self._log = log
        self._file: IO[bytes] = log.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()

    def write(self, count: int) -> None:
        """Log in so many new addresses, with other lines in between."""
        for _ in range(count):
            number = len(self.logins)
            base = 0x64400000 if number % 2 else 0x20010DB8 << 96  # 100.64.0.0/10, 2001:db8::/32
            address = str(ipaddress.ip_address(base + number))
            self.logins[address] = time.time()
            self._line("dovecot: " + LOGIN.format(user=f"user{number // 32}", address=address))
            if CHANCE.random() < 0.5:
                self._line(CHANCE.choice(OTHERS))

    def _line(self, text: str) -> None:
        stamp = datetime.fromtimestamp(time.time(), UTC).isoformat()
        self._file.write(f"{stamp} mail {text}\n".encode())

    def rotate(self) -> None:
        """Rotate in one of the ways."""
        way = CHANCE.choice([self.rename, self.let_go_late, self.create_late, self.copytruncate])
        way()
        self.rotations[way.__name__] += 1
        if CHANCE.random() < 0.7:
            self.compress()

    def rename(self) -> None:
        """Rename and create."""
        self._log.rename(self._shift())
        self._reopen()

    def let_go_late(self) -> None:
        """Create the new file, and write on into the old one for a while."""
        self._log.rename(self._shift())
        self._log.touch()
        self.write(CHANCE.randint(1, BURST))
        self._reopen()

    def create_late(self) -> None:
        """Write on into the renamed file, and create no other for a while."""
        self._log.rename(self._shift())
        self.write(CHANCE.randint(1, BURST))
        time.sleep(CHANCE.random() * PAUSE)
        self._reopen()

    def copytruncate(self) -> None:
        """Copy and truncate while nobody writes: else what comes in between is lost, whoever reads."""
        shutil.copyfile(self._log, self._shift())
        os.truncate(self._log, 0)

    def compress(self) -> None:
        """Compress the predecessor but one, as logrotate does with ``delaycompress``."""
        old = self._log.with_name("mail.log.2")
        if old.exists():
            packed = old.with_name("mail.log.2.gz")
            with old.open("rb") as source, gzip.open(packed, "wb") as target:
                shutil.copyfileobj(source, target)
            shutil.copystat(old, packed)
            old.unlink()
            self.rotations["compress"] += 1

    def _shift(self) -> Path:
        olds = {int(old.suffixes[1][1:]): old for old in self._log.parent.glob("mail.log.*")}
        for number in sorted(olds, reverse=True):
            suffix = ".gz" if olds[number].suffix == ".gz" else ""
            olds[number].rename(self._log.with_name(f"mail.log.{number + 1}{suffix}"))
        return self._log.with_name("mail.log.1")

    def _reopen(self) -> None:
        self.close()
        self._file = self._log.open("ab", buffering=0)


class Daemon:
    """The daemon under test, as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "pop-before-smtp.toml"
        self.config.write_text(CONFIG.format(grace=GRACE, folder=folder))
        self.output = folder / "daemon.log"
        self.kills = 0
        self.start()

    def start(self) -> None:
        """Start it; nobody waits until it is ready."""
        with self.output.open("ab") as output:
            argv = [sys.executable, "-m", "pop_before_smtp", "run", "-c", str(self.config)]
            self._process = subprocess.Popen(argv, stdout=output, stderr=output)

    def kill(self) -> None:
        """End it with SIGKILL; it must have been running."""
        assert self._process.poll() is None, self.output.read_text()
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def mapped(self) -> list[set[str]]:
        """Return the keys of both maps."""
        try:
            maps = lmdb.read(self.folder / "relay.lmdb"), cdb.read(self.folder / "relay.cdb")
        except OSError:  # not there yet
            return []
        return [{key.rstrip(b"\0").decode() for key in one} for one in maps]

    def listed(self) -> list[dict[str, Any]]:
        """Return what ``list --json`` prints."""
        argv = [sys.executable, "-m", "pop_before_smtp", "list", "--json", "-c", str(self.config)]
        listing: list[dict[str, Any]] = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        return listing


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with contextlib.closing(Daemon(tmp_path)) as running:
        yield running


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    with contextlib.closing(Writer(tmp_path / "mail.log")) as one:
        yield one


def test_no_login_is_lost_whatever_happens_to_log_and_daemon(writer: Writer, daemon: Daemon) -> None:
    begun = time.monotonic()
    torment(writer, daemon)
    wait_for(daemon, set(writer.logins))
    seconds = time.monotonic() - begun
    daemon.kill()
    daemon.start()
    wait_for(daemon, set(writer.logins))
    rows = daemon.listed()
    assert len(rows) == 2 * len(writer.logins)
    for kind in ("lmdb", "cdb"):
        left = {row["address"]: row["remaining"] for row in rows if f"{kind}:" in row["writer"]}
        asked = [at + GRACE - left[address] for address, at in writer.logins.items()]  # when, were it exact
        assert max(asked) - min(asked) <= 1
        assert abs(time.time() - max(asked)) < PATIENCE
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.output.read_text()
    ways = ", ".join(f"{count} {way}" for way, count in writer.rotations.items())
    print(f"{len(writer.logins)} logins in {seconds:.0f} s, {daemon.kills} kills, rotations: {ways}")  # noqa: T201 - for -rP


def torment(writer: Writer, daemon: Daemon) -> None:
    """Write all logins, and rotate and kill meanwhile."""
    while len(writer.logins) < LOGINS:
        writer.write(min(CHANCE.randint(1, 2 * BURST), LOGINS - len(writer.logins)))
        if CHANCE.random() < ROTATIONS:
            writer.rotate()
        if CHANCE.random() < KILLS:
            daemon.kill()
            if CHANCE.random() < 0.5:
                writer.rotate()
            daemon.start()
        time.sleep(2 * PAUSE * CHANCE.random())


def wait_for(daemon: Daemon, addresses: set[str]) -> None:
    """Wait until both maps hold these addresses; AssertionError names some of the difference."""
    end = time.monotonic() + PATIENCE
    while (maps := daemon.mapped()) != [addresses, addresses]:
        lacking = [(len(addresses - keys), sorted(addresses - keys)[:3], sorted(keys - addresses)[:3]) for keys in maps]
        assert time.monotonic() < end, (lacking, daemon.output.read_text()[-4000:])
        time.sleep(0.2)
