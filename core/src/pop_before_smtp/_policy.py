"""May this login ever relay? One answer for all outlets: None, or the reason why not."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from ._config import PolicySettings
from ._host import Host
from ._networks import Address, Netblocks, Stretches
from .api import Kind

PRIVATE = Netblocks.of(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""RFC 1918, RFC 6598, RFC 4193. Explicit, since ``is_private`` holds documentation ranges too."""

NEVER = Netblocks.of(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
"""Unspecified, loopback, link-local, multicast and reserved: no client of ours is there."""


class Login(Protocol):
    """What a login is judged by: a :class:`~pop_before_smtp.api.LoginEvent` has it, and a remembered login too."""

    @property
    def kind(self) -> Kind: ...
    @property
    def at(self) -> float: ...
    @property
    def address(self) -> str | None: ...
    @property
    def user(self) -> str | None: ...
    @property
    def service(self) -> str | None: ...
    @property
    def tls(self) -> bool | None: ...


class Policy:
    """The rules of ``[policy]`` and what the machine itself forbids.

    Args:
        settings: the ``[policy]`` table.
        host: what :func:`pop_before_smtp._host.look` saw; give newer ones to :meth:`refresh`.
    """

    def __init__(self, settings: PolicySettings, host: Host) -> None:
        self._settings = settings
        self._refused = Netblocks.of(settings.refuse)
        self._proxies = Netblocks.of(settings.trusted_proxies)
        self._exempt = Netblocks.of(settings.exempt)
        self._services = frozenset(settings.services)
        self._require_tls = settings.require_tls
        self._user = user_filter(settings.users) if settings.users else None
        self.refresh(host)

    def refresh(self, host: Host) -> None:
        """Judge from now on by a newer look at the machine."""
        self._host = host
        self._bridges = Netblocks.of(host.bridges)
        rules = (NEVER, PRIVATE, self._bridges, self._proxies, self._refused, self._exempt)
        networks = [network for blocks in rules for network, _ in blocks.entries]
        self._reasons = Stretches([*networks, *map(ipaddress.ip_network, host.own)], self._address)

    def judge(self, event: Login) -> str | None:
        """Return why this login grants nothing; None if it may."""
        if event.service not in self._services:
            return "service"
        if self._require_tls and event.tls is not True:
            return "no_tls"
        if self._user and not self._user(event.user):
            return "user"
        if event.address is None:
            return "no_address"
        return self.place(event.address)

    def place(self, address: str) -> str | None:
        """Return why no login from this address grants anything; None if it may."""
        try:
            return self._reasons[address]
        except (OSError, ValueError):
            return "bad_address"

    def _address(self, address: Address) -> str | None:
        if NEVER.permits(address):
            return "never"
        if str(address) in self._host.own:
            return "own_address"
        if self._proxies.permits(address):
            return "trusted_proxy"
        if self._refused.permits(address):
            return "refused_network"
        if self._exempt.permits(address):
            return "exempt"
        return self._private(address)

    def _private(self, address: Address) -> str | None:
        if self._settings.private_addresses == "allow" or not PRIVATE.permits(address):
            return None
        if self._settings.private_addresses == "refuse":
            return "private_address"
        return "container" if self._host.container or self._bridges.permits(address) else None


def user_filter(patterns: Sequence[str]) -> Callable[[str | None], bool]:
    """Return the test whether a user is meant by one of the patterns (``*``, ``?``)."""
    matches = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)).match
    return lambda user: user is not None and matches(user) is not None
