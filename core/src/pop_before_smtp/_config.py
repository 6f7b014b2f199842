"""The configuration: TOML in, frozen objects out, and every problem named at once."""

from __future__ import annotations

import re
import shlex
import zoneinfo
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import tomli
from attrs import field, frozen

from ._memory import CONNECT_SECONDS
from ._networks import Netblocks
from ._plugins import Registry, load
from ._structure import Seconds, structure, unknown
from .api import Network, Writer
from .errors import ConfigError

DEFAULT_FILE = Path("/etc/pop-before-smtp.toml")
DEFAULT_DIRECTORY = Path("/var/lib/pop-before-smtp")
GRACE = Seconds(1800)
_SECOND = Seconds(1)


@frozen(kw_only=True)
class SourceSettings:
    """One ``[[source]]``: a ``path``, or ``journal``, ``command`` or ``listen``."""

    path: Path | None = None
    """A log file, a pattern of several (``*``, ``?``, ``[...]``), a named pipe, or ``-`` for standard input."""
    journal: bool = False
    """systemd's journal."""
    command: tuple[str, ...] = ()
    """A program and its arguments; its standard output is the log. Started anew whenever it ends."""
    listen: Path | None = None
    """A unix datagram socket, made here, that a syslog daemon sends records to."""
    format: str = "auto"
    """``auto``, ``syslog``, or the name of a parser's own header as ``dovecot``."""
    timezone: zoneinfo.ZoneInfo | None = None
    """Of stamps without a zone; None is the machine's."""
    missing: Literal["error", "wait"] = "error"
    """What a file that does not exist at the first start is."""
    hosts: tuple[str, ...] = ()
    """The hosts whose records count, as the log names them; empty means all."""
    escaped: Literal["auto", True, False] = "auto"
    """Whoever writes the log lets no client begin a line of its own; ``auto`` looks at this machine's syslog daemon."""
    units: tuple[str, ...] = ()
    """The systemd units whose records count, instead of those that the parsers name."""
    uids: tuple[int, ...] | None = None
    """The user ids whose records count, instead of those that the parsers name; empty means any."""
    identifiers: tuple[str, ...] = ()
    """Only records with these syslog identifiers are asked for; empty means all."""
    mode: str = "0600"
    """Who may send to the socket, in octal."""
    group: str | None = None
    """The socket's group; None is the daemon's own."""

    @property
    def kind(self) -> str:
        """The key that says what it is: ``path``, ``journal``, ``command`` or ``listen``."""
        return next((kind for kind in _SOURCES if getattr(self, kind)), "path")

    @property
    def name(self) -> str:
        """What log lines, the state and ``why`` call this source."""
        if self.kind == "path":
            return "stdin" if str(self.path) == "-" else str(self.path)
        if self.kind == "journal":
            return ":".join(("journal", *self.units, *self.identifiers))
        return f"command {shlex.join(self.command)}" if self.kind == "command" else f"socket {self.listen}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that this kind of source has."""
        return self.kind, *_SOURCES[self.kind]


_LINES = ("format", "timezone", "hosts", "escaped")
_SOURCES = {
    "path": (*_LINES, "missing"),
    "journal": ("hosts", "units", "uids", "identifiers"),
    "command": _LINES,
    "listen": ("timezone", "hosts", "mode", "group"),
}
"""The kinds of sources, each with the keys that it has."""


@frozen(kw_only=True)
class PolicySettings:
    """``[policy]``: who may ever relay."""

    exempt: tuple[Network, ...] = ()
    """Never need a lease, and get none."""
    refuse: tuple[Network, ...] = ()
    """Never get a lease."""
    trusted_proxies: tuple[Network, ...] = ()
    """Proxies and webmail hosts: many people behind one address. Never get a lease."""
    private_addresses: Literal["auto", "allow", "refuse"] = "auto"
    """RFC 1918, RFC 6598 and unique local addresses; ``auto`` refuses them where all clients may look alike."""
    services: tuple[str, ...] = ("imap", "pop3")
    """The services whose logins count."""
    require_tls: bool = False
    """Count only logins that are known to have been encrypted."""
    users: tuple[str, ...] = ()
    """Count only these users' logins (``*`` and ``?`` match as in a shell); empty means all."""
    max_leases: int = 100_000
    """No new lease beyond this many, in each writer."""
    max_addresses_per_user: int = 64
    """The newest so many addresses of a user keep their lease, in each writer."""


