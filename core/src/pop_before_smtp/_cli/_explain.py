"""``explain``: what happens to one log line, and why."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from pop_before_smtp import _assembly as assembly
from pop_before_smtp import _host
from pop_before_smtp._config import DEFAULT_FILE, Config, build
from pop_before_smtp._engine import Engine
from pop_before_smtp._match import Attempt
from pop_before_smtp._plugins import installed
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp.api import LOGIN, LoginEvent, Record

from ._common import config_option, iso, json_option, load, print_json, printable, start_log
from ._match import as_dict


@click.command("explain")
@config_option
@json_option
@click.argument("line")
def command(*, config_file: Path | None, as_json: bool, line: str) -> None:
    """Show what a log LINE (- reads lines from standard input) means: header, patterns, captures, verdicts.

    Without a configuration all installed parsers and the default policy are asked.
    """
    start_log(level=logging.ERROR)
    named = config_file or DEFAULT_FILE.exists()
    config = load(config_file) if named else build({"plugins": list(installed())})
    engine = assembly.engine(config, _host.look(), logouts=True)
    for text in _lines(line):
        found = explain(config, engine, text)
        if as_json:
            print_json(found)
        else:
            _show(found)


def _lines(line: str) -> Iterator[bytes]:
    if line == "-":
        yield from (raw.rstrip(b"\n") for raw in sys.stdin.buffer)
    else:
        yield line.encode("utf-8", "surrogateescape")


def explain(config: Config, engine: Engine, line: bytes) -> dict[str, Any]:
    """Take one line through the pipeline and note every step, as JSON data.

    The line is taken as one that was written this moment.
    """
    layout = Layout([header for parser in config.registry.parsers for header in parser.headers])
    layout.sniff(line + b"\n")
    now = time.time()
    batch = Batch(source="explain", data=line + b"\n", received=now, limit=now, layout=layout)
    record = layout.record(line, batch, 0)
    result: dict[str, Any] = {"line": line.decode("utf-8", "surrogateescape"), "header": _header(record)}
    if record is None:
        return {**result, "verdict": "no header of a known kind"}
    tried = engine.matcher.trace(record)
    result["patterns"] = [_attempt(attempt, record.message) for attempt in tried]
    event = next(iter(engine.matcher.events(record)), None)
    if event is None:
        return {**result, "verdict": _why_nothing(tried)}
    result["event"] = as_dict(event, None)
    if event.kind is not LOGIN:
        return {**result, "verdict": "a logout grants nothing"}
    refusal = engine.policy.judge(event)
    result["verdict"] = f"refused: {refusal}" if refusal else "may relay"
    result["writers"] = (
        {} if refusal else {outlet.label: _outlet(engine, event, outlet.label) for outlet in engine.outlets}
    )
    return result


def _header(record: Record | None) -> dict[str, Any] | None:
    if record is None:
        return None
    names = ("host", "program", "pid", "message")
    return {
        "time": iso(record.time),
        **{name: getattr(record, name).decode("utf-8", "surrogateescape") for name in names},
    }


def _attempt(attempt: Attempt, message: bytes) -> dict[str, Any]:
    spans = attempt.spans
    return {
        "parser": attempt.parser,
        "kind": attempt.kind.value,
        "matched": attempt.matched,
        "captured": {name: message[slice(*span)].decode("utf-8", "surrogateescape") for name, span in spans.items()},
        "spans": {name: list(span) for name, span in spans.items()},
        "refusal": attempt.refusal or None,
    }


def _why_nothing(tried: Sequence[Attempt]) -> str:
    for attempt in tried:
        if attempt.refusal:
            return f"refused: {attempt.refusal}"
    if any(attempt.matched for attempt in tried):
        return "grants nothing"
    return "no pattern of this program matches" if tried else "no parser reads this program"


def _outlet(engine: Engine, event: LoginEvent, label: str) -> str:
    outlet = next(outlet for outlet in engine.outlets if outlet.label == label)
    reason = outlet.apply(event, 0.0, max(0.0, event.received - event.at))
    return f"no lease: {reason}" if reason else f"lease for {round(outlet.grace)} s after the login"


def _show(found: dict[str, Any]) -> None:
    header = found["header"]
    click.echo(f"line:     {printable(found['line'])}")
    if header:
        click.echo(
            f"header:   time={header['time'] or '-'} host={printable(header['host'])}"
            f" program={printable(header['program'])} pid={header['pid'] or '-'}"
        )
        click.echo(f"message:  {printable(header['message'])}")
    for attempt in found.get("patterns", ()):
        if not attempt["matched"]:
            continue
        refused = f", refused: {attempt['refusal']}" if attempt["refusal"] else ""
        click.echo(f"pattern:  {attempt['parser']} {attempt['kind']} matches{refused}")
        for name, text in attempt["captured"].items():
            start, end = attempt["spans"][name]
            click.echo(f"          {name} = {printable(text)}  [{start}:{end}]")
        break  # the first that matches has the line
    else:
        _show_failures(found.get("patterns", ()))
    click.echo(f"verdict:  {found['verdict']}")
    for label, verdict in found.get("writers", {}).items():
        click.echo(f"writer:   {label}: {verdict}")


def _show_failures(attempts: Sequence[dict[str, Any]]) -> None:
    for (parser, kind), count in Counter((attempt["parser"], attempt["kind"]) for attempt in attempts).items():
        click.echo(f"pattern:  {parser} {kind}: none of {count} matches")
