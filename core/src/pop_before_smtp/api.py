"""The contract between the core and its plugins: two hooks and the frozen types that pass through them.

A plugin is one module named in the entry-point group ``pop_before_smtp``. It implements one hook or both, each a
generator of frozen objects from this page, and does nothing else at import or in a hook: no I/O, no globals, no
registering. The core calls each hook once, after the configuration is read and before any log byte.

Words: an *address* is the canonical text that :mod:`ipaddress` writes for one address, v4-mapped ones folded to IPv4,
never with a zone. A *time* is in unix seconds. Log text is ``bytes``. Fields are added with defaults, and none is
removed, within a major version.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, ClassVar, Literal

import pluggy
from attrs import field, frozen
from attrs.validators import deep_iterable, in_, instance_of, matches_re, optional

GROUP = "pop_before_smtp"
"""The entry-point group and the pluggy project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

Network = IPv4Network | IPv6Network


class Kind(enum.StrEnum):
    """What a log line says about a client.

    Only ``LOGIN`` and ``LOGOUT`` leave the matcher; the others serve servers that need two lines for a login.
    """

    LOGIN = "login"
    LOGOUT = "logout"
    CONNECT = "connect"
    """An address before success is known (``Session from IP`` of popa3d)."""
    FAILURE = "failure"
    """An attempt that failed: what CONNECT remembered is dropped."""
    PART = "part"
    """A record that the server broke, for it was too long: the next line of that process that a pattern of the parser
    takes is its rest, whatever a client made it look like."""


LOGIN, LOGOUT, CONNECT, FAILURE, PART = Kind.LOGIN, Kind.LOGOUT, Kind.CONNECT, Kind.FAILURE, Kind.PART


@frozen(kw_only=True)
class Record:
    """One log record: the header taken apart, the message still as the server wrote it."""

    time: float | None
    """The record's own stamp; None where it has none that can be read."""
    received: float
    """When we read it."""
    host: bytes = b""
    program: bytes = b""
    """The syslog tag without pid (APP-NAME in RFC 5424)."""
    pid: bytes = b""
    """Empty where the tag has none (Dovecot, Courier)."""
    message: bytes
    """All text after ``tag[pid]: ``, without the line's end."""
    trusted: Mapping[str, bytes] = field(factory=dict)
    """The journal's fields with a leading underscore; empty for every other source."""
    source: str = ""
    """The name of the source it came from."""
    position: int = 0
    """Where the record starts in its source: a byte offset; in the journal, when it came, in microseconds."""
    limit: float = float("inf")
    """No event of this record may be later than this: receipt, or the file's mtime for bytes found at opening."""
    live: bool = True
    """Appended while we watched, so that receipt can stand in for a missing stamp."""


_BYTES = instance_of(bytes)


