"""cdb, the constant database: one file, no locks, read by Postfix, exim and tcpserver (https://cr.yp.to/cdb/cdb.txt)."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from pathlib import Path
from struct import Struct

from ._map import FileMap, Item

_PAIR = Struct("<II")
_HEADER = 256 * _PAIR.size


class CdbMap(FileMap):
    """A map in one cdb file."""

    def build(self, new: Path, items: Iterable[Item]) -> None:
        """Write the records, the 256 hash tables, and at last the header that points to them."""
        tables = [array("I") for _ in range(256)]
        with new.open("wb") as file:
            file.write(bytes(_HEADER))
            position = _HEADER
            for key, value in items:
                file.write(_PAIR.pack(len(key), len(value)) + key + value)
                hashed = _hash(key)
                tables[hashed & 255].extend((hashed, position))
                position += _PAIR.size + len(key) + len(value)
            header = bytearray()
            for table in tables:
                slots = _slots(table)
                header += _PAIR.pack(position, len(slots) // 2)
                position += file.write(slots.tobytes())
            file.seek(0)
            file.write(header)


def read(path: Path) -> dict[bytes, bytes]:
    """Return everything in a cdb file; of a key that stands there twice, the first counts."""
    data = path.read_bytes()
    found: dict[bytes, bytes] = {}
    position, end = _HEADER, _PAIR.unpack_from(data)[0]
    while position < end:
        key_size, value_size = _PAIR.unpack_from(data, position)
        start = position + _PAIR.size
        position = start + key_size + value_size
        found.setdefault(data[start : start + key_size], data[start + key_size : position])
    return found


def _hash(key: bytes) -> int:
    hashed = 5381
    for byte in key:
        hashed = hashed * 33 & 0xFFFFFFFF ^ byte
    return hashed


def _slots(table: array[int]) -> array[int]:
    """Place (hash, position) pairs in an open hash table twice their number; position 0 is a free slot."""
    slots = array("I", bytes(2 * table.itemsize * len(table)))
    size = len(table)
    for at in range(0, size, 2):
        slot = (table[at] >> 8) % size * 2
        while slots[slot + 1]:
            slot = (slot + 2) % (2 * size)
        slots[slot : slot + 2] = table[at : at + 2]
    if sys.byteorder == "big":
        slots.byteswap()
    return slots
