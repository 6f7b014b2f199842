"""Logins that vpopmail's ``vchkpw`` checks for qmail's POP3 and IMAP services.

5.x names the service, or the port where it is not the usual one: ``vchkpw-pop3: (PLAIN) login success USER:ADDRESS``.
Colons of an IPv6 address are written as underscores. Only ports of mail boxes count: with ``vchkpw-smtp`` and other
ports clients send mail, and ``vchkpw-webmail`` does not say whose address stands there.

What went wrong is said before the user (``password fail (pass: '...') USER:ADDRESS``), so no user name can look like a
login. vchkpw cuts a message behind some 500 bytes; one that may have lost the end of its address is not believed.

4.x writes ``vchkpw: login [USER] from ADDRESS`` for POP3, its usual caller. No line of either tells of a logout.
"""

from __future__ import annotations

from pop_before_smtp.api import LOGIN, LogParser, LogPattern

_SERVICES = (
    ("pop3", None, rb"(?:pop3|110)"),
    ("pop3", True, rb"(?:pop3s|995)"),
    ("imap", None, rb"(?:imap|143)"),
    ("imap", True, rb"(?:imaps|993)"),
)
_USER = rb"(?P<user>.{1,300})"
_ADDRESS = rb"(?P<ip>[0-9A-Fa-f._:]+)"


def _colons(address: bytes) -> bytes:
    return address.replace(b"_", b":")


def _pattern(service: str, tls: bool | None, name: bytes) -> LogPattern:
    return LogPattern(
        kind=LOGIN,
        program=rb"vpopmail",
        message=rb"vchkpw-" + name + rb": (?:\([A-Z0-9-]+\)|system password) login success " + _USER + rb":" + _ADDRESS,
        contains=[b" login success "],
        fixed={"service": service} if tls is None else {"service": service, "tls": tls},
        address=_colons,
    )


PARSER = LogParser(
    name="vpopmail",
    patterns=[
        *(_pattern(*each) for each in _SERVICES),
        LogPattern(
            kind=LOGIN,
            program=rb"vpopmail|vchkpw",
            message=rb"(?:vchkpw: )?login \[" + _USER + rb"\] from " + _ADDRESS,
            contains=[b"login ["],
            fixed={"service": "pop3"},
            address=_colons,
        ),
    ],
    detect=("/home/vpopmail/bin/vchkpw", "/var/vpopmail/bin/vchkpw", "/usr/local/vpopmail/bin/vchkpw"),
    units=("qmail.service", "qmail-pop3d.service", "svscan.service", "daemontools.service", "runit.service"),
)
