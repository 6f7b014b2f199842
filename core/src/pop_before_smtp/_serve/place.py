"""Where a lookup service listens: a path, or an address of this machine and a port."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from pop_before_smtp._config import mode_problem
from pop_before_smtp._sockets import group_problem, make, path_problem
from pop_before_smtp.api import Lookup

BACKLOG = 1024
"""Connections that may wait to be accepted."""
_INET = re.compile(r"inet:(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\]):([1-9][0-9]{0,4})")


def path_of(lookup: Lookup) -> Path | None:
    """Return where a unix socket is; None for one of the network."""
    return Path(os.path.normpath(lookup.listen[5:])) if lookup.listen.startswith("unix:/") else None


def problems(lookup: Lookup) -> Iterator[str]:
    """Yield what speaks against listening there, each beginning with the key of the writer."""
    if path := path_of(lookup):
        checks = (
            ("map", path_problem(path)),
            ("mode", mode_problem(lookup.mode)),
            ("group", group_problem(lookup.group)),
        )
        yield from (f"{key}: {problem}" for key, problem in checks if problem)
        return
    try:
        host, _ = _inet(lookup.listen)
    except ValueError:
        yield f'map: "{lookup.listen}" is no place; write unix:/absolute/path, inet:127.0.0.1:7777 or inet:[::1]:7777'
        return
    if not ip_address(host).is_loopback and not lookup.allow_remote:
        yield f"map: other machines reach {host}; name 127.0.0.1 or [::1], or set allow_remote = true"


def bind(lookup: Lookup) -> socket.socket:
    """Return the socket, listening.

    Raises:
        OSError: it cannot be made; another program listens there.
    """
    if path := path_of(lookup):
        return make(path, int(lookup.mode, 8), lookup.group, kind=socket.SOCK_STREAM, backlog=BACKLOG)
    host, port = _inet(lookup.listen)
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # connections have it too: hosts may vanish
        if made.family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _inet(listen: str) -> tuple[str, int]:
    """Take an address and a port apart. Raises ValueError where it is not that."""
    found = _INET.fullmatch(listen)
    if not found or int(found[3]) > 65535:  # noqa: PLR2004 - of ports
        raise ValueError(listen)
    return str(ip_address(found[1] or found[2])), int(found[3])
