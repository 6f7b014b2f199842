"""Sets of networks: is this address in one of them, and which entry came first?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from .api import Network

Address = IPv4Address | IPv6Address


class Netblocks:
    """Networks in order, each permitted or excluded; the first that holds an address decides.

    A look-up costs one dict access per prefix length in use, however many networks there are.
    """

    def __init__(self, entries: Iterable[tuple[Network, bool]] = ()) -> None:
        self.entries = tuple(entries)
        self._first: dict[tuple[int, int], dict[int, int]] = {}
        for index, (network, _) in enumerate(self.entries):
            shift = network.max_prefixlen - network.prefixlen
            starts = self._first.setdefault((network.version, shift), {})
            starts.setdefault(int(network.network_address) >> shift, index)

    @classmethod
    def of(cls, networks: Iterable[Network]) -> Netblocks:
        """Build a plain set: every network is permitted."""
        return cls((network, True) for network in networks)

    def __contains__(self, address: str | Address) -> bool:
        if not self.entries:
            return False
        entry = self.entry(ipaddress.ip_address(address) if isinstance(address, str) else address)
        return entry is not None and entry[1]

    def entry(self, address: Address) -> tuple[Network, bool] | None:
        """Return the first entry that holds the address."""
        number = int(address)
        hits = [
            index
            for (version, shift), starts in self._first.items()
            if version == address.version and (index := starts.get(number >> shift)) is not None
        ]
        return self.entries[min(hits)] if hits else None

    def everything(self) -> bool:
        """Tell whether the permitted networks cover a whole address family."""
        permitted = [network for network, allowed in self.entries if allowed]
        for version in (4, 6):
            family = [network for network in permitted if network.version == version]
            if any(net.prefixlen == 0 for net in ipaddress.collapse_addresses(family)):  # type: ignore[type-var]  # one family at a time
                return True
        return False
