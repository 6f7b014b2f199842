"""Labelled logs of real servers, held against a parser."""

# ruff: noqa: S101 - a test kit asserts

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pop_before_smtp._match import Matcher
from pop_before_smtp._plugins import installed, load
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp._sources.lines import Cutter
from pop_before_smtp.api import LOGIN, LOGOUT, LoginEvent, LogParser

_SUFFIX = ".expected.jsonl"
_READ = 1_800_000_000.0
"""When the logs are read, 2027-01-15: two months behind their stamps."""

Events = dict[int, list[LoginEvent]]
"""What was found, by line number from 1."""


class CorpusTests:
    """Subclass it, set ``parser`` and ``folder``: ``NAME.log`` beside ``NAME.expected.jsonl``, at any depth.

    A label is a JSON object: ``n`` (line number from 1), ``kind`` (``login`` or ``logout``), ``ip`` (canonical),
    ``service``, ``user`` (as the client sent it); ``hostile`` (else false), and ``extractable`` (else true) where
    nothing in the log tells the address. Lines without a label, or of the kind ``none``, mean nothing. Of a hostile
    line a parser may make nothing, but never another address.
    """

    parser: LogParser
    folder: Path
    forged: ClassVar[set[str]] = {"198.51.100.66", "2001:db8:bad::66"}
    """What clients wrote into their names, and no client had."""

    @staticmethod
    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        """Give each test each log, read with this parser alone and with all that are installed."""
        folder: Path = metafunc.cls.folder
        logs = sorted(folder.rglob(f"*{_SUFFIX}"))
        metafunc.parametrize("labels", logs, ids=[str(log.relative_to(folder)).removesuffix(_SUFFIX) for log in logs])
        metafunc.parametrize("parsers", [False, True], ids=["alone", "among all"], indirect=True)

    @pytest.fixture
    def parsers(self, request: pytest.FixtureRequest) -> list[LogParser]:
        """Give this parser, or all."""
        every = load(list(installed()))[0].parsers if request.param else [self.parser]
        assert self.parser.name in {parser.name for parser in every}
        return list(every)

    @staticmethod
    def found(labels: Path, parsers: list[LogParser], *cuts: float) -> Events:
        """Return what the parsers find in the log of some labels, by line; ``cuts`` are parts at which reads end."""
        data = _log(labels)
        matcher, layout = (
            Matcher(parsers, logouts=True),
            Layout([each for parser in parsers for each in parser.headers]),
        )
        cutter, edges = Cutter(), [0, *(int(cut * len(data)) for cut in cuts), len(data)]
        events: Events = defaultdict(list)
        for position, lines in [*(cutter.feed(data[slice(*edge)]) for edge in pairwise(edges)), cutter.finish()]:
            batch = Batch(
                source="corpus", data=lines, position=position, received=_READ, limit=_READ, live=False, layout=layout
            )
            for event in matcher.feed(batch):
                events[data.count(b"\n", 0, event.position) + 1].append(event)
        return events

    def test_logins_are_found(self, labels: Path, parsers: list[LogParser]) -> None:
        """Each with its address, service and user; a server may fold the case or drop a master user's part."""
        events = self.found(labels, parsers)
        logins = [label for label in _read(labels) if label["kind"] == "login" and label["extractable"]]
        for label in logins:
            found = events[label["n"]]
            if label["hostile"] and not found:
                continue
            said = [(event.kind, event.address, event.service) for event in found]
            assert said == [(LOGIN, label["ip"], label["service"])], label
            assert (found[0].user or "").lower() == label["user"].lower().partition("*")[0]
            assert found[0].parser == self.parser.name

    def test_logouts_find_their_logins(self, labels: Path, parsers: list[LogParser]) -> None:
        """By the session, by the address too where the line has it."""
        events = self.found(labels, parsers)
        every = [event for found in events.values() for event in found]
        addresses = {(event.session, event.address) for event in every if event.kind is LOGIN}
        for label in _read(labels):
            if label["kind"] != "logout" or label["hostile"]:
                continue
            (event,) = events[label["n"]]
            assert event.kind is LOGOUT
            assert event.address in {label["ip"], None}
            if label["extractable"]:
                assert (event.session, label["ip"]) in addresses, label

    def test_nothing_else_is_found(self, labels: Path, parsers: list[LogParser]) -> None:
        """No failure, no time-out and no forgery is an event."""
        events = self.found(labels, parsers)
        told = {label["n"]: label for label in _read(labels) if label["kind"] != "none"}
        for number, found in events.items():
            assert number in told, found
            assert {event.address for event in found} <= {told[number]["ip"], None}, told[number]
        assert not {event.address for found in events.values() for event in found} & self.forged

    def test_no_boundary_between_two_reads_matters(self, labels: Path, parsers: list[LogParser]) -> None:
        """The same log, read in pieces of about any size."""
        whole = self.found(labels, parsers)
        assert whole
        for part in range(1, 10):
            assert self.found(labels, parsers, part / 10) == whole
        assert self.found(labels, parsers, *(part / 199 for part in range(1, 199))) == whole


def _log(labels: Path) -> bytes:
    return labels.with_name(labels.name.removesuffix(_SUFFIX) + ".log").read_bytes()


def _read(labels: Path) -> list[dict[str, Any]]:
    known = {"hostile": False, "extractable": True}
    return [known | json.loads(line) for line in labels.read_text().splitlines()]
