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
from pop_before_smtp._state import State
from pop_before_smtp.errors import MapError

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
    if State.locked(config.state_dir):
        _log.info("a daemon is running and expires its leases itself")
        return
    purge(config, Clock())


def purge(config: Config, clock: Clock) -> None:
    """Write each map that is ours anew, with the leases that are left.

    A map that a clean end emptied stays empty: nothing is ever added to what readers see now.

    Raises:
        MapError: a map could not be written; the others were.
    """
    problems = []
    state = State.open(config.state_dir)
    try:
        engine = assembly.engine(config, _host.look())
        replay(engine, state, clock, config.longest_grace)
        left = state.owned() - state.cleared()
        for outlet, target in zip(engine.outlets, assembly.maps(config), strict=True):
            if target.path in left:
                upkeep = Upkeep(target, outlet.label, 0.0)
                upkeep.take(outlet.changes(), 0.0)
                upkeep.work(clock.now)
                problems += [upkeep.problem] if upkeep.problem else []
    finally:
        state.close()
    if problems:
        raise MapError("; ".join(problems))
