"""``check``: is the configuration right, and what does it come to?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import click

from pop_before_smtp import _assembly as assembly
from pop_before_smtp import _host
from pop_before_smtp._config import Config
from pop_before_smtp._statereader import read
from pop_before_smtp.errors import ConfigError

from ._common import config_option, json_option, load, print_json, start_log


@click.command("check")
@config_option
@json_option
def command(*, config_file: Path | None, as_json: bool) -> None:
    """Load configuration and plugins, open what can be opened without changing it, and print the effective settings.

    Exits with 78 where something is wrong: one line per problem.
    """
    start_log()
    config = load(config_file)
    examine(config)
    assembly.warn_of_sources(config)
    if as_json:
        print_json(effective(config))
    else:
        click.echo("\n".join(as_toml(effective(config))))


def examine(config: Config) -> None:
    """Do everything that a start does short of changing anything.

    Raises:
        ConfigError: with every problem.
    """
    problems: list[str] = []
    with assembly.collected(problems):
        assembly.engine(config, _host.look())
    problems += assembly.state_problems(config)
    known, owned = _memory(config) if not problems else (set(), set())
    problems += assembly.source_problems(config, known)
    with assembly.collected(problems):
        problems += assembly.map_problems(config, assembly.maps(config), owned)
    if problems:
        raise ConfigError(*problems)


def _memory(config: Config) -> tuple[set[str], set[Path]]:
    """Return the sources that the state knows and the map files that are ours; nothing where there is no state."""
    if not config.state_dir.exists():
        return set(), set()
    with read(config.state_dir) as state:
        return set(state.positions()), set(state.owned())


def effective(config: Config) -> dict[str, Any]:
    """Return the effective configuration as TOML data, with the file that it came from and why it is so."""
    return {
        "origin": config.origin,
        "why": list(config.why),
        "plugins": [plugin.name for plugin in config.registry.plugins],
        "grace": config.grace,
        "state_dir": str(config.state_dir),
        "source": [{key: value for key, value in _plain(each).items() if key in each.keys} for each in config.sources],
        "policy": _plain(config.policy),
        "writer": [
            {**_plain(writer.outlet), "grace": config.grace_of(writer), **_plain(writer.settings)}
            for writer in config.writers
        ],
    }


def _plain(settings: Any) -> dict[str, Any]:
    def value(thing: Any) -> Any:
        if isinstance(thing, tuple):
            return [value(one) for one in thing]
        return thing if isinstance(thing, bool | int | float | str) else str(thing)

    pairs = attrs.asdict(settings, recurse=False).items()
    return {key: value(thing) for key, thing in pairs if thing is not None}


def as_toml(data: dict[str, Any]) -> list[str]:
    """Return the lines of a TOML file for what :func:`effective` returned."""
    lines = [f"# from {data['origin']}", *(f"# {line}" for line in data["why"])]
    tables = []
    for key, value in data.items():
        if isinstance(value, dict):
            tables += ["", f"[{key}]", *_pairs(value)]
        elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
            for one in value:
                tables += ["", f"[[{key}]]", *_pairs(one)]
        elif key not in {"origin", "why"}:
            lines += _pairs({key: value})
    return lines + tables


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]
