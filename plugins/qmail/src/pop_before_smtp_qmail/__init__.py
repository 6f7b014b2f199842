"""tcpserver rules writer (qmail) and vpopmail log parser for pop-before-smtp."""

from __future__ import annotations

from collections.abc import Iterator

from pop_before_smtp.api import LogParser, Writer, hookimpl

from ._map import Settings, defaults, open_map
from ._netblocks import netblocks
from ._vpopmail import PARSER


@hookimpl
def pop_before_smtp_parsers() -> Iterator[LogParser]:
    """Yield the parser ``vpopmail``."""
    yield PARSER


@hookimpl
def pop_before_smtp_writers() -> Iterator[Writer]:
    """Yield the writer ``qmail``."""
    yield Writer(name="qmail", settings=Settings, open=open_map, netblocks=netblocks, defaults=defaults)


__all__ = ["PARSER", "Settings", "pop_before_smtp_parsers", "pop_before_smtp_writers"]
