"""OpenSMTPD table writer and netblock discovery for pop-before-smtp."""

from __future__ import annotations

from collections.abc import Iterator

from pop_before_smtp.api import Writer, hookimpl

from ._maps import Settings, defaults, open_map
from ._netblocks import netblocks


@hookimpl
def pop_before_smtp_writers() -> Iterator[Writer]:
    """Yield the writer ``opensmtpd``."""
    yield Writer(name="opensmtpd", settings=Settings, open=open_map, netblocks=netblocks, defaults=defaults)


__all__ = ["Settings", "pop_before_smtp_writers"]
