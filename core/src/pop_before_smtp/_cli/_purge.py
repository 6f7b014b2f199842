"""``purge``: when the daemon is dead, take the expired addresses out of its maps."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from pop_before_smtp import _assembly as assembly
from pop_before_smtp import _host
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config
from pop_before_smtp._mapthread import Upkeep
from pop_before_smtp._replay import replay
from pop_before_smtp._statefiles import quiet, read_maps
from pop_before_smtp._statereader import read
from pop_before_smtp.api import Map
from pop_before_smtp.errors import MapError, StateError

from ._common import config_option, load, start_log

_log = logging.getLogger("pop_before_smtp.purge")


@click.command("purge")
@config_option
def command(*, config_file: Path | None) -> None:
    """Remove expired entries from the maps while no daemon does; does nothing while one runs.

    For ExecStopPost and a timer: a daemon that was killed leaves entries that nobody else would ever remove.
    """
    start_log(level=logging.ERROR)
    config = load(config_file)
    if not config.state_dir.exists():
        return
    with quiet(config.state_dir) as nobody:
        if nobody:
            purge(config, Clock())


def purge(config: Config, clock: Clock) -> None:
    """Write each map that is ours anew, with the leases that are left. Nothing is written to the state.

    A map that a clean end emptied stays empty: nothing is ever added to what readers see now. If the state cannot be
    read, nobody knows what is left, and nothing is.

    Raises:
        MapError: a map could not be opened or written; the others were.
    """
    problems: list[str] = []
    engine = assembly.engine(config, _host.look())
    try:
        with read(config.state_dir) as state:
            replay(engine, state, clock, config.longest_grace)
    except StateError as error:
        _log.error("%s; every lease ends", error)
        engine = assembly.engine(config, _host.look())
    cleared = read_maps(config.state_dir)
    for outlet in engine.outlets:
        target = assembly.open_map(outlet.writer, problems)
        if isinstance(target, Map) and not cleared.get(target.path, True):
            upkeep = Upkeep(target, outlet.label, 0.0)
            upkeep.take(outlet.changes(), 0.0)
            upkeep.work(clock.now)
            problems += [upkeep.problem] if upkeep.problem else []
    if problems:
        raise MapError("; ".join(problems))
