"""Dovecot's logins and logouts: 2.3.13 to 2.4.5, as a proxy too, in syslog and in its own log file.

A login line is what ``login_log_format`` (``%$: %s``) makes of a message and of those ``login_log_format_elements``
that are not empty, joined by commas. The message is ``Login`` up to 2.3 and ``Logged in`` from 2.4 on; a proxy writes
``proxy(USER,HOST:PORT): Started proxying to ...`` instead.

Users, and from ``login_trusted_networks`` also session ids, are the client's own words, commas and equals signs
included. So a line is believed only if its whole grammar fits, with one ``rip=`` and no angle brackets in a value.
"""

from __future__ import annotations

from collections.abc import Iterator

from pop_before_smtp import LOGIN, LOGOUT, Kind, LogHeader, LogParser, LogPattern, hookimpl

_PROGRAM = rb"dovecot[0-9A-Za-z_-]*"
"""The tag: ``instance_name``. The name of the process begins the message."""
_ADDRESS = rb"[0-9A-Za-z.:%]*"
"""Whatever stands there is an address, or the line is refused."""
_METHOD = rb"method=(?:[B-Z][0-9A-Z_-]*|A[A-MO-Z][0-9A-Z_-]*)"
"""Any SASL mechanism but ANONYMOUS, which proves nothing."""
_TLS = rb"(?P<tls>TLS)(?:v[0-9.]+ with cipher [0-9A-Za-z_-]+ \([0-9/]+ bits\)|: [^<>=,]*|)|\(proxied\)"
"""What ``%c`` and ``%k`` can be, beside ``secured``."""
_NUMBERS = rb"m?pid=[0-9]+|r(?:port=[0-9]+|eal_[lr](?:ip=[0-9A-Fa-f.:]+|port=[0-9]+))"
"""What the manual offers beyond the default."""
# At each byte there is one way on and there are four groups to fill (lip is asked for only when in doubt), so that RE2
# can do with its one-pass engine: that halves the time for a login.
_DETAILS = (
    rb"user=<(?P<user>[^<>]*)>, (?:" + _METHOD + rb", )?rip=(?P<ip>" + _ADDRESS + rb")"
    rb"(?:, (?:l(?:ip=(?P<lip>" + _ADDRESS + rb")|port=[0-9]+)|" + _NUMBERS + rb"|" + _TLS + rb""
    rb"|se(?:cured|ssion=<(?P<session>[^<>]*)>\z)))*"
)
"""The elements in Dovecot's order."""
_WORDS = (
    rb"user=<(?P<user>[^<>]*)>, (?:" + _METHOD + rb", )?rip=(?P<ip>" + _ADDRESS + rb"), lip=(?P<lip>" + _ADDRESS + rb")"
    rb"(?:, (?:" + _NUMBERS + rb"|" + _TLS + rb"|[A-Za-z ]+))*(?:, session=<(?P<session>[^<>]*)>)?,?"
)
"""The same with words that no manual lists: they are the server's, for the client's stand in brackets."""
_QUOTED = (
    rb'"(?P<user>[^"]*)", "\[(?P<ip>' + _ADDRESS + rb')\]:[0-9]+"'
    rb"(?:, (?:" + _METHOD + rb"|" + _NUMBERS + rb"|" + _TLS + rb"|secured"
    rb"|s(?:ession|id)=(?P<session>[0-9A-Za-z+/=._:-]*)))*"
)
"""Elements of which many are fond: ``"%u" "[%r]:%{rport}" method=%m %c sid=%{session}``."""


def _line(kind: Kind, begin: bytes, grammar: bytes, *words: bytes, service: str | None = None) -> LogPattern:
    """Return the pattern of a login process's line.

    Args:
        kind: what it says.
        begin: the message behind ``SERVICE-login: ``, up to the grammar.
        grammar: the elements, and what follows them.
        words: how that message can begin.
        service: the only one; None is any.
    """
    name = service.encode() if service else rb"(?P<service>[a-z0-9]+)"
    return LogPattern(
        kind=kind,
        program=_PROGRAM,
        message=name + rb"-login: (?:Info: )?" + begin + grammar,
        contains=[b"-login: " + level + word for word in words for level in (b"", b"Info: ")],
        once=b", rip=",
        fixed={"service": service} if service else {},
    )


_DONE = rb"Log(?:in|ged in)"
_PROXY = rb"proxy\([^()<>]*\): "
_TO = rb"[Ss]tarted proxying to (?:<[^<>]*>(?: \(<[^<>]*>\))?)?[^<>]*: "
"""Address, name, source, user and master user there, how long it took; the elements begin with the next bracket."""


def _logins() -> Iterator[LogPattern]:
    words = b"Login: ", b"Logged in: "
    yield _line(LOGIN, _DONE + rb": ", _DETAILS, *words, service="imap")
    yield _line(LOGIN, _DONE + rb": ", _DETAILS, *words, service="pop3")
    yield _line(LOGIN, _DONE + rb": ", _DETAILS, *words)
    yield _line(LOGIN, _DONE + rb": ", _WORDS, *words)
    yield _line(LOGIN, _PROXY + _TO, _DETAILS, b"proxy(")
    yield _line(LOGIN, rb"Logged in; ", _QUOTED, b"Logged in; ")
    yield _line(LOGIN, b"", _QUOTED + rb"; " + _DONE, b'"')
    # Never believed, for there is a second address: that a client tried is worth a count and an explanation.
    yield _line(LOGIN, _DONE + rb": ", rb"user=<.*, rip=(?P<ip>" + _ADDRESS + rb"), .*, rip=.*", *words)


def _logouts() -> Iterator[LogPattern]:
    yield _line(LOGOUT, _PROXY + rb"Disconnected[^<>]*: ", _DETAILS, b"proxy(")
    ends = b"Disconnected", b"Logged out", b"Connection closed"
    yield LogPattern(
        kind=LOGOUT,
        program=_PROGRAM,
        message=rb"(?P<service>[a-z0-9]+)(?:-hibernate)?\((?P<user>[^()<>]*)\)<[0-9]+><(?P<session>[^<>]+)>: "
        rb"(?:Info: )?(?:" + rb"|".join(ends) + rb")(?:[ :.(].*)?",
        contains=[b">: " + level + end for end in ends for level in (b"", b"Info: ")],
    )


_HEADER = LogHeader(
    name="dovecot",
    line=rb"(?:(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:.]+|@4[0-9a-f]{23}"
    rb"|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(?:Z|[+-][0-9:]+)?) )?"
    rb"(?P<message>[a-z0-9-]+(?:\([^<>]*\)(?:<[0-9]*>(?:<[^ ]*>)?)?)?: (?:Debug|Info|Warning|Error|Fatal|Panic): .*)",
    program=b"dovecot",
)
"""``log_path``, with the default ``log_timestamp``, an ISO one, multilog's, or none."""


@hookimpl
def pop_before_smtp_parsers() -> Iterator[LogParser]:
    """Yield the parser."""
    yield LogParser(
        name="dovecot",
        patterns=[*_logins(), *_logouts()],
        headers=[_HEADER],
        detect=("/usr/sbin/dovecot", "/usr/local/sbin/dovecot"),
        units=("dovecot.service", "dovecot2.service"),  # the second is NixOS's; the process that logs is root's
    )
