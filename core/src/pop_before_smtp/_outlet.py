"""One configured consumer at run time: what it wants, what it serves anyway, and its leases."""

from __future__ import annotations

import logging
from collections import Counter

from ._config import PolicySettings, WriterSettings
from ._leases import LeaseTable
from ._networks import Netblocks
from ._policy import user_filter
from .api import LoginEvent

_log = logging.getLogger("pop_before_smtp.outlet")


class Outlet:
    """The leases of one ``[[writer]]``, and what of them its map does not know yet.

    Times are seconds on the lease clock. No I/O: the daemon takes :meth:`changes` to the map's thread.
    """

    def __init__(self, writer: WriterSettings, grace: float, netblocks: Netblocks, policy: PolicySettings) -> None:
        self.writer = writer
        self.label = writer.label
        self.grace = grace
        self.netblocks = netblocks
        self.leases = LeaseTable()
        self.counts: Counter[str] = Counter()
        self._services = frozenset(writer.outlet.services)
        self._user = user_filter(writer.outlet.users)
        self._filtered = bool(writer.outlet.services or writer.outlet.users)
        self._max_leases = policy.max_leases
        self._max_addresses = policy.max_addresses_per_user
        self._users: dict[str, list[str]] = {}  # who logged in since the turn,
        self._earlier: dict[str, list[str]] = {}  # and who did only in the grace before: nobody else has a lease
        self._turn = 0.0
        self._changes: dict[str, bool] = {}

    def judge(self, event: LoginEvent) -> str | None:
        """Return why a login that the policy permits grants nothing here; None if it does."""
        if self._services and event.service not in self._services:
            return "service"
        if not self._user(event.user):
            return "user"
        if event.address is None:
            return "no_address"
        return "netblocks" if event.address in self.netblocks else None

    def apply(self, event: LoginEvent, now: float, age: float) -> str | None:
        """Grant or renew the lease that a permitted login is worth. Return why not, or None.

        Args:
            event: a login; its address is canonical.
            now: the lease clock.
            age: how long ago the login happened, in seconds.
        """
        reason = self._apply(event, now, age)
        self.counts[reason or "logins"] += 1
        return reason

    def _apply(self, event: LoginEvent, now: float, age: float) -> str | None:
        address = event.address
        if address is None or address not in self.leases or self._filtered:
            reason = self.judge(event)
            if reason or address is None:
                return reason
        if age >= self.grace:
            return "expired_on_arrival"
        if len(self.leases) >= self._max_leases and address not in self.leases:
            return self._full()
        if self.leases.grant(address, now + self.grace - age):
            self._changes[address] = True
        if event.user is not None:
            self._own(event.user, address, now)
        return None

    def _full(self) -> str:
        if not self.counts["max_leases"]:
            _log.error(
                "%s: %d leases, no new ones: raise policy.max_leases or look for abuse", self.label, len(self.leases)
            )
        return "max_leases"

    def _own(self, user: str, address: str, now: float) -> None:
        """Remember whose address it is; the oldest beyond ``max_addresses_per_user`` loses its lease."""
        if now >= self._turn:
            self._users, self._earlier = {}, self._users
            self._turn = now + self.grace
        addresses = self._users.get(user)
        if addresses is None:
            addresses = self._users[user] = self._earlier.pop(user, [address])
        if addresses[-1] == address:
            return
        if address in addresses:
            addresses.remove(address)
        addresses.append(address)
        if len(addresses) > self._max_addresses:
            addresses[:] = [one for one in addresses if one in self.leases]
            while len(addresses) > self._max_addresses:
                self._end(addresses.pop(0))
                self.counts["max_addresses_per_user"] += 1

    def _end(self, address: str) -> None:
        if self.leases.revoke(address):
            self._changes[address] = False

    def expire(self, now: float) -> list[str]:
        """End the leases that are due, a slice of them, and return them; see :meth:`LeaseTable.expire`."""
        expired = self.leases.expire(now)
        self._changes.update(dict.fromkeys(expired, False))
        self.counts["expired"] += len(expired)
        return expired

    def changes(self) -> dict[str, bool]:
        """Hand over the net change since the last call: address to True (added) or False (removed)."""
        changes, self._changes = self._changes, {}
        return changes