def _literals(values: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(values)


def _patterns(values: Iterable[LogPattern]) -> tuple[LogPattern, ...]:
    return tuple(values)


def _headers(values: Iterable[LogHeader]) -> tuple[LogHeader, ...]:
    return tuple(values)


@frozen(kw_only=True)
class LogPattern:
    """One kind of line of one server.

    ``program`` and ``message`` are RE2 over bytes (Latin-1), each matched whole: the first against the syslog tag, the
    second against all of the text after ``tag[pid]: ``. The message's named groups are ``ip``, ``lip`` (the server's
    own address: where it is the client's too, the line is refused), ``user``, ``session``, ``service`` and ``tls``; the
    last four may stand in the program's instead. Unnamed groups are refused.

    Where none of a parser's LOGOUT messages has a ``session``, the pid names the session, and a logout counts only if
    the same process has logged in before.
    """

    kind: Kind = field(validator=instance_of(Kind))
    program: bytes = field(validator=_BYTES)
    message: bytes = field(validator=_BYTES)
    contains: tuple[bytes, ...] = field(converter=_literals, validator=deep_iterable(_BYTES))
    """Literals of 6 bytes or more; every matching line holds at least one of them."""
    once: bytes | None = field(default=None, validator=optional(_BYTES))
    """A literal that introduces the address; where the message holds it twice, the line is refused as ambiguous."""
    fixed: Mapping[str, object] = field(factory=dict)
    """What every line of this pattern has in common, as ``{"service": "pop3", "tls": True}``.

    ``tls``: a group that captured is True, one that did not is False, neither group nor constant is unknown (None).
    """
    address: Callable[[bytes], bytes] | None = None
    """Undoes a server's own spelling of an address (``2001_db8__1``); called on hits only, must not raise."""


@frozen(kw_only=True)
class LogHeader:
    """The line of a server that writes its own log file, without syslog.

    ``line`` is RE2 over bytes, matched against the whole line, with the named groups ``message`` and, where the file
    has them, ``time``, ``host``, ``program`` and ``pid``. It must fit no other program's file: the core reads a file so
    when its first lines fit and are no syslog lines, or when the source's ``format`` names the header.
    """

    name: str = field(validator=instance_of(str))
    """What ``format`` in a source names it by, as ``dovecot``."""
    line: bytes = field(validator=_BYTES)
    program: bytes = field(default=b"", validator=_BYTES)
    """The tag that such lines stand for, where the file does not say it."""


@frozen(kw_only=True)
class LogParser:
    """What turns the records of one server into login events."""

    name: str = field(validator=instance_of(str))
    patterns: tuple[LogPattern, ...] = field(converter=_patterns, validator=deep_iterable(instance_of(LogPattern)))
    headers: tuple[LogHeader, ...] = field(
        default=(), converter=_headers, validator=deep_iterable(instance_of(LogHeader))
    )
    detect: tuple[str, ...] = ()
    """Programs or files whose presence says that the server is on this machine (absolute paths)."""
    units: tuple[str, ...] = ()
    """The systemd units that the server runs as, ``*`` and ``?`` matching as in a shell: ``dovecot.service``.

    In the journal only their records are believed, which no other user's process can write; without units none is,
    unless the configuration names some.
    """
    uids: tuple[int, ...] = (0,)
    """The user ids as which it writes its log, for the same purpose; empty means any."""


@frozen(kw_only=True, slots=False)  # without slots it is made in two thirds of the time, and there is one per login
class LoginEvent:
    """A login or logout, as the policy, the leases and the state see it."""

    kind: Kind
    address: str | None
    """Canonical; None only in a LOGOUT that carries a session instead."""
    at: float
    """When it happened: the line's own stamp, never later than :attr:`Record.limit`."""
    received: float
    user: str | None = None
    """As logged; bytes that are no UTF-8 are kept as lone surrogates (``surrogateescape``)."""
    service: str | None = None
    """``imap``, ``pop3`` or a server's other services."""
    tls: bool | None = None
    session: str | None = None
    """The server's own name of the session, by which a LOGOUT finds its LOGIN."""
    parser: str = ""
    source: str = ""
    position: int = 0


@frozen(kw_only=True)
class Changes:
    """What a map has to become. Keys are canonical addresses, or networks for a map that takes them."""

    added: AbstractSet[str]
    removed: AbstractSet[str]
    current: AbstractSet[str]
    """All keys that the map is to hold; valid during the call only."""


class Map(ABC):
    """One lookup table on disk that a mail server reads. All calls come from one thread of the core and may block."""

    networks: ClassVar[bool] = False
    """Can express prefixes exactly."""
    rewrites: ClassVar[bool] = True
    """Every write replaces the whole file, so the core throttles (``min_interval``)."""

    path: Path
    """The file that the reader opens. The core refuses it at start where it exists and is not ours."""

    @abstractmethod
    def write(self, changes: Changes) -> None:
        """Make the map hold exactly ``changes.current``.

        The first call builds the map anew beside the old one. When it returns, a reader that opens the map now sees
        exactly ``current``; at no moment did a reader see half of it. Repeating it is harmless.

        Raises:
            MapError: it could not be written; the old map is whole, and the next call mends it.
        """

    @abstractmethod
    def clear(self) -> None:
        """Put the empty map, prepared by the first write, in place of the map, needing no space on the disk.

        The core's last resort when a removal could not be written for ten seconds.

        Raises:
            MapError: not even that was possible.
        """

    def close(self) -> None:  # noqa: B027 - most maps hold nothing open
        """Release what is open. The map stays as it is."""


@frozen(kw_only=True)
class Lookup:
    """A socket at which a mail server asks, instead of a map: the core answers from its leases, at that very moment.

    Nothing is on the disk, and a daemon that is dead permits nothing. Only a canonical address with a lease is answered
    with ``reply``; all else (names, ``unknown``, networks, other spellings) is not found.
    """

    protocol: Literal["socketmap", "policy"] = field(validator=in_(("socketmap", "policy")))
    """``socketmap``: socketmap_table(5), which sendmail speaks too. ``policy``: Postfix's policy delegation."""
    listen: str = field(validator=instance_of(str))
    """``unix:/absolute/path``, ``inet:127.0.0.1:7777`` or ``inet:[::1]:7777``."""
    reply: str = field(default="OK", validator=matches_re("[ -~]{1,200}"))
    """What the mail server is told of an address with a lease."""
    mode: str = field(default="0600", validator=instance_of(str))
    """Of a unix socket: who may ask, in octal."""
    group: str | None = None
    """Of a unix socket; None is the daemon's own."""
    allow_remote: bool = False
    """Lets other machines ask; without it the address has to be of loopback."""
    address: Callable[[bytes], bytes] | None = None
    """Undoes the mail server's spelling (``ipv6:2001:db8:9:0:0:0:0:10``); called once a question, must not raise."""


@frozen(kw_only=True)
class Writer:
    """One kind of consumer: how its map is written and which networks it serves without one."""

    name: str = field(validator=instance_of(str))
    settings: type[Any] = field(validator=instance_of(type))
    """A frozen attrs class; its fields are the writer's own TOML keys."""
    open: Callable[[Any], Map | Lookup]
    """``open(settings)`` gives the map, or the socket at which the mail server asks. It changes nothing on disk.

    Raises ConfigError with one line per problem, each starting with the key (``map: ...``).
    """
    netblocks: Callable[[Any], Iterable[tuple[Network, bool]]] | None = None
    """``netblocks(settings)`` yields (network, permitted), first match wins; read at start and at reload.

    What cannot be listed is warned of with :func:`warnings.warn` and left out: a superfluous lease is harmless.
    """
    defaults: Callable[[Path], Mapping[str, object] | None] | None = None
    """``defaults(directory)`` gives the TOML keys to use without a configuration, with maps below that directory; None
    where the mail server is not on this machine."""


class Hooks:
    """The hooks of a plugin. Both are optional; a name that is neither is an error."""

    @hookspec
    def pop_before_smtp_parsers(self) -> Iterable[LogParser]:
        """Yield the parsers of this plugin. Called once at start."""
        raise NotImplementedError

    @hookspec
    def pop_before_smtp_writers(self) -> Iterable[Writer]:
        """Yield the writers of this plugin. Called once at start."""
        raise NotImplementedError


__all__ = [
    "CONNECT",
    "FAILURE",
    "GROUP",
    "LOGIN",
    "LOGOUT",
    "PART",
    "Changes",
    "Hooks",
    "Kind",
    "LogHeader",
    "LogParser",
    "LogPattern",
    "LoginEvent",
    "Lookup",
    "Map",
    "Network",
    "Record",
    "Writer",
    "hookimpl",
]
