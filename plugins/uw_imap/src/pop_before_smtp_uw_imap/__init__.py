"""Logins and logouts of UW imapd and ipop3d, 2007f.

Each line ends in ``user=USER host=[NAME ][ADDRESS]`` and little more. The user is the client's own word and may hold
anything, each field is cut after 80 bytes, and where the name is so long that the address is cut off nothing can be
granted. A line with ``host=`` twice is not believed: that is what a line broken by a newline in a user name looks like.

The server writes ``Logout`` also for sessions that never logged in, so a logout counts where the same process has
logged in before; its pid names the session. TLS stands in another line, so it is unknown here.

``Preauthenticated`` is no login here: its address comes from the environment of a local shell.
"""

from __future__ import annotations

from collections.abc import Iterator

from pop_before_smtp import LOGIN, LOGOUT, LogParser, LogPattern, hookimpl

_CLIENT = rb" user=(?P<user>.*) host=(?:[0-9A-Za-z.-]+ )?\[(?P<ip>[0-9A-Za-z.:%]*)\]"
_END = rb"(?:Logout|Autologout|Hangup|Killed(?: \([a-z ]+\))?|[A-Z][A-Za-z ]*, while (?:reading|writing) [a-z ]+)"
"""A reason with ``while`` is the error that ended the connection."""
_SERVICES = (
    ("imap", rb"imapd", rb"(?:(?:Admin )?Login|Authenticated)" + _CLIENT + rb"(?: mech=[0-9A-Z_-]+| no mailbox)?"),
    ("pop3", rb"ipop3d", rb"(?:(?:Admin )?Login|Auth|APOP)" + _CLIENT + rb"(?: nmsgs=[0-9]+/[0-9]+| no mailbox)?"),
)


def _pattern(service: str, program: bytes, message: bytes, *, login: bool) -> LogPattern:
    return LogPattern(
        kind=LOGIN if login else LOGOUT,
        program=program,
        message=message,
        contains=[b" host="],
        once=b" host=",
        fixed={"service": service},
    )


@hookimpl
def pop_before_smtp_parsers() -> Iterator[LogParser]:
    """Yield the parser."""
    logins = [_pattern(service, program, message, login=True) for service, program, message in _SERVICES]
    logouts = [_pattern(service, program, _END + _CLIENT, login=False) for service, program, _ in _SERVICES]
    yield LogParser(
        name="uw_imap",
        patterns=[*logins, *logouts],
        detect=("/usr/sbin/ipop3d", "/usr/sbin/imapd", "/usr/sbin/uw-imapd", "/usr/local/libexec/imapd"),
        units=("inetd.service", "openbsd-inetd.service", "inetutils-inetd.service", "xinetd.service"),
        uids=(),  # it has become the user when it logs his login
    )
