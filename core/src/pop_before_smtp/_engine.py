"""From a batch of log lines to leases: matcher, policy, outlets. No I/O, no clock of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from ._lag import Lag
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
        self._lag = Lag()
        self._longest = max((outlet.grace for outlet in outlets), default=0.0)

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
            if debug:
                _tell(login, reason)
            if reason:
                self.counts[reason] += 1
                continue
            age = wall - login.at if login.at < wall else 0.0
            granted = False
            for outlet in outlets:
                reason = outlet.apply(login, now, age)
                granted = granted or reason is None
                if debug:
                    _tell_of(outlet, login, reason)
            if granted:
                kept.append(login)
            elif age >= self._longest and isinstance(login, LoginEvent):
                self._lag.note(login.source, age, wall)
        return kept

    def next_due(self) -> float | None:
        """Return when the next lease may end, on the lease clock."""
        due = [next_due for outlet in self.outlets if (next_due := outlet.leases.next_due()) is not None]
        return min(due, default=None)


def _tell(login: Login, reason: str | None) -> None:
    """Log what the policy made of a login, in the words of the original where it had some."""
    if reason:
        _log.debug("ignoring ip=%s: %s", login.address, reason)
    else:
        _log.debug("found ip=%s user=%s service=%s", login.address, login.user, login.service)


def _tell_of(outlet: Outlet, login: Login, reason: str | None) -> None:
    """Log what an outlet made of it."""
    if reason == "netblocks":
        _log.debug("ignoring local-net ip=%s: %s", login.address, outlet.label)
    elif reason:
        _log.debug("ignoring ip=%s: %s: %s", login.address, outlet.label, reason)
    else:
        _log.debug("setting expiration time for ip=%s: %s", login.address, outlet.label)
