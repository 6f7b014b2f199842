"""The clients that exim lets relay without a lease: a named host list, read the way exim reads it.

What cannot be listed is left out with a warning: its clients get leases that they do not need.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from ipaddress import ip_network

from pop_before_smtp.api import Network

from ._commands import CommandError, configuration
from ._hostlist import UnlistableError, entries, named_lists
from ._maps import Settings, file_of, split

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def netblocks(settings: Settings) -> Iterator[tuple[Network, bool]]:
    """Yield (network, permitted) in the order of the host list; the first match wins."""
    try:
        text = configuration()
    except CommandError as error:
        _warn(f"cannot read the host list {settings.hostlist}, so only loopback counts as permitted: {error}")
        yield from ((network, True) for network in _LOOPBACK)
        return
    path = file_of(split(settings.map)[1])
    if str(path) not in text:
        _warn(f"exim's configuration does not mention {path}: leases do not count until it does")
    try:
        yield from entries(settings.hostlist, named_lists(text), path.parent)
    except UnlistableError as error:
        _warn(f"hostlist {settings.hostlist}: {error}; it and all that is behind it are left out")


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
