"""``list``: who may relay now, since when and for how long."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from pop_before_smtp import _assembly as assembly
from pop_before_smtp import _host
from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config
from pop_before_smtp._engine import Engine
from pop_before_smtp._replay import replay
from pop_before_smtp._statereader import Login, read

from ._common import config_option, iso, json_option, load, local, print_json, print_table, span, start_log


@click.command("list")
@config_option
@json_option
def command(*, config_file: Path | None, as_json: bool) -> None:
    """List the leases of each writer with user, source and remaining time.

    Needs only read access to the state directory; it does not matter whether the daemon is up, stopped or killed.
    """
    start_log(level=logging.ERROR)
    rows = leases(load(config_file), Clock())
    if as_json:
        print_json(rows)
        return
    header = ("ADDRESS", "USER", "SERVICE", "LAST LOGIN", "REMAINING", "WRITER")
    print_table(
        header,
        (
            (row["address"], row["user"], row["service"], local(row["last"]), span(row["remaining"]), row["writer"])
            for row in rows
        ),
    )


def leases(config: Config, clock: Clock) -> list[dict[str, Any]]:
    """Return the leases that the remembered logins are worth under this configuration, newest last.

    Raises:
        StateError: the state cannot be read.
    """
    engine, found = recall(config, clock, clock.wall() - config.longest_grace)
    logins = by_address(found)
    now, wall = clock.now(), clock.wall()
    rows = []
    for outlet in engine.outlets:
        for address in outlet.leases:
            remaining = (outlet.leases.deadline(address) or now) - now
            rows.append(_row(outlet.label, logins[address], remaining, wall))
    return sorted(rows, key=lambda row: (row["writer"], row["last"]))


def recall(config: Config, clock: Clock, since: float, address: str | None = None) -> tuple[Engine, list[Login]]:
    """Return an engine whose leases are those of now, and the remembered logins.

    Args:
        config: the effective configuration.
        clock: the time.
        since: logins whose last time is not before that, in unix seconds,
        address: and only of this one.

    Raises:
        StateError: the state cannot be read.
    """
    engine = assembly.engine(config, _host.look())
    with read(config.state_dir) as state:
        replay(engine, state, clock, config.longest_grace)
        return engine, list(state.logins(since, address))


def by_address(logins: Iterable[Login]) -> dict[str, list[Login]]:
    """Group logins by address, oldest first."""
    grouped: dict[str, list[Login]] = defaultdict(list)
    for login in logins:
        grouped[login.address].append(login)
    return grouped


def _row(writer: str, logins: list[Login], remaining: float, wall: float) -> dict[str, Any]:
    last = max(logins, key=lambda login: login.last)
    return {
        "address": last.address,
        "user": last.user,
        "users": sorted({login.user for login in logins if login.user is not None}),
        "service": last.service,
        "parser": last.parser,
        "source": last.source,
        "position": last.position,
        "first": iso(min(login.first for login in logins)),
        "last": iso(last.last),
        "expires": iso(wall + remaining),
        "remaining": round(remaining, 3),
        "writer": writer,
    }
