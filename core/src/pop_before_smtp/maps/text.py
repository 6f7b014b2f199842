"""Plain text: one line a key, as exim's host lists, OpenSMTPD's tables, sendmail's text maps."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

from ._map import FileMap, Item


class TextMap(FileMap):
    r"""A map in a text file; the value follows the key as it is, separator included (``"\tOK"``)."""

    def items(self, keys: AbstractSet[str]) -> Iterable[Item]:
        """Return the lines sorted, for people."""
        return map(self.item, sorted(keys))

    def build(self, new: Path, items: Iterable[Item]) -> None:
        """Write one line for each item."""
        with new.open("wb") as file:
            file.writelines(key + value + b"\n" for key, value in items)


def read(path: Path) -> list[bytes]:
    """Return the lines without their ends."""
    return path.read_bytes().splitlines()
