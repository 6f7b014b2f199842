"""From a batch of log lines to leases: matcher, policy, outlets. No I/O, no clock of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ._match import Matcher
from ._outlet import Outlet
from ._policy import Policy
from ._record import Batch
from .api import LOGIN, LoginEvent


class Engine:
    """What ``run``, ``list``, ``explain`` and the model test share."""

    def __init__(self, matcher: Matcher, policy: Policy, outlets: Sequence[Outlet]) -> None:
        self.matcher = matcher
        self.policy = policy
        self.outlets = outlets
        self.counts: Counter[str] = Counter()

    def feed(self, batch: Batch, now: float, wall: float) -> list[LoginEvent]:
        """Apply a batch and return the logins to remember.

        Args:
            batch: whole lines of one source.
            now: the lease clock.
            wall: the wall clock, in unix seconds.
        """
        return self.apply(self.matcher.feed(batch), now, wall)

    def apply(self, events: Iterable[LoginEvent], now: float, wall: float) -> list[LoginEvent]:
        """Apply events and return the logins that some outlet's lease rests on."""
        kept = []
        for event in events:
            if event.kind is not LOGIN:
                continue
            reason = self.policy.judge(event)
            if reason:
                self.counts[reason] += 1
                continue
            age = max(0.0, wall - event.at)
            granted = [outlet.apply(event, now, age) is None for outlet in self.outlets]
            if any(granted):
                kept.append(event)
        return kept

    def next_due(self) -> float | None:
        """Return when the next lease may end, on the lease clock."""
        due = [next_due for outlet in self.outlets if (next_due := outlet.leases.next_due()) is not None]
        return min(due, default=None)
