"""``status``: is the daemon up, and what is wrong with its sources and maps?"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import click

from pop_before_smtp._config import Config
from pop_before_smtp._statefiles import STATUS, holder, read_status
from pop_before_smtp._status import counted, problems
from pop_before_smtp.errors import StateError

from ._common import ago, config_option, iso, json_option, load, local, print_json, print_table, printable, start_log


@click.command("status")
@config_option
@json_option
def command(*, config_file: Path | None, as_json: bool) -> int:
    """Tell whether the daemon is up, how far its logs are read, and what is wrong.

    Needs only read access to the state directory. Exits with 0 if it is up and nothing is wrong, else with 1. What a
    daemon that is gone has published last is shown with its age.
    """
    start_log(level=logging.ERROR)
    found = look(load(config_file), time.time())
    if as_json:
        print_json(found)
    else:
        _show(found)
    return 0 if found["up"] and not found["problems"] else 1


def look(config: Config, now: float) -> dict[str, Any]:
    """Return what the lock and the published file say, as JSON data.

    Raises:
        StateError: they may not be read.
    """
    try:
        pid, status = holder(config.state_dir), read_status(config.state_dir) or {}
    except PermissionError:
        raise StateError(f"{config.state_dir / STATUS}: may not be read; be root or in the group of the file") from None
    if pid is not None and (pid != status.get("pid") or status.get("ended")):
        status = {}  # of the one before: this one has not come so far
    return {
        "up": pid is not None,
        "pid": pid or None,
        "ready": pid is not None and bool(status.get("ready")),
        "killed": pid is None and bool(status) and not status["ended"],
        "version": status.get("version"),
        "started": iso(status.get("started")),
        "at": iso(status.get("at")),
        "age": round(max(0.0, now - status["at"]), 3) if status else None,
        "problems": problems(status) if status else [],
        "sources": [each | {"last": iso(each["last"])} for each in status.get("sources", [])],
        "writers": [each | {"written": iso(each["written"])} for each in status.get("writers", [])],
        "counts": status.get("counts", {}),
    }


def _show(found: dict[str, Any]) -> None:
    click.echo(_first_line(found))
    if found["at"] is None:
        return
    click.echo()
    header = ("SOURCE", "UP", "READ TO", "LAST RECORD")
    rows = ((each["source"], _yes(each["up"]), each["position"], _time(each["last"])) for each in found["sources"])
    print_table(header, rows)
    click.echo()
    header = ("WRITER", "LEASES", "LAST WRITTEN", "IN ORDER")
    maps = found["writers"]
    rows = ((each["writer"], each["leases"], _time(each["written"]), _yes(not each["problem"])) for each in maps)
    print_table(header, rows)
    click.echo()
    for problem in found["problems"]:
        click.echo(f"problem: {printable(problem)}")
    click.echo(f"counts: {counted(found['counts'])}")


def _first_line(found: dict[str, Any]) -> str:
    if found["up"]:
        pid = f"pid {found['pid'] or 'unknown'}"
        if found["at"] is None:
            return f"starting, {pid}"
        state = "up" if found["ready"] else "starting, reading the logs"
        return f"{state} since {local(found['started'])}, {pid}; as of {ago(found['age'])}"
    if found["at"] is None:
        return "not running"
    return f"not running: {'killed' if found['killed'] else 'ended'}; as of {ago(found['age'])}"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _time(stamp: str | None) -> str | None:
    return stamp and local(stamp)
