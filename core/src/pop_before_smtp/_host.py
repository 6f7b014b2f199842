"""What the policy needs to know of this machine: its own addresses, its gateways, and whether it is a container."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from pathlib import Path

from attrs import frozen

from .api import Network

_ROOT = Path("/")
_BRIDGE = re.compile(r"docker\d+|br-[0-9a-f]{12}|podman\d+|cni\d+|cni-.*|lxcbr\d+|lxdbr\d+|flannel.*|cbr\d+")
_MARKS = ("run/.containerenv", ".dockerenv", "run/systemd/container")
_UP_GATEWAY = 0x2


@frozen(kw_only=True)
class Host:
    """A look at the machine. ``own`` holds canonical addresses, the gateways among them."""

    own: frozenset[str] = frozenset()
    container: bool = False
    bridges: tuple[Network, ...] = ()
    """Networks of container bridges: clients seen there may be anybody behind a user-land proxy."""


def look(root: Path = _ROOT) -> Host:
    """Read the kernel's tables below ``/proc``; what is missing there is left out."""
    net = root / "proc/net"
    own, bridges = _ipv4(_lines(net / "route"), _lines(net / "fib_trie"))
    own6, bridges6 = _ipv6(_lines(net / "ipv6_route"), _lines(net / "if_inet6"))
    return Host(
        own=frozenset(own | own6),
        container=any((root / mark).exists() for mark in _MARKS),
        bridges=tuple(bridges + bridges6),
    )


def _ipv4(routes: list[list[str]], trie: list[list[str]]) -> tuple[set[str], list[Network]]:
    """Read proc_net route and fib_trie (Linux: net/ipv4/fib_trie.c): hexadecimal words in the machine's byte order."""
    own, bridges, last = set(), [], ""
    for words in trie:
        if words[0] == "|--":
            last = words[1]
        elif words[0] == "/32" and words[1:3] == ["host", "LOCAL"]:
            own.add(last)
    for words in routes[1:]:
        interface, target, gateway, flags, mask = words[0], words[1], words[2], words[3], words[7]
        if int(flags, 16) & _UP_GATEWAY:
            own.add(_word(gateway))
        elif _BRIDGE.fullmatch(interface):
            bridges.append(ipaddress.ip_network(f"{_word(target)}/{_word(mask)}"))
    return own, list(bridges)


def _ipv6(routes: list[list[str]], addresses: list[list[str]]) -> tuple[set[str], list[Network]]:
    """Read proc_net if_inet6 and ipv6_route: 32 hexadecimal digits an address."""
    own = {_digits(words[0]) for words in addresses}
    bridges: list[Network] = []
    for words in routes:
        target, length, gateway, flags, interface = words[0], int(words[1], 16), words[4], words[8], words[9]
        if int(flags, 16) & _UP_GATEWAY:
            own.add(_digits(gateway))
        elif _BRIDGE.fullmatch(interface) and 0 < length < 128 and not target.startswith(("fe80", "ff")):  # noqa: PLR2004 - bits
            bridges.append(ipaddress.ip_network((int(target, 16), length)))
    return own, bridges


def _lines(path: Path) -> list[list[str]]:
    try:
        return [words for line in path.read_text("ascii", "replace").splitlines() if (words := line.split())]
    except OSError:
        return []


def _word(text: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(text, 16)))


def _digits(text: str) -> str:
    return str(ipaddress.IPv6Address(int(text, 16)))
