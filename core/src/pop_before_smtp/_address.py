"""Addresses as servers log them, turned into the one spelling that all the rest compares."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

_REMEMBERED = 65536


class Addresses(dict[bytes, tuple[str | None, str]]):
    """What :func:`canonical` gives for the text in a log, remembered."""

    def __missing__(self, text: bytes) -> tuple[str | None, str]:
        """Work it out and remember it."""
        if len(self) >= _REMEMBERED:
            self.clear()
        known = self[text] = canonical(text)
        return known


def canonical(text: bytes) -> tuple[str | None, str]:
    """Return the canonical address and "", or None and the reason why nothing may be granted to it.

    v4-mapped addresses are folded first. What :mod:`ipaddress` does not take as a whole, or takes with a zone, is a
    ``bad_address``.
    """
    try:
        address = ip_address(text.decode("ascii"))
    except ValueError:
        return None, "bad_address"
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None, "bad_address"
        address = address.ipv4_mapped or address
    if address.is_unspecified:
        return None, "unspecified"
    if address.is_loopback:
        return None, "loopback"
    return str(address), ""
