"""What stands in the files below smtpaccess, read the way makesmtpaccess and couriertcpd 1.0 were seen to read it.

makesmtpaccess puts the lines of all files but backups together and compiles them, ``10.1<TAB>allow,RELAYCLIENT``; a key
that comes twice makes it fail. couriertcpd looks for a client's address, then for ever shorter leading parts of it, and
the first that is there counts.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network, summarize_address_range
from pathlib import Path
from socket import AF_INET6, inet_pton

from pop_before_smtp.api import Network

_BACKUP = re.compile(r".*~|.*\.dpkg-[a-z]*", re.DOTALL)
_RANGE = re.compile(r"(?P<net>[0-9A-Fa-f:.]+[/-][0-9A-Fa-f:.]+)\s+(?P<value>.*)")
_V4 = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){0,3}")
_V6 = re.compile(r":([0-9a-f]{4}(?::[0-9a-f]{4}){0,7})")
_RELAYS = re.compile(r'RELAYCLIENT(?:=|="")?')
_OCTET_ONLY = {4: 24, 6: 112}
"""Longer networks are compiled into whole addresses; shorter ones into leading parts of addresses."""


def ignored(name: str) -> bool:
    """Tell whether makesmtpaccess leaves a file out."""
    return bool(_BACKUP.fullmatch(name))


def key(address: str) -> str:
    """Return the key for one canonical address: ``192.0.2.10``, ``:2001:0db8:0009:0000:0000:0000:0000:0010``.

    Not ``/32`` and ``/128``, which makesmtpaccess understands only with the Perl module Net::CIDR.
    """
    return ":" + inet_pton(AF_INET6, address).hex(":", 2) if ":" in address else address


def others(ours: Path) -> list[tuple[Network, bool]]:
    """Return (network, permitted) of all files beside ours, the longest first, which is how they count."""
    found: dict[Network, bool] = {}
    for file in sorted(ours.parent.iterdir()):
        if file == ours or ignored(file.name) or not file.is_file():
            continue
        try:
            text = os.fsdecode(file.read_bytes())
        except OSError as error:
            warnings.warn(f"{file} cannot be read: {error.strerror}; its lines are not looked at", stacklevel=2)
            continue
        for network, permitted in entries(text):
            found[network] = permitted and found.get(network, True)
    return sorted(found.items(), key=lambda each: -each[0].prefixlen)


def entries(text: str) -> Iterator[tuple[Network, bool]]:
    """Yield (network, permitted) of each line; what is no address, network or range of addresses matches nobody."""
    for line in text.splitlines():
        if match := _RANGE.fullmatch(line):
            yield from ((network, _permits(match["value"])) for network in _networks(match["net"]))
            continue
        name, tab, value = line.partition("\t")
        network = _leading(name)
        if tab and network:
            yield network, _permits(value)


def whole(network: Network) -> bool:
    """Tell whether the line of a network is compiled into whole addresses, so that ours would come twice."""
    return network.prefixlen > _OCTET_ONLY[network.version]


def _leading(name: str) -> Network | None:
    """Return the network of all addresses that begin with ``192.0.2`` or ``:2001:0db8``."""
    if _V4.fullmatch(name):
        parts = [int(part) for part in name.split(".")]
        packed = bytes(part & 255 for part in parts)
        return IPv4Network((packed.ljust(4, b"\0"), 8 * len(packed))) if max(parts) <= 255 else None  # noqa: PLR2004
    if match := _V6.fullmatch(name):
        packed = bytes.fromhex(match[1].replace(":", ""))
        return IPv6Network((packed.ljust(16, b"\0"), 8 * len(packed)))
    return None


def _networks(text: str) -> Iterator[Network]:
    """Yield what ``192.0.2.0/28`` or ``192.0.2.8-192.0.2.12`` comes to."""
    first, dash, last = text.partition("-")
    try:
        if dash:
            yield from summarize_address_range(ip_address(first), ip_address(last))
        else:
            yield ip_network(text, strict=False)
    except (TypeError, ValueError):
        return


def _permits(value: str) -> bool:
    words = value.strip().split(",")
    return words[0] != "deny" and any(_RELAYS.fullmatch(word) for word in words)
