"""What may be a key: a whole address in its canonical spelling, or a network where the map takes networks."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton


def check_key(key: str, *, networks: bool = False) -> None:
    """Refuse a key that is no canonical address.

    Readers match prefixes: Postfix takes ``203.0`` for a /16 and ``2001`` for a /16 of IPv6, so a key that was cut
    anywhere would open a network.

    Args:
        key: as :mod:`ipaddress` writes it; v4-mapped addresses folded, no zone.
        networks: also take a network with its prefix length (``192.0.2.0/24``).

    Raises:
        ValueError: it is none; the text says why.
    """
    if _roundtrips(key):
        return
    thing = ip_network(key) if networks and "/" in key else ip_address(key)
    if str(thing) != key:
        raise ValueError(f"{key!r} is not spelt as {str(thing)!r}")
    if isinstance(thing, IPv6Address) and (thing.ipv4_mapped or thing.scope_id):
        raise ValueError(f"{key!r} is v4-mapped or has a zone")


def _roundtrips(key: str) -> bool:
    """Tell fast (1 us, :mod:`ipaddress` takes 15) that a key is canonical; False may also mean unknown."""
    family = AF_INET6 if ":" in key else AF_INET
    if family == AF_INET6 and "." in key:
        return False
    try:
        return inet_ntop(family, inet_pton(family, key)) == key
    except (OSError, ValueError):
        return False
