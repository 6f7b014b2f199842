"""Zero configuration: fill what a configuration leaves out with what is on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import field, frozen

from ._config import DEFAULT_DIRECTORY
from ._plugins import Registry, installed, load
from ._sources import journal
from ._trust import Senders
from .api import LogParser
from .errors import ConfigError, SourceError

LOGS = ("/var/log/mail.log", "/var/log/maillog", "/var/log/mail/info", "/var/log/messages", "/var/adm/messages")
"""The usual mail logs: Debian, Red Hat, Mandriva and their kin, the rest."""
_FRESH = 3600.0
"""A journal in which a server has written this short a time ago, in seconds, is the one that it writes to."""


@frozen(kw_only=True)
class Found:
    """A configuration without gaps."""

    data: dict[str, Any]
    """As in a TOML file."""
    registry: Registry = field(factory=Registry)
    """The plugins that were loaded on the way."""
    why: tuple[str, ...] = ()
    """Why the source was chosen, for people, one line each."""


def fill(data: dict[str, Any]) -> Found:
    """Return the TOML data with ``plugins``, ``[[source]]`` and ``[[writer]]`` added where it does not have them.

    Raises:
        ConfigError: something that is left out is not to be found either, one line each.
    """
    if all(key in data for key in ("plugins", "source", "writer")):
        return Found(data=data)
    names = data.get("plugins", list(installed()))
    registry, problems = load([name for name in names if isinstance(name, str)] if isinstance(names, list) else [])
    if problems:
        raise ConfigError(*problems)
    filled: dict[str, Any] = dict(data)
    why: list[str] = []
    if "writer" not in data:
        filled["writer"] = _writers(registry, problems)
    if "plugins" not in data:
        filled["plugins"] = names = _plugins(registry, filled["writer"], problems, any_log="source" in data)
    if "source" not in data:
        parsers = [parser for plugin in registry.plugins if plugin.name in names for parser in plugin.parsers]
        filled["source"], why = _sources(parsers, problems)
    if problems:
        raise ConfigError(*problems)
    return Found(data=filled, registry=registry, why=tuple(why))


def _sources(parsers: Sequence[LogParser], problems: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Choose between the journal and the first usual log file that can be read, and say why."""
    logs = [log for log in LOGS if Path(log).is_file()]
    log = next((log for log in logs if os.access(log, os.R_OK)), None)
    now = time.time()
    written, of_journal = _journal(parsers, now)
    changed = Path(log).stat().st_mtime if log else float("-inf")
    if log:
        of_log = f"{log}, written to {_ago(now - changed)} ago"
    else:
        of_log = f"{logs[0]}, which is not readable" if logs else "a file, for none of the usual mail logs is here"
    if written is not None and (now - written < _FRESH or written > changed):
        return [{"journal": True}], [f"source: the journal: {of_journal}", f"source: not {of_log}"]
    if log:
        return [{"path": log}], [f"source: {of_log}", f"source: not the journal: {of_journal}"]
    problems.append(
        f"source: {logs[0]} is not readable; run as a member of its group (the journal: {of_journal})"
        if logs
        else f"source: none of the usual mail logs is here ({', '.join(LOGS)}), and no journal ({of_journal}); "
        "name yours in a [[source]]"
    )
    return [], []


def _journal(parsers: Sequence[LogParser], now: float) -> tuple[float | None, str]:
    """Return when the servers of these parsers have last written to the journal, and what there is to say.

    Where none of them has, so that nothing tells whether they ever will, any record speaks for the journal if no log
    file is fresh. Without a time it cannot be used.
    """
    silent = [parser.name for parser in parsers if not parser.units]
    if silent:
        return None, f'the parser "{silent[0]}" names no systemd units'
    servers = ", ".join(parser.name for parser in parsers)
    try:
        last = journal.newest("--system")
        wanted = journal.matches([Senders(units=parser.units) for parser in parsers], [])
        written = journal.newest(*wanted) if parsers and last is not None else None
    except journal.LateError as error:
        return 0.0, str(error)  # better than nothing
    except SourceError as error:
        return None, str(error)
    if last is None or not parsers:
        return None, journal.NONE
    if written is None:
        return min(last, now - _FRESH), f"it holds no record of {servers} yet"
    return written, f"its newest record of {servers} is {_ago(now - written)} old"


def _ago(seconds: float) -> timedelta:
    return timedelta(seconds=max(0, int(seconds)))


def _writers(registry: Registry, problems: list[str]) -> list[dict[str, Any]]:
    for writer in registry.writers.values():
        try:
            keys = writer.defaults(DEFAULT_DIRECTORY) if writer.defaults else None
        except ConfigError as error:
            problems += [f"writer: {line}" for line in error.problems]
            continue
        if keys is not None:
            return [{"use": writer.name, **keys}]
    known = ", ".join(registry.writers) or "none is installed"
    problems.append(f"writer: no mail server that a plugin can write for is here ({known}); name one in a [[writer]]")
    return []


def _plugins(registry: Registry, writers: list[dict[str, Any]], problems: list[str], *, any_log: bool) -> list[str]:
    """Select the parsers whose server is here (all of them where the operator named the log) and the writers in use."""
    parsing = [plugin for plugin in registry.plugins if plugin.parsers]
    here = [
        plugin for plugin in parsing if any(Path(mark).exists() for parser in plugin.parsers for mark in parser.detect)
    ]
    chosen = here or (parsing if any_log else [])
    if not chosen:
        known = ", ".join(plugin.name for plugin in parsing) or "none is installed"
        problems.append(f"plugins: no POP or IMAP server that a plugin can read is here ({known}); name one in plugins")
    used = {writer.get("use") for writer in writers if isinstance(writer, dict)}
    writing = [plugin for plugin in registry.plugins if used & {writer.name for writer in plugin.writers}]
    return list(dict.fromkeys(plugin.name for plugin in [*chosen, *writing]))
