"""The addresses in a lookup table that stands in ``mynetworks``; Postfix asks it for whole addresses only."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

from pop_before_smtp.api import Network
from pop_before_smtp.maps import cdb

from ._commands import CommandError, ask
from ._maps import TABLES, Settings, file_of, split
from ._patterns import UnlistableError, network

_POSTMAP = ("btree", "dbm", "hash", "inline", "lmdb", "sdbm", "texthash")
_MOST = 10_000


def members(table: str, settings: Settings) -> Iterator[Network]:
    """Yield what ``type:name`` permits; nothing for a map beside ours, or ours: their entries are leases.

    Raises:
        UnlistableError: this type cannot be listed, or the table cannot be read.
    """
    while table.startswith("proxy:"):
        table = table.removeprefix("proxy:")
    kind, name = split(table)
    if _is_ours(kind, name, settings):
        return
    try:
        if kind == "cidr":
            yield from _cidr(os.fsdecode(Path(name).read_bytes()))
        elif kind == "cdb":
            yield from _addresses(os.fsdecode(key).rstrip("\0") for key in cdb.read(file_of(kind, name)))
        elif kind in _POSTMAP:
            lines = ask("postmap", "-s", table, config_directory=settings.config_directory).splitlines()
            yield from _addresses(line.partition("\t")[0] for line in lines)
        else:
            raise UnlistableError(f"is a table that cannot be listed ({kind})")
    except (OSError, struct.error, CommandError) as error:
        raise UnlistableError(f"cannot be read ({error})") from error


def _is_ours(kind: str, name: str, settings: Settings) -> bool:
    own, path = split(settings.map)
    if kind not in TABLES or own not in TABLES:
        return False
    return file_of(kind, name).parent.resolve() == file_of(own, path).parent.resolve()


def _addresses(keys: Iterable[str]) -> Iterator[Network]:
    for count, key in enumerate(keys):
        if count >= _MOST:
            raise UnlistableError(f"has more than {_MOST:,} entries")
        try:
            if str(ip_address(key)) == key:
                yield ip_network(key)
        except ValueError:  # a name, or a network, which Postfix does not ask for
            continue


def _cidr(text: str) -> Iterator[Network]:
    """Yield the networks of a cidr_table(5); whatever its right-hand sides say, a match permits."""
    for line in text.splitlines():
        if not line.strip() or line[0] in "# \t":
            continue
        word = line.split()[0]
        if word.startswith("!") or word.lower() in {"if", "endif"}:
            raise UnlistableError("has conditions")
        try:
            yield from network(word)
        except UnlistableError:  # Postfix skips it with a warning
            continue
