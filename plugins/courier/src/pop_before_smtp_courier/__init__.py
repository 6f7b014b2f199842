"""Courier's IMAP and POP3 logins and logouts, versions 5 and 6, and its mail server's smtpaccess.

The user is logged as the client sent it, commas and brackets included, and the server's own fields follow. So lines are
read from the right end, and one that holds ``, ip=[`` twice is not believed.

``courierlogger`` breaks lines behind 511 bytes, so the end of a long name in a failed login stands in a line of its own
and can look like a login. What follows a line that may be broken is not believed.

A session is named by the client's port. A login line does not say whether STARTTLS came before it, except by a rare
``starttls=1``, so without that and outside of the ``-ssl`` services TLS is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from pop_before_smtp import FAILURE, LOGIN, LOGOUT, PART, LogParser, LogPattern, hookimpl
from pop_before_smtp.api import Writer

from ._writer import Settings, defaults, netblocks, open_map

_SERVICES = (("imap", rb"(?:courier-)?imapd"), ("pop3", rb"(?:courier-)?pop3d"))
_CLIENT = rb", user=(?P<user>.*), ip=\[(?P<ip>[0-9A-Za-z.:%]*)\](?:, port=\[(?P<session>[0-9]+)\])?"
"""The port is missing in lines of older versions."""
_TLS = rb", s(?:tart)?tls=1"
_END = rb"(?:LOGOUT|DISCONNECTED|TIMEOUT|disc|NOTICE: Disconnected during shutdown by signal)"
"""``disc`` is POP3 from 6 on. The same words without a user end what never was a login."""
_LONG = rb".{500,}"
"""Broken or not: the 511 bytes include ``INFO: ``, which is not in the log."""
_UNITS = ("imap", "pop", "imapd", "pop3d")
"""As Debian names its units, and as Gentoo and Arch do; courierlogger, which writes the log, is root's."""
_COUNTS = rb"(?:, [a-z]+=[0-9]+)*"


def _patterns(service: str, program: bytes) -> Iterator[LogPattern]:
    """Yield the patterns of one service; ``program`` is its tag without ``-ssl``."""
    either = program + rb"(?:-ssl)?"
    yield LogPattern(kind=PART, program=either, message=_LONG, contains=[b", user="])
    login = rb"LOGIN" + _CLIENT + rb"(?:, protocol=[A-Z0-9]+)?"
    logout = _END + _CLIENT + _COUNTS
    for kind, message, tag, tls, literal in (
        (LOGIN, login, program, None, b"LOGIN, user="),
        (LOGIN, login + _TLS, program, True, b"LOGIN, user="),
        (LOGIN, login + rb"(?:" + _TLS + rb")?", program + rb"-ssl", True, b"LOGIN, user="),
        (LOGOUT, logout, program, None, b", user="),
        (LOGOUT, logout, program + rb"-ssl", True, b", user="),
    ):
        yield LogPattern(
            kind=kind,
            program=tag,
            message=message,
            contains=[literal],
            once=b", ip=[",
            fixed={"service": service} if tls is None else {"service": service, "tls": tls},
        )
    # Whatever follows a long line is its rest, and the line after that costs nobody his login.
    yield LogPattern(kind=FAILURE, program=either, message=rb".*, ip=\[.*", contains=[b", ip=["])


@hookimpl
def pop_before_smtp_parsers() -> Iterator[LogParser]:
    """Yield the parser."""
    yield LogParser(
        name="courier",
        patterns=[pattern for service, program in _SERVICES for pattern in _patterns(service, program)],
        detect=("/usr/lib/courier/imapd", "/usr/lib/courier/pop3d", "/usr/lib/courier-imap/bin/imapd"),
        units=tuple(f"courier-{name}{tls}.service" for name in _UNITS for tls in ("", "-ssl")),
    )


@hookimpl
def pop_before_smtp_writers() -> Iterator[Writer]:
    """Yield the writer ``courier``."""
    yield Writer(name="courier", settings=Settings, open=open_map, netblocks=netblocks, defaults=defaults)
