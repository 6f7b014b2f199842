"""One configured consumer at run time: what it wants, what it serves anyway, and its leases."""

from __future__ import annotations

import logging
from collections import Counter

from ._config import PolicySettings, WriterSettings
from ._leases import LeaseTable
from ._networks import Netblocks
from ._policy import Login, user_filter

_log = logging.getLogger("pop_before_smtp.outlet")

_SLICE = 200
"""So many users are let go at a time, each with all addresses: a million at once would hold the loop."""


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
        self._user = user_filter(writer.outlet.users) if writer.outlet.users else None
        self._filtered = bool(writer.outlet.services or writer.outlet.users)
        self._picky = self._filtered or bool(netblocks.entries)
        self._max_leases = policy.max_leases
        self._max_addresses = policy.max_addresses_per_user
        self._users: dict[str, str | list[str]] = {}  # who logged in since the turn, from where, newest last,
        self._earlier: dict[str, str | list[str]] = {}  # and who did only in the grace before: nobody else has a lease
        self._past: dict[str, str | list[str]] = {}  # no longer asked for, and let go in slices
        self._turn = 0.0
        self._changes: dict[str, bool] | None = None  # before they are asked for, all leases are new

    def judge(self, event: Login) -> str | None:
        """Return why a login that the policy permits grants nothing here; None if it does."""
        if self._services and event.service not in self._services:
            return "service"
        if self._user and not self._user(event.user):
            return "user"
        if event.address is None:
            return "no_address"
        return "netblocks" if event.address in self.netblocks else None

    def apply(self, event: Login, now: float, age: float) -> str | None:
        """Grant or renew the lease that a permitted login is worth. Return why not, or None.

        Args:
            event: a login; its address is canonical.
            now: the lease clock.
            age: how long ago the login happened, in seconds.
        """
        address = event.address
        if address is None or self._picky or age >= self.grace or self.leases.live >= self._max_leases:
            reason = self._refuse(event, age)
            if reason or address is None:
                self.counts[reason or "no_address"] += 1
                return reason
        self.counts["logins"] += 1
        if self.leases.grant(address, now + self.grace - age) and self._changes is not None:
            self._changes[address] = True
        if event.user is not None:
            self._own(event.user, address, now)
        return None

    def _refuse(self, event: Login, age: float) -> str | None:
        """Return why a login is worth nothing; what was asked for a lease is not asked again for its renewal."""
        known = event.address is not None and event.address in self.leases
        if self._filtered or not known:
            reason = self.judge(event)
            if reason:
                return reason
        if age >= self.grace:
            return "expired_on_arrival"
        return None if known or self.leases.live < self._max_leases else self._full()

    def _full(self) -> str:
        if not self.counts["max_leases"]:
            _log.error(
                "%s: %d leases, no new ones: raise policy.max_leases or look for abuse", self.label, len(self.leases)
            )
        return "max_leases"

    def _own(self, user: str, address: str, now: float) -> None:
        """Remember whose address it is; the oldest beyond ``max_addresses_per_user`` loses its lease."""
        if now >= self._turn:
            self._users, self._earlier, self._past = {}, self._users, self._earlier
            self._turn = now + self.grace
        addresses = self._users.get(user)
        if addresses is None:
            addresses = self._users[user] = self._earlier.pop(user, address)
        if addresses == address:
            return
        if isinstance(addresses, str):
            addresses = self._users[user] = [addresses]
        if addresses[-1] != address:
            addresses.append(address)
            if len(addresses) > self._max_addresses:
                self._trim(addresses)

    def _trim(self, addresses: list[str]) -> None:
        """Leave each address that has a lease once, where it came last, and end the oldest ones that are too many."""
        addresses[:] = reversed(dict.fromkeys(one for one in reversed(addresses) if one in self.leases))
        while len(addresses) > self._max_addresses:
            self._end(addresses.pop(0))
            self.counts["max_addresses_per_user"] += 1

    def _end(self, address: str) -> None:
        if self.leases.revoke(address) and self._changes is not None:
            self._changes[address] = False

    def expire(self, now: float) -> list[str]:
        """End the leases that are due, a slice of them, and return them; see :meth:`LeaseTable.expire`."""
        expired = self.leases.expire(now)
        if self._changes:
            self._changes.update(dict.fromkeys(expired, False))
        elif self._changes is not None:
            self._changes = dict.fromkeys(expired, False)
        self.counts["expired"] += len(expired)
        for _ in range(min(len(self._past), _SLICE)):
            self._past.popitem()
        return expired

    def changes(self) -> dict[str, bool]:
        """Hand over the net change since the last call: address to True (added) or False (removed)."""
        changes, self._changes = self._changes, {}
        return dict.fromkeys(self.leases, True) if changes is None else changes
