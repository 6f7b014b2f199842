"""Labs that the whole-system tests share: each is built once, when the first test asks for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

import pytest
import servers
from lab import Lab, lacking


@pytest.fixture(scope="session")
def new_lab() -> type[Lab]:
    """Give what makes labs; skip where none can be made."""
    if reason := lacking():
        pytest.skip(reason)
    return Lab


@pytest.fixture(scope="session")
def dovecot_lab(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab with Dovecot, Postfix and rsyslog running."""
    with new_lab(*servers.POSTFIX, *servers.DOVECOT) as lab:
        servers.start_rsyslog(lab)
        servers.start_postfix(lab)
        servers.start_dovecot(lab)
        yield lab


@pytest.fixture(scope="session")
def courier_lab(new_lab: type[Lab]) -> Iterator[Lab]:
    """Give a lab with Courier, Postfix and rsyslog running."""
    with new_lab(*servers.POSTFIX, *servers.COURIER) as lab:
        servers.start_rsyslog(lab)
        servers.start_postfix(lab)
        servers.start_courier(lab)
        yield lab


@pytest.fixture(scope="session")
def address() -> Callable[[int], str]:
    """Give outside addresses, IPv4 or IPv6, that no other test has used."""
    pools = {4: ipaddress.ip_network("203.0.113.0/25").hosts(), 6: ipaddress.ip_network("2001:db8:9:0:1::/80").hosts()}
    return lambda version: str(next(pools[version]))
