"""``match``: the pattern tester. What would the parsers find in this log?"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from pop_before_smtp._match import Matcher
from pop_before_smtp._plugins import installed
from pop_before_smtp._plugins import load as load_plugins
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp._sources import read_all
from pop_before_smtp.api import Kind, LoginEvent, LogParser
from pop_before_smtp.errors import ConfigError

from ._common import config_option, iso, json_option, load, printable

_LONG = 64 * 1024 * 1024
"""From this size on, in bytes, a terminal is shown a progress bar."""


_NO_REFUSALS = {"lines_cut", "connects_forgotten", "sessions_forgotten", "parts_forgotten"}
"""What the matcher counts beside refusals."""


@click.command("match")
@config_option
@json_option
@click.option("--parser", "names", multiple=True, metavar="NAME", help="Use this parser; may be repeated.")
@click.option("--kind", type=click.Choice(["login", "logout"]), help="Only events of this kind.")
@click.option("--format", "form", default="auto", metavar="NAME", help="auto, syslog, or a server's own as dovecot.")
@click.option("--unmatched", is_flag=True, help="Show the lines of a parser's program that no pattern took.")
@click.option("-q", "--quiet", is_flag=True, help="Only the summary.")
@click.argument("file")
def command(
    *,
    config_file: Path | None,
    as_json: bool,
    names: tuple[str, ...],
    kind: str | None,
    form: str,
    unmatched: bool,
    quiet: bool,
    file: str,
) -> None:
    """Show the logins and logouts in a log FILE (- is standard input), and a summary on standard error.

    Nothing is granted and no policy applied: it is what the parsers see.
    """
    parsers = select(config_file, names)
    headers = [header for parser in parsers for header in parser.headers]
    if form not in ("auto", "syslog", *(header.name for header in headers)):
        raise click.BadParameter(f"{form} is no format of these parsers", param_hint="--format")
    layout = Layout(headers, format=form)
    matcher = Matcher(parsers, logouts=kind != "login" or unmatched)
    batches = _with_progress(read_all(file, layout), file)
    if unmatched:
        lines = _unmatched(matcher, batches)
        _write(f"{number}: {printable(line)}" for number, line in lines)
        return
    found: Counter[tuple[str, Kind]] = Counter()
    lines_read = _Lines()
    if quiet:
        tally = matcher.tally(lines_read.over(batches))
        found.update({what: times for what, times in tally.items() if kind in (None, what[1])})
    else:
        form_of = as_json_text if as_json else _text
        events = _events(matcher, lines_read.over(batches), kind, found)
        _write(form_of(event, lines_read.number(event.position)) for event in events)
    _summary(lines_read.total, found, matcher.counts)


def select(config_file: Path | None, names: Sequence[str]) -> Sequence[LogParser]:
    """Return the named parsers, else the configuration's, else all that are installed.

    Raises:
        ConfigError: a plugin does not load, or a name is not there.
    """
    if config_file:
        parsers: Sequence[LogParser] = load(config_file).registry.parsers
    else:
        plugins = list(installed())
        registry, problems = load_plugins(names if names and set(names) <= set(plugins) else plugins)
        if problems:
            raise ConfigError(*problems)
        parsers = registry.parsers
    known = [parser.name for parser in parsers]
    strange = [name for name in names if name not in known]
    if strange:
        raise ConfigError(*(f'--parser: there is no "{name}"; there are: {", ".join(known)}' for name in strange))
    return [parser for parser in parsers if not names or parser.name in names]


def as_dict(event: LoginEvent, line: int | None) -> dict[str, Any]:
    """Return an event as the JSON object that is printed."""
    return {
        "line": line,
        "kind": event.kind.value,
        "address": event.address,
        "user": event.user,
        "service": event.service,
        "tls": event.tls,
        "session": event.session,
        "time": iso(event.at),
        "parser": event.parser,
    }


_TLS = {None: "-", True: "tls", False: "plain"}
_WORD = {None: "null", True: "true", False: "false"}


def as_json_text(event: LoginEvent, line: int) -> str:
    """Return what :func:`as_dict` returns as JSON text, three times as fast as :func:`json.dumps` would."""
    quoted = json.encoder.encode_basestring_ascii
    address, user, service, session = (
        "null" if text is None else quoted(text) for text in (event.address, event.user, event.service, event.session)
    )
    parser = quoted(event.parser)
    return (
        f'{{"line": {line}, "kind": "{event.kind}", "address": {address}, "user": {user}, "service": {service}, '
        f'"tls": {_WORD[event.tls]}, "session": {session}, "time": "{iso(event.at)}", "parser": {parser}}}'
    )


class _Lines:
    """Counts lines only as far as somebody asks: positions to line numbers, in file order."""

    def __init__(self) -> None:
        self.total = 0
        self._batch: Batch | None = None
        self._counted = 0

    def over(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches through, counting what :meth:`number` did not."""
        for batch in batches:
            self._batch, self._counted = batch, 0
            yield batch
            rest = batch.data.count(b"\n", self._counted)
            self.total += rest + (not batch.data.endswith(b"\n") and len(batch.data) > self._counted)
            self._batch = None

    def number(self, position: int) -> int:
        """Return the line number, from 1, of a position in the batch at hand."""
        if self._batch is None:
            raise ValueError("no batch is at hand")
        end = position - self._batch.position
        self.total += self._batch.data.count(b"\n", self._counted, end)
        self._counted = end
        return self.total + 1


def _events(
    matcher: Matcher, batches: Iterable[Batch], kind: str | None, found: Counter[tuple[str, Kind]]
) -> Iterator[LoginEvent]:
    wanted = Kind(kind) if kind else None
    for batch in batches:
        for event in matcher.feed(batch):
            if wanted is None or event.kind is wanted:
                found[event.parser, event.kind] += 1
                yield event


def _unmatched(matcher: Matcher, batches: Iterable[Batch]) -> Iterator[tuple[int, str]]:
    number = 0
    for batch in batches:
        position = batch.position
        for line in batch.data.removesuffix(b"\n").split(b"\n"):
            number += 1
            record = batch.layout.record(line, batch, position)
            position += len(line) + 1
            if record and (tried := matcher.trace(record)) and not any(attempt.matched for attempt in tried):
                yield number, line.decode("utf-8", "surrogateescape")


def _text(event: LoginEvent, line: int) -> str:
    service, tls = printable(event.service), _TLS[event.tls]
    who = f"{event.address or '-'} {printable(event.user)}"
    return f"{line} {iso(event.at)} {event.kind} {who} {service} {tls} {event.parser}"


def _write(lines: Iterable[str]) -> None:
    write = sys.stdout.write
    for line in lines:
        write(line + "\n")
    sys.stdout.flush()


def _with_progress(batches: Iterable[Batch], file: str) -> Iterator[Batch]:
    size = Path(file).stat().st_size if file != "-" and Path(file).is_file() else 0
    if size < _LONG or not sys.stderr.isatty():
        yield from batches
        return
    with click.progressbar(length=size, label=file, file=sys.stderr) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch.data))


def _summary(lines: int, found: Counter[tuple[str, Kind]], refused: Counter[str]) -> None:
    click.echo(f"{lines} lines", err=True)
    for (parser, kind), count in sorted(found.items()):
        click.echo(f"{count} {parser} {kind}", err=True)
    for reason, count in sorted((+refused).items()):
        click.echo(f"{count} {reason}" if reason in _NO_REFUSALS else f"{count} refused: {reason}", err=True)
