"""The table of OpenSMTPD that holds leases: a file of addresses that smtpd reads when it is told to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from attrs import frozen
from pop_before_smtp.api import Changes, Map
from pop_before_smtp.errors import ConfigError, MapError
from pop_before_smtp.maps.text import TextMap

from ._commands import CommandError, program, update_table

PLACEHOLDER = "127.0.0.1"
"""The line that always stays: smtpd does not start with a table of addresses that holds none."""
_MODE = 0o644  # smtpd reads the file again long after it has become a user of its own
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@frozen(kw_only=True)
class Settings:
    """The writer's own keys in a ``[[writer]]``."""

    map: str
    """``file:`` and the absolute path, as smtpd.conf spells it."""
    table: str = "pbs"
    """What smtpd.conf calls the table."""
    config_file: str = ""
    """smtpd.conf, if not where OpenSMTPD is usually built to look."""


class TableMap(TextMap):
    """The file, and smtpd's copy of it: a change counts when smtpd has read it.

    Args:
        path: the file.
        table: its name in smtpd.conf.
    """

    def __init__(self, path: Path, table: str) -> None:
        super().__init__(path, mode=_MODE)
        self._table = table

    def items(self, keys: AbstractSet[str]) -> Iterable[tuple[bytes, bytes]]:
        """Return the lines, the placeholder first."""
        return [self.item(PLACEHOLDER), *super().items(keys - {PLACEHOLDER})]

    def write(self, changes: Changes) -> None:
        """Replace the file, and have smtpd read it."""
        super().write(changes)
        self._update()

    def clear(self) -> None:
        """Put the empty table in place, and have smtpd read it."""
        super().clear()
        self._update()

    def _update(self) -> None:
        try:
            update_table(self._table)
        except CommandError as error:
            raise MapError(f"{self.path} is written, but smtpd may have the old table: {error}") from error


def open_map(settings: Settings) -> Map:
    """Return the map that the settings name; nothing on disk is touched.

    A line is the address as :mod:`ipaddress` writes it; smtpd takes ``192.0.2`` and ``10.0.0.0/8`` for networks.

    Raises:
        ConfigError: smtpd could not use it.
    """
    if problems := list(_problems(settings)):
        raise ConfigError(*problems)
    return TableMap(file_of(settings.map), settings.table)


def defaults(directory: Path) -> Mapping[str, object] | None:
    """Return the settings for a file of the usual name; None without OpenSMTPD."""
    return {"map": f"file:{directory / 'hosts'}"} if program() else None


def file_of(table: str) -> Path:
    """Return the file behind ``file:/path``."""
    return Path(os.path.normpath(table.removeprefix("file:")))


def _problems(settings: Settings) -> Iterator[str]:
    kind, _, path = settings.map.partition(":")
    if kind != "file":
        yield f"map: {settings.map!r} is no table in a text file; write file:/var/lib/pop-before-smtp/hosts"
    elif not path.startswith("/") or path.endswith("/") or not path.isprintable() or '"' in path:
        yield f"map: {settings.map!r} needs the absolute path of a file, as file:/var/lib/pop-before-smtp/hosts"
    if not _NAME.fullmatch(settings.table):
        yield f"table: {settings.table!r} is no name of a table; take the word behind table in smtpd.conf"
    if settings.config_file and not Path(settings.config_file).is_absolute():
        yield f"config_file: {settings.config_file!r} is no absolute path of an smtpd.conf"
