"""The options of the original pop-before-smtp (1999-2018), so that an old init script goes on working."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pop_before_smtp import __version__
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import DEFAULT_FILE, Config
from pop_before_smtp.errors import ConfigError

from ._background import background
from ._check import as_toml, effective
from ._common import load, printable, start_log
from ._list import leases
from ._reprocess import reprocess
from ._run import loop

_log = logging.getLogger("pop_before_smtp")

_PERL = re.compile(rb"^\s*(?:[$%@]\w+\s*=|use strict|1;|=cut|=pod|#!.*perl)", re.MULTILINE)


@click.command("legacy")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="The configuration (TOML).")
@click.option("--write/--nowrite", default=True, help="Keep the maps, or only say what would be done.")
@click.option("--debug/--nodebug", default=False, help="Log every decision, to standard output.")
@click.option("--flock/--noflock", default=True, help="Accepted; each map locks as its reader does.")
@click.option("--reprocess", is_flag=True, help="Run through the whole log in its own time; implies --nowrite.")
@click.option("--watchlog", "--logfile", metavar="FILE", help="The log to follow (- is standard input).")
@click.option("--dbfile", metavar="FILE", help="The map, as hash:FILE (without .db).")
@click.option("--logto", metavar="FILE", help="Where to log (- is standard output).")
@click.option("--grace", type=click.IntRange(1), metavar="SECONDS", help="How long a login counts.")
@click.option("--daemon", "pidfile", type=click.Path(path_type=Path), metavar="PIDFILE", help="Run in the background.")
@click.option("--version", is_flag=True, help="Print the version.")
@click.option("--dumpconfig", is_flag=True, help="Print the effective configuration.")
@click.option("--list", is_flag=True, help="List the addresses that may relay; with --dbfile those in FILE.")
def command(**options: Any) -> None:
    """Run with the options of the original pop-before-smtp."""

    def configure() -> Config:
        return load(options["config_file"], _overrides(options))

    _refuse_perl(options["config_file"])
    if options["version"]:
        click.echo(f"pop-before-smtp {__version__}")
    if options["dumpconfig"]:
        click.echo("\n".join(as_toml(effective(configure()))))
    if options["list"]:
        _list(configure, options["dbfile"])
    if not (options["version"] or options["dumpconfig"] or options["list"]):
        _run(configure, options)


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    """Return the top-level keys that the options stand for."""
    overrides: dict[str, Any] = {}
    if watchlog := options["watchlog"]:
        overrides["source"] = [{"path": watchlog if watchlog == "-" else str(Path(watchlog).absolute())}]
    if dbfile := options["dbfile"]:
        overrides["writer"] = [{"use": "postfix", "map": f"hash:{Path(dbfile).absolute()}"}]
    if options["grace"]:
        overrides["grace"] = options["grace"]
    return overrides


def _refuse_perl(config_file: Path | None) -> None:
    """Say what to do with a configuration of the original, which was a Perl program."""
    try:
        head = config_file.read_bytes()[:65536] if config_file else b""
    except OSError:
        return  # load says it better
    if _PERL.search(head):
        raise ConfigError(
            f"--config: {config_file} is a Perl configuration of the original, which is not run; "
            f"write its settings to {DEFAULT_FILE} as docs/migration.md shows"
        )


def _list(configure: Callable[[], Config], dbfile: str | None) -> None:
    """Print the addresses in the original's words."""
    if dbfile:
        addresses = _keys(Path(f"{dbfile}.db"))
    else:
        addresses = sorted({row["address"] for row in leases(configure(), Clock())})
    click.echo(f"The database holds {len(addresses)} IPs:")
    for address in addresses:
        click.echo(printable(address))


def _keys(file: Path) -> list[str]:
    """Return what stands in a map, whoever wrote it."""
    try:
        bdb = importlib.import_module("pop_before_smtp.maps.bdb")
    except ImportError as error:
        raise ConfigError("--dbfile: Berkeley DB is not at hand; try: pip install 'pop-before-smtp[bdb]'") from error
    try:
        return sorted(key.rstrip(b"\0").decode("ascii", "replace") for key in bdb.read(file))
    except bdb.HashMap.failures as error:
        raise ConfigError(f"--dbfile: {file} cannot be read: {error.args[-1]}") from error


def _run(configure: Callable[[], Config], options: dict[str, Any]) -> None:
    write = options["write"] and not options["reprocess"]
    logto = "-" if options["debug"] and not options["logto"] else options["logto"]
    level = logging.DEBUG if options["debug"] else logging.INFO
    start_log(level=level, to=logto if logto in (None, "-") else str(Path(logto).absolute()))
    if options["reprocess"]:
        _log.info("--reprocess implies --nowrite: no map is touched")
        reprocess(configure())
    elif options["pidfile"]:
        background(options["pidfile"].absolute(), lambda ready: loop(configure, write=write, ready=ready))
    else:
        loop(configure, write=write)
