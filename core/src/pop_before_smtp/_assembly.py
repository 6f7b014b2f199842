"""From the configuration to the parts that run: engine, outlets, maps, and what speaks against starting."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ._config import Config, WriterSettings, netblocks
from ._engine import Engine
from ._host import Host
from ._match import Matcher
from ._outlet import Outlet
from ._policy import Policy
from ._serve import problems as lookup_problems
from ._sources import problem, suspicion
from ._state import State
from .api import Lookup, Map
from .errors import ConfigError, StateError
from .maps import check_directory

_log = logging.getLogger("pop_before_smtp.config")


def engine(config: Config, host: Host, *, logouts: bool = False) -> Engine:
    """Put the engine together.

    Args:
        config: the effective configuration.
        host: a look at this machine.
        logouts: let the matcher yield logouts too.

    Raises:
        ConfigError: a pattern or a mail server's own configuration forbids it.
    """
    problems: list[str] = []
    outlets = []
    for writer in config.writers:
        with warnings_logged(f"writer[{writer.index}].netblocks"), collected(problems):
            blocks = netblocks(writer)
            outlets.append(Outlet(writer, config.grace_of(writer), blocks, config.policy))
    with collected(problems):
        matcher = Matcher(config.registry.parsers, logouts=logouts)
    if problems:
        raise ConfigError(*problems)
    return Engine(matcher, Policy(config.policy, host), outlets)


def maps(config: Config) -> list[Map | Lookup]:
    """Open the map or lookup of each writer, which changes nothing on disk.

    Raises:
        ConfigError: with all problems of all writers.
    """
    problems: list[str] = []
    found = [open_map(writer, problems) for writer in config.writers]
    opened = [target for target in found if target is not None]
    places = [target.listen if isinstance(target, Lookup) else str(target.path) for target in opened]
    problems += [f"writer: two writers keep {place}" for place in {each for each in places if places.count(each) > 1}]
    if problems:
        raise ConfigError(*problems)
    return opened


def open_map(writer: WriterSettings, problems: list[str]) -> Map | Lookup | None:
    """Open one writer's map or lookup; add what speaks against it to ``problems`` and return None."""
    with warnings_logged(f"writer[{writer.index}]"):
        try:
            return writer.writer.open(writer.settings)
        except ConfigError as error:
            problems += [f"writer[{writer.index}].{line}" for line in error.problems]
    return None


def map_problems(config: Config, opened: list[Map | Lookup], owned: Collection[Path]) -> list[str]:
    """Return what speaks against writing these maps, or listening there: directories, and files that are not ours."""
    problems = []
    for writer, target in zip(config.writers, opened, strict=True):
        key = f"writer[{writer.index}].map"
        if isinstance(target, Lookup):
            problems += [f"writer[{writer.index}].{problem}" for problem in lookup_problems(target)]
        elif problem := check_directory(target.path.parent):
            problems.append(f"{key}: {problem}")
        elif os.path.lexists(target.path) and target.path not in owned and not writer.outlet.adopt:
            problems.append(
                f"{key}: {target.path} was not written by us and stays as it is; "
                "name another map, move the file away, or set adopt = true"
            )
    return problems


def source_problems(config: Config, known: Collection[str]) -> list[str]:
    """Return what speaks against reading the sources. One that is missing but ``known`` is just being rotated."""
    found = ((index, each, problem(each, known)) for index, each in enumerate(config.sources))
    return [f"source[{index}].{each.kind}: {text}" for index, each, text in found if text]


def warn_of_sources(config: Config) -> None:
    """Log of which sources nothing is granted, since whoever writes them lets clients begin lines."""
    for index, source in enumerate(config.sources):
        if text := suspicion(config, source):
            _log.warning("source[%d].escaped: %s", index, text)


def state(config: Config) -> State:
    """Open the state.

    Raises:
        ConfigError: it cannot be used, or another daemon uses it.
    """
    try:
        return State.open(config.state_dir)
    except StateError as error:
        raise ConfigError(f"state_dir: {error}") from error


def state_problems(config: Config) -> list[str]:
    """Return what speaks against keeping the state where the configuration says."""
    nearest = next(path for path in (config.state_dir, *config.state_dir.parents) if path.exists())
    if not nearest.is_dir():
        return [f"state_dir: {nearest} is no directory; name another"]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"state_dir: {nearest} is not writable for uid {os.geteuid()}; give it to the daemon's user"]
    return []


@contextmanager
def collected(problems: list[str], prefix: str = "") -> Iterator[None]:
    """Turn a ConfigError into lines in ``problems``."""
    try:
        yield
    except ConfigError as error:
        problems += [prefix + line for line in error.problems]


@contextmanager
def warnings_logged(key: str) -> Iterator[None]:
    """Send what a plugin warns of to our log, with the key that it is about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        _log.warning("%s: %s", key, warning.message)
