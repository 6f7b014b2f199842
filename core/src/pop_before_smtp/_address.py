"""Addresses as servers log them, turned into the one spelling that all the rest compares."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

_CACHED = 65536


class Addresses:
    """Canonical addresses by the text in the log, the latest remembered."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[str | None, str]] = {}

    def read(self, text: bytes) -> tuple[str | None, str]:
        """Return the canonical address and "", or None and why it is refused: no line may grant it anything."""
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            known = self._known[text] = canonical(text)
        return known


def canonical(text: bytes) -> tuple[str | None, str]:
    """Return the canonical address and "", or None and the reason of refusal.

    v4-mapped addresses are folded first. What :mod:`ipaddress` does not take as a whole, or takes with a zone, is
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
