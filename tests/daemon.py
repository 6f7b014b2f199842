"""The daemon under test, running in a lab as an operator runs it: a configuration file, a process, signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from lab import Lab
from servers import PORTS, STATE

PROGRAM = Path(sys.executable).with_name("pop-before-smtp")
GRACE = 5.0
"""Seconds: long enough for a restart in between, short enough to wait for."""

CONFIG = """
plugins = ["{parser}", "postfix"]
grace = {grace:.0f}
state_dir = "{state}/{name}-state"
[[source]]
path = "{log}"
"""
WRITER = """
[[writer]]
use = "postfix"
map = "{kind}:{map}"
"""


class Daemon:
    """One configured daemon, running or not.

    Args:
        lab: where it runs.
        parser: the plugin for the lab's POP and IMAP server.
        log: the file that it follows.
        name: of its configuration and state, and of its maps where it does not keep those that Postfix reads.
        kinds: the types of its maps.
    """

    def __init__(
        self, lab: Lab, parser: str, *, log: str = "/var/log/mail.log", name: str = "", kinds: tuple[str, ...] = ()
    ) -> None:
        self.lab = lab
        self.maps = {kind: f"{STATE}/{name or kind}" for kind in kinds or PORTS}
        self.config = f"/etc/pop-before-smtp-{name or parser}.toml"
        self._log = f"/tmp/{name or parser}.log"
        self._pid = f"/run/{name or parser}.pid"
        text = CONFIG.format(parser=parser, grace=GRACE, state=STATE, name=name or parser, log=log)
        text += "".join(WRITER.format(kind=kind, map=path) for kind, path in self.maps.items())
        lab.write(self.config, text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it says READY=1; AssertionError with its log if it does not."""
        path = self.lab.path("/run/notify")
        path.unlink(missing_ok=True)
        start = f"echo $$ > {self._pid}; exec env NOTIFY_SOCKET=/run/notify {PROGRAM} run -c {self.config}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self.lab.path(self._log).open("ab") as log:
            notify.bind(str(path))
            notify.settimeout(0.2)
            self._process = self.lab.spawn("sh", "-c", start, output=log)
            for _ in range(100):
                try:
                    if b"READY=1" in notify.recv(4096):
                        return
                except TimeoutError:
                    assert self.running, self.log()
        raise AssertionError(self.log())

    def kill(self, number: int) -> None:
        """Send it a signal."""
        self.lab.sh(f"kill -{number} $(cat {self._pid})")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it if it runs; return its exit code, negative for a signal."""
        assert self._process is not None
        if self.running:
            self.kill(number)
        return self._process.wait(20)

    def command(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the program's commands with this configuration."""
        return self.lab.run(PROGRAM, *argv, "-c", self.config, check=check)

    def leases(self) -> Any:
        """Return what ``list --json`` prints."""
        return json.loads(self.command("list", "--json").stdout)

    def mapped(self, kind: str = "lmdb") -> set[str]:
        """Return the keys of one of its maps (not cdb), as Postfix's own tool lists them."""
        listing = self.lab.sh(f"postmap -s {kind}:{self.maps[kind]}")
        return {line.split()[0] for line in listing.splitlines()}

    def holding(self, client: str) -> set[str]:
        """Return the kinds of its maps that hold a client, as Postfix's own tool finds it."""
        asked = [f"postmap -q {client} {kind}:{path} >/dev/null && echo {kind}" for kind, path in self.maps.items()]
        return set(self.lab.sh("; ".join([*asked, ":"])).split())

    def effort(self) -> tuple[float, int]:
        """Return the seconds of CPU that it has used, and how often any of its threads woke up."""
        script = f"cat /proc/$(cat {self._pid})/stat; grep -h ^voluntary /proc/$(cat {self._pid})/task/*/status"
        first, *wakes = self.lab.sh(script).splitlines()
        ticks = first.rpartition(")")[2].split()[11:13]
        return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), sum(int(line.split()[1]) for line in wakes)

    def log(self) -> str:
        """Return all that it has logged."""
        return self.lab.path(self._log).read_text()
