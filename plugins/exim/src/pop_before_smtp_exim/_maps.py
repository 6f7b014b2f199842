"""The files in which exim can look up an address: a host list, or a cdb."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen
from pop_before_smtp.api import Map
from pop_before_smtp.errors import ConfigError
from pop_before_smtp.maps import FileMap
from pop_before_smtp.maps.cdb import CdbMap
from pop_before_smtp.maps.text import TextMap

from ._commands import program

_MAPS: dict[str, type[FileMap]] = {"hosts": TextMap, "cdb": CdbMap}
_MODE = 0o644  # exim opens the file at each connection, long after it has become a user of its own
_PATH = re.compile(r"(/[A-Za-z0-9._+@%=,~-]+)+")
"""What exim takes for itself in a host list and in ``${lookup}``: no separator, blank, bracket, ``$`` or backslash."""
_NAME = re.compile(r"[A-Za-z0-9_]+")


@frozen(kw_only=True)
class Settings:
    """The writer's own keys in a ``[[writer]]``."""

    map: str
    """``hosts:`` or ``cdb:`` and the absolute path of the file, as exim's configuration spells it."""
    value: str = "yes"
    """What exim's ``${lookup}`` finds in a cdb; a host list has no values."""
    hostlist: str = "relay_from_hosts"
    """The named list of hosts that exim lets relay; those of them that can be listed get no lease."""


def open_map(settings: Settings) -> Map:
    """Return the map that the settings name; nothing on disk is touched.

    A line or a key is the address as :mod:`ipaddress` writes it. Anything less would be more: exim reads ``*``,
    ``!``, ``/8``, names and whole files into a line of a host list.

    Raises:
        ConfigError: exim could not use it.
    """
    if problems := list(_problems(settings)):
        raise ConfigError(*problems)
    kind, path = split(settings.map)
    return _MAPS[kind](file_of(path), value=settings.value if kind == "cdb" else "", mode=_MODE)


def defaults(directory: Path) -> Mapping[str, object] | None:
    """Return the settings for the host list file that Debian's configuration can take; None without exim."""
    return {"map": f"hosts:{directory / 'hosts'}"} if program() else None


def split(text: str) -> tuple[str, str]:
    """Take ``kind:path`` apart."""
    kind, _, path = text.partition(":")
    return kind, path


def file_of(path: str) -> Path:
    """Return the file without needless slashes, which is how the core compares paths."""
    return Path(os.path.normpath(path))


def _problems(settings: Settings) -> Iterator[str]:
    kind, path = split(settings.map)
    if kind not in _MAPS:
        yield f"map: {settings.map!r} is neither hosts:/path nor cdb:/path; write hosts:/var/lib/pop-before-smtp/hosts"
    elif not _PATH.fullmatch(path):
        yield f"map: {path!r} is no absolute path of a file in letters, digits and the signs . _ + @ % = , ~ - only"
    if not settings.value or not settings.value.isprintable():
        yield f"value: {settings.value!r} is no word for exim's ${{lookup}} to find; use yes"
    if not _NAME.fullmatch(settings.hostlist):
        yield f"hostlist: {settings.hostlist!r} is no name of a host list; exim's own example is relay_from_hosts"