@frozen(kw_only=True)
class OutletSettings:
    """The core's keys in a ``[[writer]]``; all others are the writer's own."""

    use: str
    """The writer's name."""
    grace: Seconds | None = None
    """The length of a lease here; the top level's without it."""
    services: tuple[str, ...] = ()
    """Only logins of these services; empty means all that the policy lets pass."""
    users: tuple[str, ...] = ()
    """Only these users' logins, as in the policy."""
    netblocks: tuple[Network, ...] | None = None
    """The networks that this consumer serves anyway, instead of asking the mail server."""
    min_interval: Seconds = _SECOND
    """The shortest time between two rewrites of the map."""
    on_exit: Literal["clear", "keep"] = "clear"
    """What a clean end leaves: the empty map, or the map as it is (then run the purge timer)."""
    adopt: bool = False
    """Take over a map file that another program wrote."""


@frozen(kw_only=True)
class WriterSettings:
    """One ``[[writer]]``, matched with the plugin's writer."""

    outlet: OutletSettings
    writer: Writer
    settings: Any
    index: int

    @property
    def label(self) -> str:
        """What log lines call it: the map as spelt in the configuration, else the writer's name."""
        return str(getattr(self.settings, "map", self.writer.name))


@frozen(kw_only=True)
class Config:
    """The whole effective configuration."""

    grace: Seconds = GRACE
    state_dir: Path = DEFAULT_DIRECTORY / "state"
    sources: tuple[SourceSettings, ...] = ()
    policy: PolicySettings = field(factory=PolicySettings)
    writers: tuple[WriterSettings, ...] = ()
    registry: Registry = field(factory=Registry)
    origin: str = "defaults"
    """The file it came from."""
    why: tuple[str, ...] = ()
    """Why what it does not say is what it is, for people, one line each."""

    def grace_of(self, writer: WriterSettings) -> float:
        """Return the length of a lease in this outlet, in seconds."""
        return writer.outlet.grace or self.grace

    @property
    def longest_grace(self) -> float:
        """The longest lease of all outlets, in seconds."""
        return max((self.grace_of(writer) for writer in self.writers), default=self.grace)

    @property
    def horizon(self) -> float:
        """How old a log line may be to matter, in seconds: an address that it names may wait for its login."""
        return self.longest_grace + CONNECT_SECONDS


@frozen(kw_only=True)
class _File:
    """The keys of a configuration file, before any plugin is known."""

    plugins: tuple[str, ...] = ()
    grace: Seconds = GRACE
    state_dir: Path = DEFAULT_DIRECTORY / "state"
    source: tuple[SourceSettings, ...] = ()
    policy: PolicySettings = field(factory=PolicySettings)
    writer: tuple[dict[str, Any], ...] = ()


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ConfigError with the line of a syntax error."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise ConfigError(f"{path}: {reason}; name another file with -c") from error
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        hint = "; this looks like the old Perl configuration: see docs/migration.md" if "$" in text else ""
        raise ConfigError(f"{path}: {error}{hint}") from error


def build(data: Mapping[str, Any], origin: str = "defaults", loaded: Registry | None = None) -> Config:
    """Turn TOML data into the effective configuration, importing the plugins that it names and no others.

    Args:
        data: what the file says, whole.
        origin: the file.
        loaded: plugins that need not be loaded again.

    Raises:
        ConfigError: with one line per problem, of keys and plugins alike.
    """
    tables = data.get("writer", [])
    rest = {key: value for key, value in data.items() if key != "writer"}
    file, problems = structure(rest, _File)
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        problems.append("writer: write it as a list of tables, each [[writer]]")
        tables = []
    names = data.get("plugins", [])
    wanted = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    registry, failures = load(wanted, loaded)
    problems += failures
    writers = [_writer(index, table, registry, problems) for index, table in enumerate(tables)]
    if file is not None:
        problems += _contradictions(file, registry)
    if problems or file is None:
        raise ConfigError(*problems)
    return Config(
        grace=file.grace,
        state_dir=file.state_dir,
        sources=file.source,
        policy=file.policy,
        writers=tuple(writer for writer in writers if writer),
        registry=registry,
        origin=origin,
    )


