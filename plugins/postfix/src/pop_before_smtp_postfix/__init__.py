"""Postfix map writer and netblock discovery for pop-before-smtp."""

from __future__ import annotations

from collections.abc import Iterator

from pop_before_smtp.api import Writer, hookimpl

from ._lookups import open_writer
from ._maps import Settings, defaults
from ._netblocks import netblocks


@hookimpl
def pop_before_smtp_writers() -> Iterator[Writer]:
    """Yield the writer ``postfix``."""
    yield Writer(name="postfix", settings=Settings, open=open_writer, netblocks=netblocks, defaults=defaults)


__all__ = ["Settings", "pop_before_smtp_writers"]
