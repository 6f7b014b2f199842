"""Several writers at once: each has its own grace, value and filter, and no trouble of one is another's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lab import eventually
from maptypes import TYPES, MapType, folder
from pop_before_smtp.maps import cdb

__all__ = ["folder"]

ROOT = Path(__file__).parent.parent
TOP = """
plugins = ["courier", "dovecot", "exim", "opensmtpd", "postfix", "qmail", "sendmail"]
state_dir = "{folder}/state"
[[source]]
path = "{folder}/mail.log"
"""


class Site:
    """One daemon, as a process, and the log that it reads."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.file = folder / "pop-before-smtp.toml"
        self.file.write_text(text)
        argv = [sys.executable, "-m", "pop_before_smtp", "run", "-c", str(self.file)]
        self._process = subprocess.Popen(argv, text=True, stderr=subprocess.PIPE)
        self.wait_for("startup log-scan complete")

    def wait_for(self, text: str) -> None:
        """Wait until the daemon logs something."""
        assert self._process.stderr
        assert any(text in line for line in self._process.stderr), f"{text!r} was not logged"

    def login(self, address: str, user: str = "ann", service: str = "imap", ago: float = 0.0) -> None:
        """Let Dovecot log a login."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - ago))
        with (self.folder / "mail.log").open("a") as log:
            log.write(
                f"{stamp} mail dovecot: {service}-login: Login: user=<{user}>, method=PLAIN, rip={address}, "
                "lip=192.0.2.1, mpid=7, TLS, session=<x>\n"
            )

    def leases(self) -> list[dict[str, Any]]:
        """Return what ``list --json`` prints."""
        argv = [sys.executable, "-m", "pop_before_smtp", "list", "--json", "-c", str(self.file)]
        rows: list[dict[str, Any]] = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        return rows

    def stop(self) -> int:
        """End the daemon."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=30)
        return self._process.returncode

    def kill(self) -> None:
        """End it if it runs."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def running(folder: Path, text: str) -> Iterator[Site]:
    site = Site(folder, text)
    try:
        yield site
        assert site.stop() == 0
    finally:
        site.kill()


def writer(**keys: object) -> str:
    """Return a ``[[writer]]`` that asks no mail server for netblocks."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"netblocks": [], **keys}.items()]
    return "\n".join(["[[writer]]", *lines, ""])


def test_one_login_is_worth_to_each_writer_what_it_says(folder: Path) -> None:
    """The writers are those of the example."""
    example = tomllib.loads((ROOT / "examples/several.toml").read_text())
    text = TOP + "".join(writer(**each) for each in example["writer"])
    with running(folder, text.replace("/var/lib/pop-before-smtp", "{folder}/cdb").format(folder=folder)) as site:
        place = folder / "cdb"
        maps: dict[str, Callable[[], set[str]]] = {
            "relay": lambda: TYPES["lmdb"].addresses(TYPES["lmdb"].read(place / "relay.lmdb")),
            "known": lambda: TYPES["cdb"].addresses(cdb.read(place / "known.cdb")),
            "hosts": lambda: set((place / "hosts").read_text().split()),
        }
        site.login("203.0.113.1", ago=3600)
        site.login("203.0.113.2", "bob")
        site.login("203.0.113.3", "ann", "pop3")
        site.login("2001:db8:9::4", "scanner-7")
        half_an_hour = {"203.0.113.2", "203.0.113.3", "2001:db8:9::4"}
        expected = {"relay": half_an_hour, "known": half_an_hour | {"203.0.113.1"}, "hosts": {"2001:db8:9::4"}}
        eventually(lambda: {name: keys() for name, keys in maps.items()} == expected, within=20.0)
        assert set(cdb.read(place / "known.cdb").values()) == {b"permit"}
        eventually(lambda: len(site.leases()) == 8)
        left = {row["writer"].rpartition("/")[2]: row["remaining"] for row in site.leases() if "::4" in row["address"]}
        assert [round(left[name], -2) for name in ("relay", "known", "hosts")] == [1800, 86400, 1800]
    assert [keys() for keys in maps.values()] == [set(), set(), set()]


# -- trouble


@contextmanager
def disk_full(directory: Path) -> Iterator[None]:
    ballast = directory / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(1 << 20))
    yield
    ballast.unlink()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", directory], check=True)


@contextmanager
def gone(directory: Path) -> Iterator[None]:
    directory.rename(directory.with_name("aside"))
    yield
    directory.with_name("aside").rename(directory)


@contextmanager
def smtpctl_missing(directory: Path) -> Iterator[None]:
    command = directory.parent / "bin" / "smtpctl"
    command.rename(command.with_name("aside"))
    command.symlink_to("/nowhere")
    yield
    command.unlink()
    command.with_name("aside").rename(command)


BROKEN: dict[str, Callable[[Path], Any]] = {
    "cdb": disk_full,
    "tcp.smtp": read_only,
    "hosts": gone,
    "table": smtpctl_missing,
}
"""What goes wrong with which type; the writer of an lmdb is left in peace."""
FIRST, SECOND = "203.0.113.7", "203.0.113.8"


@pytest.fixture
def small_disks(folder: Path) -> Iterator[Path]:
    """Give a folder where some maps lie on file systems of their own."""
    places = [folder / name for name in ("cdb", "tcp.smtp")]
    with ExitStack() as undo:
        for place in places:
            mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", place], check=False)
            if mount.returncode:
                pytest.skip("needs root, to mount small file systems")
            undo.callback(partial(subprocess.run, ["umount", "--lazy", place], check=True))
        yield folder


def test_a_writer_in_trouble_is_its_own_trouble_and_mends_itself(small_disks: Path) -> None:
    folder = small_disks
    types: dict[str, MapType] = {name: TYPES[name] for name in ("lmdb", *BROKEN)}
    text = TOP.format(folder=folder) + "".join(writer(**each.keys(folder / name)) for name, each in types.items())

    def held() -> dict[str, set[str]]:
        return {name: each.holds(folder / name) for name, each in types.items()}

    with running(folder, text) as site:
        site.login(FIRST)
        eventually(lambda: held() == {name: {FIRST} for name in types}, within=20.0)
        with ExitStack() as trouble:
            for name, cause in BROKEN.items():
                trouble.enter_context(cause(folder / name))
            site.login(SECOND)
            eventually(lambda: types["lmdb"].holds(folder / "lmdb") == {FIRST, SECOND})
            for _ in BROKEN:
                site.wait_for("; trying again")
            kept = {name: types[name].holds(folder / name) for name in ("cdb", "tcp.smtp")}
            assert kept == {"cdb": {FIRST}, "tcp.smtp": {FIRST}}
        assert types["hosts"].holds(folder / "hosts") == {FIRST}
        eventually(lambda: held() == {name: {FIRST, SECOND} for name in types}, within=20.0)
        for _ in BROKEN:
            site.wait_for(": written again")
    assert held() == {name: set() for name in types}