def _writer(index: int, table: dict[str, Any], registry: Registry, problems: list[str]) -> WriterSettings | None:
    path = f"writer[{index}]"
    ours = {attribute.name for attribute in attrs.fields(OutletSettings)}
    outlet, wrong = structure({key: value for key, value in table.items() if key in ours}, OutletSettings, path)
    problems += wrong
    writer = registry.writers.get(table.get("use", ""))
    if writer is None:
        if isinstance(table.get("use"), str):
            known = ", ".join(registry.writers) or "none"
            problems.append(f'{path}.use: no loaded plugin has a writer "{table["use"]}"; there are: {known}')
        return None
    keys = [attribute.name for attribute in attrs.fields(writer.settings)]
    strange = [key for key in table if key not in ours and key not in keys]
    problems += [unknown(f"{path}.{key}", key, [*keys, *ours]) for key in strange]
    theirs = {key: value for key, value in table.items() if key in keys}
    settings, wrong = structure(theirs, writer.settings, path)
    problems += wrong
    if outlet is None or settings is None:
        return None
    return WriterSettings(outlet=outlet, writer=writer, settings=settings, index=index)


def _contradictions(file: _File, registry: Registry) -> list[str]:
    """Return the problems that only show when keys are seen together."""
    problems = []
    formats = ["auto", "syslog", *(header.name for parser in registry.parsers for header in parser.headers)]
    names = [source.name for source in file.source]
    for index, source in enumerate(file.source):
        problems += [f"source[{index}]{problem}" for problem in _source(source)]
        if source.format not in formats:
            problems.append(f'source[{index}].format: "{source.format}" is none of {", ".join(formats)}')
        if names.index(source.name) != index:
            problems.append(f'source[{index}].{source.kind}: "{source.name}" is followed already')
    silent = [parser.name for parser in registry.parsers if not parser.units]
    for index, source in enumerate(file.source):
        if silent and source.journal and not source.units and all(each.journal for each in file.source):
            problems.append(
                f'source[{index}].units: the parser "{silent[0]}" names no systemd units; name those of your server'
            )
    if registry.plugins and not registry.parsers:
        problems.append("plugins: none of them parses a log; add one for your POP or IMAP server")
    limits = ("max_leases", "max_addresses_per_user")
    return problems + [f"policy.{key}: must be 1 or more" for key in limits if getattr(file.policy, key) < 1]


def _source(source: SourceSettings) -> Iterator[str]:
    """Yield what does not fit together in one source, each beginning with the key."""
    named = [kind for kind in _SOURCES if getattr(source, kind)]
    if len(named) != 1:
        yield f": name one of {', '.join(_SOURCES)}" + (f", not {' and '.join(named)}" if named else "")
        return
    for attribute in attrs.fields(SourceSettings):
        if attribute.name not in source.keys and getattr(source, attribute.name) != attribute.default:
            yield f".{attribute.name}: a source with {source.kind} does not have this key; remove it"
    if problem := mode_problem(source.mode):
        yield f".mode: {problem}"
    elif int(source.mode, 8) & 0o002:
        yield f'.mode: "{source.mode}" lets everybody on this machine write log records; leave the last digit at 0'


def mode_problem(mode: str) -> str | None:
    """Return what is wrong with a socket's mode; None if nothing is."""
    return None if re.fullmatch("0?[0-7]{3}", mode) else f'"{mode}" is no mode; write it in octal, as "0660"'


def netblocks(writer: WriterSettings) -> Netblocks:
    """Return the networks that this outlet's consumer serves without a lease. May run the mail server's own tools.

    Raises:
        ConfigError: they cover the whole Internet, so the mail server is an open relay.
    """
    if writer.outlet.netblocks is not None:
        blocks = Netblocks.of(writer.outlet.netblocks)
    elif writer.writer.netblocks is not None:
        blocks = Netblocks(writer.writer.netblocks(writer.settings))
    else:
        blocks = Netblocks()
    if blocks.everything():
        raise ConfigError(
            f"writer[{writer.index}].netblocks: the mail server lets every address relay already; close that first"
        )
    return blocks
