"""Zero configuration: fill what a configuration leaves out with what is on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ._config import DEFAULT_DIRECTORY
from ._plugins import Registry, installed, load
from .errors import ConfigError

LOGS = ("/var/log/mail.log", "/var/log/maillog", "/var/log/mail/info", "/var/log/messages", "/var/adm/messages")
"""The usual mail logs: Debian, Red Hat, Mandriva and their kin, the rest."""


def fill(data: dict[str, Any]) -> dict[str, Any]:
    """Return the TOML data with ``plugins``, ``[[source]]`` and ``[[writer]]`` added where it does not have them.

    Raises:
        ConfigError: something that is left out is not to be found either, one line each.
    """
    if all(key in data for key in ("plugins", "source", "writer")):
        return data
    names = data.get("plugins", list(installed()))
    registry, problems = load([name for name in names if isinstance(name, str)] if isinstance(names, list) else [])
    if problems:
        raise ConfigError(*problems)
    filled = {"source": _sources(problems), **data} if "source" not in data else dict(data)
    if "writer" not in data:
        filled["writer"] = _writers(registry, problems)
    if "plugins" not in data:
        filled["plugins"] = _plugins(registry, filled["writer"], problems, any_log="source" in data)
    if problems:
        raise ConfigError(*problems)
    return filled


def _sources(problems: list[str]) -> list[dict[str, Any]]:
    for log in LOGS:
        if os.access(log, os.R_OK) and Path(log).is_file():
            return [{"path": log}]
    unreadable = [log for log in LOGS if Path(log).is_file()]
    problems.append(
        f"source: {unreadable[0]} is not readable; run as a member of its group"
        if unreadable
        else f"source: none of the usual mail logs is here ({', '.join(LOGS)}); name yours in a [[source]]"
    )
    return []


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
