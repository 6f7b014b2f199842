"""Where log records come from: followed files, streams, and whole files read once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Protocol

from attrs import evolve

from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config, SourceSettings
from pop_before_smtp._record import Batch, Checkpoint, Layout, Position, Records
from pop_before_smtp._trust import Senders, Trust

from . import journal
from .file import FileSource, check
from .journal import JournalSource
from .plain import read_all
from .several import SeveralSource, is_pattern, matches
from .stream import StreamSource
from .watch import Watch


class Source(Protocol):
    """What the daemon sees of a source. It retries by itself for ever; only a stream ends."""

    name: str
    """How batches, messages and the state call it."""
    caught_up: asyncio.Event
    """Set when what was there at the start has been read, or when there is nothing to read yet."""

    @property
    def up(self) -> bool:
        """It is there and can be read."""

    @property
    def problem(self) -> str | None:
        """Why not, for people."""

    def batches(self) -> AsyncIterator[Batch | Records]:
        """Yield what is there and what comes; cancel the task to stop."""


def layout(config: Config, source: SourceSettings) -> Layout:
    """Return how the lines of a source are taken apart, and what of them is believed."""
    headers = [header for parser in config.registry.parsers for header in parser.headers]
    trust = Trust(source.name, hosts=source.hosts, escaped=source.escaped is not False)
    return Layout(headers, format=source.format, zone=source.timezone, trust=trust)


def senders(config: Config, source: SourceSettings) -> dict[str, Senders]:
    """Return by parser whose records in the journal are believed: what the source names, or else the parser."""
    return {
        parser.name: Senders(
            units=source.units or parser.units, uids=parser.uids if source.uids is None else source.uids
        )
        for parser in config.registry.parsers
    }


def problem(source: SourceSettings, known: Collection[str]) -> str | None:
    """Return what speaks against reading a source, for people.

    Args:
        source: its settings.
        known: the sources that have been read before: one of them that is missing is just being rotated.
    """
    if source.journal:
        return journal.check()
    if source.path is None or source.name == "stdin":
        return None
    if is_pattern(source.path):
        return next((text for each in matches(source.path.absolute()) if (text := check(each))), None)
    if os.path.lexists(source.path):
        return check(source.path)
    if source.name not in known and source.missing == "error":
        return f'{source.path} does not exist; correct it, or set missing = "wait"'
    return None


def open_sources(config: Config, clock: Clock, positions: Mapping[str, Position]) -> list[Source]:
    """Return the configured sources; nothing is opened before their batches are asked for.

    Args:
        config: the effective configuration.
        clock: the time.
        positions: how far sources were read before, by name.
    """
    watch = Watch()
    return [_open(config, each, clock, positions, watch) for each in config.sources]


def _open(
    config: Config, source: SourceSettings, clock: Clock, positions: Mapping[str, Position], watch: Watch
) -> Source:
    name, horizon = source.name, config.longest_grace
    if name == "stdin":
        return StreamSource(name, 0, layout(config, source), clock, horizon=horizon)
    if source.path:
        return _open_path(config, source, source.path, clock, positions=positions, watch=watch)
    if source.journal:
        cursor, believed = positions.get(name), senders(config, source)
        return JournalSource(
            name,
            clock,
            trust=Trust(name, hosts=source.hosts, senders=believed),
            matches=journal.matches(believed.values(), source.identifiers),
            cursor=cursor if isinstance(cursor, str) else None,
            horizon=horizon,
        )
    raise NotImplementedError(source.kind)


def _open_path(
    config: Config,
    source: SourceSettings,
    path: Path,
    clock: Clock,
    *,
    positions: Mapping[str, Position],
    watch: Watch,
) -> Source:
    horizon = config.longest_grace
    def file(path: Path, known: Position | None, *, ends: bool = True) -> FileSource:
        checkpoint = known if isinstance(known, Checkpoint) else None
        parts = layout(config, evolve(source, path=path))
        return FileSource(str(path), path, parts, clock, checkpoint=checkpoint, horizon=horizon, watch=watch, ends=ends)

    if is_pattern(path):
        return SeveralSource(source.name, path, open_file=file, positions=positions, watch=watch)
    return file(path, positions.get(source.name), ends=False)


__all__ = [
    "FileSource",
    "JournalSource",
    "SeveralSource",
    "Source",
    "StreamSource",
    "Watch",
    "layout",
    "open_sources",
    "problem",
    "read_all",
    "senders",
]
