"""Finding and loading plugins: by entry point, by name, and never silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

import pluggy
from attrs import frozen
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from . import __version__
from .api import GROUP, Hooks, LogParser, Writer
from .errors import PluginError

CORE = "pop-before-smtp"
_LONGEST = 300


@frozen(kw_only=True)
class Plugin:
    """One loaded plugin and what it yielded."""

    name: str
    distribution: str
    version: str
    parsers: tuple[LogParser, ...] = ()
    writers: tuple[Writer, ...] = ()


@frozen(kw_only=True)
class Registry:
    """All loaded plugins."""

    plugins: tuple[Plugin, ...] = ()

    @property
    def parsers(self) -> tuple[LogParser, ...]:
        """All parsers, in the order of the plugins."""
        return tuple(parser for plugin in self.plugins for parser in plugin.parsers)

    @property
    def writers(self) -> dict[str, Writer]:
        """All writers by name."""
        return {writer.name: writer for plugin in self.plugins for writer in plugin.writers}


def installed() -> dict[str, list[metadata.EntryPoint]]:
    """Return the entry points of our group by name; two under one name are two distributions' claims."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=GROUP):
        claims = found.setdefault(entry.name, [])
        if entry not in claims:
            claims.append(entry)
    return dict(sorted(found.items()))


def load(names: Sequence[str], loaded: Registry | None = None) -> tuple[Registry, list[str]]:
    """Load the plugins of these names, and no others.

    Args:
        names: of plugins.
        loaded: those that need not be loaded again.

    Returns:
        The registry of all that loaded, and one line per problem, each beginning with ``plugins[INDEX]: ``. A daemon
        starts only where there is none.
    """
    available = installed()
    known = {plugin.name: plugin for plugin in loaded.plugins} if loaded else {}
    plugins: list[Plugin] = []
    problems: list[str] = []
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.append(f'plugins[{index}]: "{name}" is named twice')
            continue
        try:
            plugins.append(known.get(name) or _load(name, available.get(name, [])))
        except PluginError as error:
            problems += [f"plugins[{index}]: {line}" for line in error.problems]
    registry = Registry(plugins=tuple(plugins))
    return registry, problems + _clashes(registry)


def _load(name: str, claims: list[metadata.EntryPoint]) -> Plugin:
    if not claims:
        raise PluginError(f'no plugin "{name}" is installed; try: pip install {CORE}-{name.replace("_", "-")}')
    if len(claims) > 1:
        raise PluginError(f'"{name}" is claimed by {" and ".join(map(_origin, claims))}; uninstall one')
    entry = claims[0]
    origin = _origin(entry)
    _check_requirement(entry, name, origin)
    try:
        module = entry.load()
    except Exception as cause:
        raise PluginError(f'plugin "{name}" ({origin}) fails to import: {_reason(cause)}') from cause
    manager = pluggy.PluginManager(GROUP)  # one each: whatever goes wrong below, we know whose it is
    manager.add_hookspecs(Hooks)
    try:
        manager.register(module, name)
        manager.check_pending()
        parsers = _collect(manager.hook.pop_before_smtp_parsers(), LogParser)
        writers = _collect(manager.hook.pop_before_smtp_writers(), Writer)
    except Exception as cause:
        raise PluginError(f'plugin "{name}" ({origin}) is broken: {_reason(cause)}') from cause
    if not parsers and not writers:
        raise PluginError(f'plugin "{name}" ({origin}) yields neither parser nor writer; is a hook misspelt?')
    distribution, _, version = origin.rpartition(" ")
    return Plugin(name=name, distribution=distribution, version=version, parsers=parsers, writers=writers)


def _collect(results: Iterable[Iterable[Any]], kind: type) -> tuple[Any, ...]:
    yielded = tuple(thing for result in results for thing in result)
    for thing in yielded:
        if not isinstance(thing, kind):
            raise TypeError(f"a hook yields {type(thing).__name__} where {kind.__name__} is due")
    return yielded


def _check_requirement(entry: metadata.EntryPoint, name: str, origin: str) -> None:
    for text in (entry.dist and entry.dist.requires) or ():
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == CORE and not requirement.specifier.contains(
            __version__, prereleases=True
        ):
            raise PluginError(
                f'plugin "{name}" ({origin}) wants {CORE}{requirement.specifier}, this is {__version__}; upgrade one'
            )


def _clashes(registry: Registry) -> list[str]:
    problems = []
    for kind, names in (
        ("parser", [parser.name for parser in registry.parsers]),
        ("writer", [writer.name for plugin in registry.plugins for writer in plugin.writers]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                owners = [
                    plugin.name
                    for plugin in registry.plugins
                    if name in [thing.name for thing in (plugin.parsers if kind == "parser" else plugin.writers)]
                ]
                problems.append(f'plugins: the {kind} name "{name}" is claimed more than once, by {", ".join(owners)}')
    return problems


def _origin(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "no distribution 0"


def _reason(cause: Exception) -> str:
    text = " ".join(f"{type(cause).__name__}: {cause}".split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
