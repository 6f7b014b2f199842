"""What the commands share: options, the configuration, output, time for people."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import click

from pop_before_smtp._config import DEFAULT_FILE, Config, build, read
from pop_before_smtp._discover import fill
from pop_before_smtp.errors import ConfigError

config_option = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help=f"The configuration; default {DEFAULT_FILE}, or what is found on this machine where that is missing.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load(config_file: Path | None, overrides: dict[str, Any] | None = None) -> Config:
    """Read, fill and build the configuration.

    Args:
        config_file: the file named by the user; None for the default file or, where it is missing, none at all.
        overrides: top-level keys to use instead of the file's.

    Raises:
        ConfigError: with every problem.
    """
    if config_file is None and DEFAULT_FILE.exists():
        config_file = DEFAULT_FILE
    data = read(config_file) if config_file else {}
    data.update(overrides or {})
    found = fill(data)
    config = build(found.data, str(config_file) if config_file else "defaults", found.registry)
    return attrs.evolve(config, why=found.why)


def start_log(*, level: int = logging.INFO, to: str | None = None) -> None:
    """Send our log to standard error, to a file that may be rotated under us, or (``-``) to standard output.

    Raises:
        ConfigError: the file cannot be opened.
    """
    handler: logging.Handler
    if to and to != "-":
        try:
            handler = logging.handlers.WatchedFileHandler(to)
        except OSError as error:
            raise ConfigError(f"--logto: {to}: {error.strerror}; name another file") from error
    else:
        handler = logging.StreamHandler(sys.stdout if to == "-" else sys.stderr)
    handler.setFormatter(_Format())
    log = logging.getLogger("pop_before_smtp")
    log.handlers = [handler]
    log.setLevel(level)


class _Format(logging.Formatter):
    """A stamp and the message; under systemd the level instead, as sd-daemon(3) has it."""

    _LEVELS = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def __init__(self) -> None:
        self._journal = "JOURNAL_STREAM" in os.environ
        super().__init__("%(message)s" if self._journal else "%(asctime)s %(message)s", "%b %d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).encode("utf-8", "backslashreplace").decode()
        if not self._journal:
            return text
        level = next((number for least, number in self._LEVELS if record.levelno >= least), 7)
        return f"<{level}>{text}"


def print_json(data: object) -> None:
    """Print one JSON document on a line of its own."""
    click.echo(json.dumps(data, default=str, ensure_ascii=True))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print columns that line up; control characters and broken UTF-8 are shown, not sent to the terminal."""
    lines = [header, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def printable(value: object) -> str:
    """Return text that is safe on a terminal."""
    if value is None:
        return "-"
    text = str(value)
    if text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def iso(seconds: float | None) -> str | None:
    """Write a unix time as RFC 3339 with microseconds, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def local(stamp: str) -> str:
    """Write what :func:`iso` wrote for people: in the machine's zone, to the second."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Write a length of time for people: ``29m59s``."""
    minutes, left = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{left:02}s" if minutes else f"{left}s"


def ago(seconds: float) -> str:
    """Write how long ago something was, for people: ``12m03s ago``."""
    return f"{span(seconds)} ago"
