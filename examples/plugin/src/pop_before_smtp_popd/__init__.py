"""popd log parser for pop-before-smtp."""

from __future__ import annotations

from collections.abc import Iterator

from pop_before_smtp import LOGIN, LOGOUT, LogParser, LogPattern, hookimpl

_ADDRESS = rb"(?P<ip>[0-9A-Fa-f.:]+)"
_SESSION = rb"session=(?P<session>[0-9a-f]+)"

PARSER = LogParser(
    name="popd",
    detect=["/usr/sbin/popd"],
    units=["popd.service"],
    patterns=[
        LogPattern(
            kind=LOGIN,
            program=rb"popd",
            message=rb"login user=(?P<user>.*) from " + _ADDRESS + rb"(?P<tls> tls)? " + _SESSION,
            contains=[b"login user="],
            fixed={"service": "pop3"},
        ),
        LogPattern(
            kind=LOGOUT,
            program=rb"popd",
            message=rb"logout " + _SESSION,
            contains=[b"logout session="],
        ),
    ],
)


@hookimpl
def pop_before_smtp_parsers() -> Iterator[LogParser]:
    """Yield the parser ``popd``."""
    yield PARSER
