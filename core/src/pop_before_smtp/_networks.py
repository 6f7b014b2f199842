"""Sets of networks: is this address in one of them, and which entry came first?"""

from __future__ import annotations

import ipaddress
import socket
from bisect import bisect_right
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, TypeVar

from .api import Network

Address = IPv4Address | IPv6Address
T = TypeVar("T")


class Stretches(Generic[T]):
    """What holds for an address, worked out once for all addresses between two borders of networks.

    Args:
        networks: all whose borders matter.
        judge: gives what holds for an address; it must be the same for all that no border parts.
    """

    def __init__(self, networks: Iterable[Network], judge: Callable[[Address], T]) -> None:
        starts: dict[int, set[Address]] = {4: {IPv4Address(0)}, 6: {IPv6Address(0)}}
        for network in networks:
            starts[network.version].add(network.network_address)
            if int(network.broadcast_address) + 1 < 1 << network.max_prefixlen:
                starts[network.version].add(network.broadcast_address + 1)
        self._starts4, self._found4 = _table(starts[4], judge)
        self._starts6, self._found6 = _table(starts[6], judge)

    def __getitem__(self, address: str) -> T:
        """Return what holds for a canonical address. Raises OSError where it is none."""
        if ":" in address:
            return self._found6[bisect_right(self._starts6, socket.inet_pton(socket.AF_INET6, address)) - 1]
        return self._found4[bisect_right(self._starts4, socket.inet_pton(socket.AF_INET, address)) - 1]


def _table(starts: Iterable[Address], judge: Callable[[Address], T]) -> tuple[list[bytes], list[T]]:
    ordered = sorted(starts, key=int)
    return [address.packed for address in ordered], [judge(address) for address in ordered]


class Netblocks:
    """Networks in order, each permitted or excluded; the first that holds an address decides."""

    def __init__(self, entries: Iterable[tuple[Network, bool]] = ()) -> None:
        self.entries = tuple(entries)
        self._first: dict[tuple[int, int], dict[int, int]] = {}
        for index, (network, _) in enumerate(self.entries):
            shift = network.max_prefixlen - network.prefixlen
            starts = self._first.setdefault((network.version, shift), {})
            starts.setdefault(int(network.network_address) >> shift, index)
        self._permitted = Stretches((network for network, _ in self.entries), self.permits)

    @classmethod
    def of(cls, networks: Iterable[Network]) -> Netblocks:
        """Build a plain set: every network is permitted."""
        return cls((network, True) for network in networks)

    def __contains__(self, address: str) -> bool:
        return bool(self.entries) and self._permitted[address]

    def permits(self, address: Address) -> bool:
        """Tell whether the first entry that holds an address permits it, at one look-up per prefix length in use."""
        number = int(address)
        hits = [
            index
            for (version, shift), starts in self._first.items()
            if version == address.version and (index := starts.get(number >> shift)) is not None
        ]
        return bool(hits) and self.entries[min(hits)][1]

    def everything(self) -> bool:
        """Tell whether the permitted networks cover a whole address family."""
        permitted = [network for network, allowed in self.entries if allowed]
        for version in (4, 6):
            family = [network for network in permitted if network.version == version]
            if any(net.prefixlen == 0 for net in ipaddress.collapse_addresses(family)):  # type: ignore[type-var]  # one family at a time
                return True
        return False
