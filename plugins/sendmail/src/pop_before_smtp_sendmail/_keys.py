"""How sendmail spells a client's address when it asks a map: ``203.0.113.7``, ``ipv6:2001:db8:9:0:0:0:0:10``.

sendmail folds keys to lower case before it looks them up. With ``UseCompressedIPv6Addresses`` it asks for
``ipv6:2001:db8:9::10`` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from socket import AF_INET6, inet_pton
from struct import Struct

_GROUPS = Struct("!8H")
_TAG = "ipv6:"


def spellings(address: str) -> Iterator[str]:
    """Yield each spelling of one canonical address, one for IPv4, one or two for IPv6."""
    if ":" not in address:
        yield address
        return
    full = ":".join(f"{group:x}" for group in _GROUPS.unpack(inet_pton(AF_INET6, address)))
    yield _TAG + full
    if full != address:
        yield _TAG + address


def canonical(key: bytes) -> bytes:
    """Undo the spelling of a key that sendmail asks for; what is no tagged IPv6 address stays as it is."""
    tag, _, rest = key.partition(b":")
    if tag.lower() != b"ipv6":
        return key
    try:
        return str(IPv6Address(inet_pton(AF_INET6, rest.decode("ascii")))).encode()
    except (OSError, ValueError):
        return key
