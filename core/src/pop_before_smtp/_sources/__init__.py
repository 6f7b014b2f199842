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
from pop_before_smtp._sockets import group_problem, path_problem
from pop_before_smtp._syslogd import doubt
from pop_before_smtp._trust import Senders, Trust

from . import command, journal, pipe
from .command import CommandSource
from .file import FileSource, check
from .journal import JournalSource
from .lines import HEAD
from .listen import SocketSource
from .pipe import PipeSource
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
    trust = Trust(source.name, hosts=source.hosts, escaped=source.escaped is not False and not _doubt(source))
    return Layout(headers, format=source.format, zone=source.timezone, trust=trust)


def _doubt(source: SourceSettings) -> str | None:
    """Return why clients may begin lines in a source, where ``escaped`` does not say; of a program nobody can tell."""
    if source.escaped != "auto" or source.path is None or source.name == "stdin":
        return None
    return doubt(source.path)


def single(source: SourceSettings) -> list[SourceSettings]:
    """Return a source for each file that a pattern names; any other source as it is."""
    if source.path and is_pattern(source.path):
        return [evolve(source, path=each) for each in matches(source.path.absolute())]
    return [source]


def suspicion(config: Config, source: SourceSettings) -> str | None:
    """Return why nothing is granted from a source although ``escaped`` does not ask for that, for people; or None."""
    return next((text for each in single(source) if (text := _doubt(each)) and not _own(config, each)), None)


def _own(config: Config, source: SourceSettings) -> bool:
    """Return whether a source is a server's own file, which no syslog daemon writes."""
    parts = layout(config, source)
    if source.path and source.path.is_file():
        try:
            with source.path.open("rb") as file:
                parts.sniff(file.read(HEAD))
        except OSError:
            pass
    return parts.trust.own


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
        return journal.check(known=source.name in known)
    if source.command:
        return command.check(source.command)
    if source.listen:
        return path_problem(source.listen) or group_problem(source.group)
    return _file_problem(source, source.path, known) if source.path and source.name != "stdin" else None


def _file_problem(source: SourceSettings, path: Path, known: Collection[str]) -> str | None:
    if pipe.is_pipe(path):
        return pipe.check(path)
    if is_pattern(path):
        return next((text for each in matches(path.absolute()) if (text := check(each))), None)
    if os.path.lexists(path):
        return check(path)
    if source.name not in known and source.missing == "error":
        return f'{path} does not exist; correct it, or set missing = "wait"'
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
    name, horizon = source.name, config.horizon
    if name == "stdin":
        return StreamSource(name, 0, layout(config, source), clock, horizon=horizon)
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
    if source.command:
        return CommandSource(name, source.command, layout(config, source), clock, horizon=horizon)
    if source.listen:
        trust = Trust(name, hosts=source.hosts)
        parts = Layout(format="syslog", zone=source.timezone, trust=trust, local=True)
        return SocketSource(name, source.listen, parts, clock, mode=int(source.mode, 8), group=source.group)
    assert source.path  # noqa: S101 - the configuration has made sure that it is one of these
    return _open_path(config, source, source.path, clock, positions=positions, watch=watch)


def _open_path(
    config: Config,
    source: SourceSettings,
    path: Path,
    clock: Clock,
    *,
    positions: Mapping[str, Position],
    watch: Watch,
) -> Source:
    horizon = config.horizon
    if pipe.is_pipe(path):
        return PipeSource(source.name, path, layout(config, source), clock, horizon=horizon, watch=watch)

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
    "single",
    "suspicion",
]
