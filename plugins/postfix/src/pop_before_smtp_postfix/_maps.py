"""The lookup tables of Postfix that can hold leases, and which of them this machine has."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from attrs import frozen
from pop_before_smtp.api import Map
from pop_before_smtp.errors import ConfigError
from pop_before_smtp.maps import FileMap

from ._commands import CommandError, MissingError, ask


@frozen(kw_only=True)
class Settings:
    """The writer's own keys in a ``[[writer]]``."""

    map: str
    """The table as main.cf spells it: ``type:/absolute/path`` without the suffix of the file.

    Or a socket that Postfix asks at: ``socketmap:`` or ``policy:``, then ``unix:/absolute/path`` or ``inet:HOST:PORT``.
    """
    value: str = "OK"
    """What Postfix finds under every key, an action of access(5) that permits."""
    config_directory: str = ""
    """Where main.cf is, for a machine with several instances of Postfix."""
    mode: str | None = None
    """Of a unix socket: who may ask, in octal."""
    group: str | None = None
    """Of a unix socket; None is the daemon's own."""
    allow_remote: bool = False
    """Other machines may ask at an inet socket."""


@frozen
class _Table:
    """One table type: our class for it, the suffix that Postfix adds, what to install where it is missing."""

    module: str
    name: str
    suffix: str
    nul: bool
    extra: str = ""
    package: str = ""


TABLES = {
    "lmdb": _Table("lmdb", "LmdbMap", ".lmdb", nul=True, extra="lmdb", package="postfix-lmdb"),
    "cdb": _Table("cdb", "CdbMap", ".cdb", nul=False, package="postfix-cdb"),
    "hash": _Table("bdb", "HashMap", ".db", nul=True, extra="bdb"),
    "btree": _Table("bdb", "BtreeMap", ".db", nul=True, extra="bdb"),
}
"""Best first. Keys and values end in NUL where postmap(1) writes them so; a file that mixes both is read wrongly."""

_DEFAULTS = ("lmdb", "cdb", "hash")
_NOT_LIVE = ("cidr", "inline", "pcre", "regexp", "texthash")
_PERMITS = re.compile(r"OK|RELAY|PERMIT|[0-9]+", re.IGNORECASE)


def open_map(settings: Settings) -> Map:
    """Return the map that the settings name; nothing on disk is touched.

    Raises:
        ConfigError: Postfix could not use it, or we could not write it.
    """
    problems = [*_map_problems(settings), *other_problems(settings), *_socket_problems(settings)]
    if problems:
        raise ConfigError(*problems)
    kind, path = split(settings.map)
    return _load(kind)(file_of(kind, path), value=settings.value, nul=TABLES[kind].nul)


def defaults(directory: Path) -> Mapping[str, object] | None:
    """Return the settings for the best table type that Postfix and we offer both; None without a Postfix.

    Raises:
        ConfigError: there is a Postfix, but no type fits.
    """
    try:
        offered = _offered("")
    except MissingError:
        return None
    except CommandError as error:
        raise ConfigError(f"map: cannot learn which tables Postfix has: {error}") from error
    for kind in _DEFAULTS:
        if kind in offered and not _import_problem(kind):
            return {"map": f"{kind}:{directory / 'relay'}"}
    raise ConfigError(
        f"map: this Postfix has none of the tables {', '.join(_DEFAULTS)} that can be written here;"
        " install the package postfix-cdb (Debian), or say pip install 'pop-before-smtp-postfix[bdb]'"
    )


def split(table: str) -> tuple[str, str]:
    """Take ``type:path`` apart."""
    kind, _, path = table.partition(":")
    return kind, path


def file_of(kind: str, path: str) -> Path:
    """Return the file behind a table of one of our types."""
    return Path(os.path.normpath(path) + TABLES[kind].suffix)


def _map_problems(settings: Settings) -> Iterator[str]:
    kind, path = split(settings.map)
    if kind not in TABLES:
        yield f"map: {_not_a_table(settings.map)}"
        return
    table = TABLES[kind]
    if not path.startswith("/") or path.endswith("/"):
        yield f"map: {settings.map!r} needs the absolute path of a file, as {kind}:/var/lib/pop-before-smtp/relay"
    elif path.endswith(table.suffix):
        yield f"map: Postfix adds {table.suffix} itself; write {settings.map.removesuffix(table.suffix)}"
    if missing := _import_problem(kind):
        yield f"map: {missing}"
    if not settings.config_directory or Path(settings.config_directory, "main.cf").is_file():
        yield from offer_problems(kind, settings)


def _not_a_table(text: str) -> str:
    kind, path = split(text)
    known = ", ".join(TABLES)
    if kind in _NOT_LIVE:
        return f"running smtpd processes do not notice changes of {kind} tables; use one of {known}"
    if kind == "proxy":
        return f"leave out proxy: here ({path}); main.cf may have it"
    return (
        f"{text!r} is none of the tables {known}, nor socketmap or policy;"
        " write for example lmdb:/var/lib/pop-before-smtp/relay"
    )


def _import_problem(kind: str) -> str | None:
    try:
        _load(kind)
    except ImportError as error:
        return f"{kind} tables need: pip install 'pop-before-smtp-postfix[{TABLES[kind].extra}]' ({error})"
    return None


def offer_problems(kind: str, settings: Settings) -> Iterator[str]:
    """Yield the problem, if Postfix does not have this type of table."""
    try:
        offered = _offered(settings.config_directory)
    except CommandError as error:
        warnings.warn(f"map: nobody checked whether Postfix has {kind} tables: {error}", stacklevel=2)
        return
    if kind not in offered:
        others = ", ".join(other for other in TABLES if other in offered) or "none of ours"
        package = TABLES[kind].package if kind in TABLES else ""
        install = f"install the package {package} (Debian), or " if package else ""
        yield f"map: this Postfix has no {kind} tables; {install}use what it has: {others}"


def _socket_problems(settings: Settings) -> Iterator[str]:
    given = {"mode": settings.mode, "group": settings.group, "allow_remote": settings.allow_remote or None}
    keys = (key for key, value in given.items() if value is not None)
    yield from (f"{key}: only a socket has it, as socketmap: and policy: do; remove it" for key in keys)


def other_problems(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with the keys that maps and sockets have."""
    if not _PERMITS.fullmatch(settings.value):
        yield f"value: {settings.value!r} does not permit anything; use OK, RELAY, PERMIT or a number (access(5))"
    where = settings.config_directory
    if where and not (where.startswith("/") and Path(where, "main.cf").is_file()):
        yield f"config_directory: {where!r} is no absolute path of a directory with a main.cf"


def _load(kind: str) -> type[FileMap]:
    table = TABLES[kind]
    found: type[FileMap] = getattr(import_module(f"pop_before_smtp.maps.{table.module}"), table.name)
    return found


def _offered(config_directory: str) -> set[str]:
    return set(ask("postconf", "-m", config_directory=config_directory).split())
