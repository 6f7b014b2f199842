"""From a batch of log lines to leases: matcher, policy, outlets. No I/O, no clock of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from ._match import Matcher
from ._outlet import Outlet
from ._policy import Login, Policy
from ._record import Batch, Records
from .api import LOGIN, LoginEvent

_log = logging.getLogger("pop_before_smtp.engine")


AnyLogin = TypeVar("AnyLogin", bound=Login)


class Engine:
    """What ``run``, ``list``, ``explain`` and the model test share."""

    def __init__(self, matcher: Matcher, policy: Policy, outlets: Sequence[Outlet]) -> None:
        self.matcher = matcher
        self.policy = policy
        self.outlets = outlets
        self.counts: Counter[str] = Counter()

    def feed(self, batch: Batch | Records, now: float, wall: float) -> list[LoginEvent]:
        """Apply a batch and return the logins to remember.

        Args:
            batch: whole lines or records of one source.
            now: the lease clock.
            wall: the wall clock, in unix seconds.
        """
        return self.apply(self.matcher.feed(batch), now, wall)

    def apply(self, logins: Iterable[AnyLogin], now: float, wall: float) -> list[AnyLogin]:
        """Apply logins, seen now or remembered, and return those that some outlet's lease rests on."""
        kept = []
        debug = _log.isEnabledFor(logging.DEBUG)
        judge, outlets = self.policy.judge, self.outlets
        for login in logins:
            if login.kind is not LOGIN:
                continue
            reason = judge(login)
            if reason:
                self.counts[reason] += 1
                if debug:
                    _log.debug("ignoring ip=%s: %s", login.address, reason)
                continue
            age = wall - login.at if login.at < wall else 0.0
            reasons = []
            for outlet in outlets:
                reasons.append(outlet.apply(login, now, age))  # noqa: PERF401 - half the time of a comprehension
            if None in reasons:
                kept.append(login)
            if debug:
                self._tell(login, reasons)
        return kept

    def _tell(self, event: Login, reasons: list[str | None]) -> None:
        """Log what each outlet made of a login, in the words of the original where it had some."""
        _log.debug("found ip=%s user=%s service=%s", event.address, event.user, event.service)
        for outlet, reason in zip(self.outlets, reasons, strict=True):
            if reason == "netblocks":
                _log.debug("ignoring local-net ip=%s: %s", event.address, outlet.label)
            elif reason:
                _log.debug("ignoring ip=%s: %s: %s", event.address, outlet.label, reason)
            else:
                _log.debug("setting expiration time for ip=%s: %s", event.address, outlet.label)

    def next_due(self) -> float | None:
        """Return when the next lease may end, on the lease clock."""
        due = [next_due for outlet in self.outlets if (next_due := outlet.leases.next_due()) is not None]
        return min(due, default=None)
