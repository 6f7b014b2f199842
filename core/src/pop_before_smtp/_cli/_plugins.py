"""``plugins``: what is installed, and what each of them brings."""

from __future__ import annotations

import click

from pop_before_smtp._plugins import Plugin, installed, load

from ._common import json_option, print_json, print_table


@click.command("plugins")
@json_option
def command(*, as_json: bool) -> int:
    """List the installed plugins with their parsers and writers."""
    rows = [_row(name) for name in installed()]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("no plugin is installed; try: pip install pop-before-smtp-dovecot pop-before-smtp-postfix")
    else:
        keys = ("name", "distribution", "version", "parsers", "writers", "problem")
        print_table([key.upper() for key in keys], [[_cell(row[key]) for key in keys] for row in rows])
    return 1 if any(row["problem"] for row in rows) else 0


def _row(name: str) -> dict[str, object]:
    registry, problems = load([name])
    plugin = registry.plugins[0] if registry.plugins else Plugin(name=name, distribution="", version="")
    return {
        "name": name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "parsers": [parser.name for parser in plugin.parsers],
        "writers": [writer.name for writer in plugin.writers],
        "problem": problems[0].partition(": ")[2] if problems else None,
    }


def _cell(value: object) -> object:
    return (", ".join(value) or None) if isinstance(value, list) else value
