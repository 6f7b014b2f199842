"""Where log records come from: followed files, streams, and whole files read once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config, SourceSettings
from pop_before_smtp._record import Batch, Checkpoint, Layout

from .file import FileSource, check
from .plain import read_all
from .stream import StreamSource
from .watch import Watch


class Source(Protocol):
    """What the daemon sees of a source. It retries by itself for ever; only a stream ends."""

    name: str
    """How batches, messages and the state call it."""
    up: bool
    """It is there and can be read."""
    problem: str | None
    """Why not, for people."""
    caught_up: asyncio.Event
    """Set when what was there at the start has been read, or when there is nothing to read yet."""

    def batches(self) -> AsyncIterator[Batch]:
        """Yield what is there and what comes; cancel the task to stop."""


def layout(config: Config, source: SourceSettings) -> Layout:
    """Return how the lines of a source are taken apart."""
    headers = [header for parser in config.registry.parsers for header in parser.headers]
    return Layout(headers, format=source.format, zone=source.timezone)


def open_sources(config: Config, clock: Clock, checkpoints: Mapping[str, Checkpoint]) -> list[Source]:
    """Return the configured sources; nothing is opened before their batches are asked for.

    Args:
        config: the effective configuration.
        clock: the time.
        checkpoints: how far sources were read before, by name.
    """
    watch = Watch()
    sources: list[Source] = []
    for each in config.sources:
        name, horizon = each.name, config.longest_grace
        parts = layout(config, each)
        if name == "stdin":
            sources.append(StreamSource(name, 0, parts, clock, horizon=horizon))
        else:
            known = checkpoints.get(name)
            sources.append(FileSource(name, each.path, parts, clock, checkpoint=known, horizon=horizon, watch=watch))
    return sources


__all__ = ["FileSource", "Source", "StreamSource", "Watch", "check", "layout", "open_sources", "read_all"]
