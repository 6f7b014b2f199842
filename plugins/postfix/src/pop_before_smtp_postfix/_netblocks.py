"""The clients that Postfix lets relay without a lease: ``mynetworks``, read the way Postfix reads it.

What cannot be listed is left out with a warning: its clients get leases that they do not need. Where that is an
exclusion, everything behind it is left out too, for it may be about those clients.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from pop_before_smtp.api import Network

from ._commands import CommandError, ask
from ._lookups import needle
from ._maps import Settings
from ._patterns import UnlistableError, network, patterns
from ._tables import members

_LOOPBACK = ("127.0.0.0/8", "[::1]/128")


def netblocks(settings: Settings) -> Iterator[tuple[Network, bool]]:
    """Yield (network, permitted) in the order of ``mynetworks``; the first match wins.

    Bare IPv6 (``2001:db8::/32``) is yielded with a warning: Postfix takes it for a table and answers 451 to everybody.
    """
    try:
        text = ask("postconf", "-xh", "mynetworks", config_directory=settings.config_directory)
    except CommandError as error:
        _warn(f"cannot read mynetworks, so only loopback counts as permitted: {error}")
        yield from ((found, True) for loopback in _LOOPBACK for found in network(loopback))
        return
    _report_services(settings)
    for pattern, permitted in patterns(text):
        try:
            found = list(_expand(pattern, settings))
        except UnlistableError as error:
            rest = "clients there get leases they do not need" if permitted else "all networks after it are left out"
            _warn(f"mynetworks: {pattern} {error}; {rest}")
            if not permitted:
                return
        else:
            yield from ((one, permitted) for one in found)


def _expand(pattern: str, settings: Settings) -> Iterator[Network]:
    if pattern.startswith("/"):
        raise UnlistableError("cannot be read")
    if ":" not in pattern or pattern.startswith("["):
        yield from network(pattern)
        return
    try:
        bare = list(network(pattern))
    except UnlistableError:
        yield from members(pattern, settings)
    else:
        _warn(f"mynetworks: Postfix takes {pattern} for a table and answers 451 to everybody; put [ ] around it")
        yield from bare


def _report_services(settings: Settings) -> None:
    """Warn of services in master.cf to which main.cf's mynetworks or our map does not apply."""
    asked = ("*/inet/mynetworks", "*/inet/smtpd_relay_restrictions")
    try:
        text = ask("postconf", "-P", "-x", *asked, config_directory=settings.config_directory)
    except CommandError as error:
        _warn(f"cannot read the overrides in master.cf: {error}")
        return
    for line in text.splitlines():
        name, _, value = line.partition(" = ")
        service, _, parameter = name.rpartition("/")
        if parameter == "mynetworks":
            _warn(f"master.cf: {service} has its own mynetworks ({value}), which is not looked at")
        elif needle(settings) not in value:
            _warn(f"master.cf: {service} has its own {parameter} without {settings.map}: leases do not count there")


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
