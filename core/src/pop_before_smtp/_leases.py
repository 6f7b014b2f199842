"""The lease table: who may relay until when. No clock, no I/O; every operation is O(1) in the number of leases."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

_SLOTS = 4
"""Due lists per second: a lease ends at most 1/4 s after its deadline."""


class LeaseTable:
    """Deadlines by address, and the addresses by the slot in which they fall due.

    An address stands in one due list. A renewal changes only its deadline; the due list, when its slot comes, expires
    the address or files it again. Times are seconds on the lease clock.
    """

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}  # negative: revoked, and filed under the slot of the absolute value
        self._due: dict[int, list[str]] = {}
        self._slots: list[int] = []
        self.live = 0
        """How many leases there are."""

    def __len__(self) -> int:
        return self.live

    def __contains__(self, address: str) -> bool:
        return self._deadlines.get(address, -1.0) >= 0

    def __iter__(self) -> Iterator[str]:
        return (address for address, deadline in self._deadlines.items() if deadline >= 0)

    def deadline(self, address: str) -> float | None:
        """Return when the lease ends; None where there is none."""
        deadline = self._deadlines.get(address, -1.0)
        return deadline if deadline >= 0 else None

    def grant(self, address: str, deadline: float) -> bool:
        """Grant or renew a lease; the later deadline counts. Tell whether it is new."""
        known = self._deadlines.get(address)
        if known is not None and known >= 0:
            if deadline > known:
                self._deadlines[address] = deadline
            return False
        self._deadlines[address] = deadline
        if known is None or deadline < -known:
            self._file(address, deadline)
        self.live += 1
        return True

    def revoke(self, address: str) -> bool:
        """End a lease now. Tell whether there was one."""
        deadline = self._deadlines.get(address, -1.0)
        if deadline < 0:
            return False
        self._deadlines[address] = -max(deadline, math.ulp(0.0))
        self.live -= 1
        return True

    def next_due(self) -> float | None:
        """Return when :meth:`expire` has something to look at; None for an empty table."""
        return self._slots[0] / _SLOTS if self._slots else None

    def expire(self, now: float, limit: int = 2_000) -> list[str]:
        """Drop leases that have ended and return them, looking at no more than ``limit`` addresses.

        Call it again while :meth:`next_due` is not after ``now``.
        """
        expired: list[str] = []
        while limit > 0 and self._slots and self._slots[0] <= now * _SLOTS:
            due = self._due[self._slots[0]]
            some = due[-limit:]
            del due[-limit:]
            limit -= len(some)
            self._settle(some, now, expired)
            if not due:
                del self._due[heapq.heappop(self._slots)]
        self.live -= len(expired)
        return expired

    def _settle(self, addresses: list[str], now: float, expired: list[str]) -> None:
        """Drop those of the addresses whose time has come, and file the others again."""
        deadlines = self._deadlines
        for address in addresses:
            deadline = deadlines.get(address)
            if deadline is None:
                continue
            if deadline > now:
                self._file(address, deadline)
                continue
            del deadlines[address]
            if deadline >= 0:
                expired.append(address)

    def _file(self, address: str, deadline: float) -> None:
        slot = math.ceil(deadline * _SLOTS)
        due = self._due.get(slot)
        if due is None:
            self._due[slot] = [address]
            heapq.heappush(self._slots, slot)
        else:
            due.append(address)
