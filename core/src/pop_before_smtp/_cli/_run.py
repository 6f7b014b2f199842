"""``run``: the daemon, in the foreground."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
from collections.abc import Callable
from pathlib import Path

import click

from pop_before_smtp import __version__
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config
from pop_before_smtp._daemon import serve
from pop_before_smtp._sandbox import prepare
from pop_before_smtp.errors import ConfigError

from ._check import examine
from ._common import config_option, load, start_log

_log = logging.getLogger("pop_before_smtp")


@click.command("run")
@config_option
@click.option(
    "--sandbox",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Try it without a mail server: follow DIR/mail.log and keep a cdb map in DIR.",
)
@click.option("--debug", is_flag=True, help="Log every decision.")
@click.option("--logto", metavar="FILE", help="Log to FILE (- is standard output) instead of standard error.")
def command(*, config_file: Path | None, sandbox: Path | None, debug: bool, logto: str | None) -> None:
    """Follow the logs and keep the maps, until a signal.

    SIGTERM and SIGINT end it with 0. SIGHUP reads the configuration again and reopens the log; a wrong configuration
    is reported and the old one stays in force.
    """
    if sandbox:
        config_file = prepare(sandbox)
    start_log(level=logging.DEBUG if debug else logging.INFO, to=logto)
    loop(lambda: load(config_file))


def loop(configure: Callable[[], Config], *, write: bool = True, ready: Callable[[], None] = lambda: None) -> None:
    """Run daemons one after another, a new one for each SIGHUP with a right configuration.

    Args:
        configure: reads the configuration.
        write: keep maps and state.
        ready: called when the first one is ready.
    """
    _log.info("starting up (v%s)", __version__)

    def hangup(config: Config) -> Config | None:
        """Reopen our log, read the configuration again, and return it if nothing speaks against it."""
        reopen_log()
        if any(source.name == "stdin" for source in config.sources):
            _log.warning("SIGHUP: standard input cannot be read again, so the configuration stays")
            return None
        try:
            wanted = configure()
            examine(wanted)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("SIGHUP: %s; the old configuration stays", problem)
            return None
        _log.info("SIGHUP: going on with the new configuration")
        return wanted

    asyncio.run(serve(configure(), Clock(), write=write, ready=ready, hangup=hangup))


def reopen_log() -> None:
    """Reopen our own log file where it was renamed."""
    for handler in _log.handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler):
            handler.reopenIfNeeded()
