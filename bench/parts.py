"""What the measurements share: an engine with one outlet whose map writes nothing, and logins by the thousand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen
from pop_before_smtp._config import OutletSettings, PolicySettings, WriterSettings
from pop_before_smtp._engine import Engine
from pop_before_smtp._host import Host
from pop_before_smtp._match import Matcher
from pop_before_smtp._networks import Netblocks
from pop_before_smtp._outlet import Outlet
from pop_before_smtp._policy import Policy
from pop_before_smtp.api import LOGIN, Changes, LoginEvent, Map, Writer

GRACE = 1800.0
BATCH = 500
USERS = 20_000
NOON = 1_800_000_000.0


@frozen
class _Settings:
    """Nothing to set."""


class Nothing(Map):
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


def engine(leases: int) -> tuple[Engine, Outlet]:
    """Return an engine that takes so many leases, and its one outlet."""
    policy = PolicySettings(max_leases=leases, private_addresses="allow")
    writer = Writer(name="nothing", settings=_Settings, open=lambda _: Nothing())
    wanted = WriterSettings(outlet=OutletSettings(use="nothing"), writer=writer, settings=_Settings(), index=0)
    outlet = Outlet(wanted, GRACE, Netblocks(), policy)
    return Engine(Matcher([]), Policy(policy, Host()), [outlet]), outlet


def logins(numbers: Iterable[int], *, at: float = NOON, users: int = USERS) -> list[LoginEvent]:
    """Return logins, each from the IPv4 address and by the user of its number."""
    return [
        LoginEvent(
            kind=LOGIN,
            address=f"100.{n >> 16}.{n >> 8 & 255}.{n & 255}",
            at=at,
            received=at,
            user=f"user{n % users}@example.org",
            service="imap",
            tls=True,
            parser="dovecot",
            source="/var/log/mail.log",
            position=150 * n,
        )
        for n in numbers
    ]


def alone(module: str, *args: object) -> dict[str, Any]:
    """Run a module's ``main`` in a process of its own and return the JSON data that it prints."""
    argv = [sys.executable, "-m", f"bench.{module}", *map(str, args)]
    done: dict[str, Any] = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return done
