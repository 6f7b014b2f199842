"""From log lines to login events: whose line it is, what it says, and whether that can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from ._address import Addresses
from ._memory import Key, Memory
from ._pattern import Pattern, Rule, Spans
from ._record import Batch, Head
from ._scan import scanner
from .api import CONNECT, LOGIN, LOGOUT, Kind, LoginEvent, LogParser, Record

_LONGEST = 8192
"""Bytes of a line that are looked at."""
_SKEW = 300.0
"""Seconds by which the stamp of a found line may be later than anything in its file can be."""
_PROGRAMS = 4096
"""Programs whose rules are remembered."""
_CONNECT_SECONDS = 600.0
"""How long an address waits for its login; servers hang up earlier."""
_SESSION_SECONDS = 7 * 86400.0
"""How long a login waits for its logout where a pid names the session: pids come round again."""


@frozen(kw_only=True)
class Attempt:
    """One pattern tried on a record, for ``explain``."""

    parser: str
    kind: Kind
    matched: bool
    spans: Mapping[str, tuple[int, int]]
    """Where in the message each group was found."""
    refusal: str
    """Why the line is not believed although it matched; else empty."""


class Matcher:
    """Finds what the parsers know in the lines of any source.

    A line belongs to the first pattern that takes it, in the order of the parsers and of their patterns. No byte
    sequence makes a method raise.

    Args:
        parsers: whose lines to find.
        logouts: yield LOGOUT events too.

    Raises:
        PluginError: a pattern does not fit the contract; names parser and pattern.
    """

    def __init__(self, parsers: Sequence[LogParser], *, logouts: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        """``lines_cut``, what was forgotten for want of room, and refused lines by reason."""
        self._logouts = logouts
        self._patterns = [Pattern(parser, n, each) for parser in parsers for n, each in enumerate(parser.patterns)]
        self._patterns = [pattern for pattern in self._patterns if logouts or pattern.serves_logins]
        self._scan = scanner({literal for pattern in self._patterns for literal in pattern.contains})
        self._rules: dict[bytes, list[Rule]] = {}
        self._addresses = Addresses()
        self._connects = Memory(_CONNECT_SECONDS, self.counts, "connects_forgotten")
        self._sessions = Memory(_SESSION_SECONDS, self.counts, "sessions_forgotten")

    def feed(self, batch: Batch) -> Iterator[LoginEvent]:
        """Yield the events of a batch in file order."""
        for line, start in self._lines(batch):
            head = batch.layout.split(line, batch.near, live=batch.live)
            if head and (event := self._event(head, batch, batch.position + start)):
                yield event

    def records(self, batch: Batch) -> Iterator[Record]:
        """Yield the records that may hold an event; all the others do not."""
        for line, start in self._lines(batch):
            if record := batch.layout.record(line, batch, batch.position + start):
                yield record

    def events(self, record: Record) -> Iterator[LoginEvent]:
        """Yield the events of one record. Feeding a batch gives the events of its records, one after the other."""
        head = record.time, record.host, record.program, record.pid, record.message
        if event := self._event(head, record, record.position):
            yield event

    def trace(self, record: Record) -> Sequence[Attempt]:
        """Return every pattern of the record's program, and what it made of it."""
        return [self._attempt(rule, record) for rule in self._rules_of(record.program)]

    def connects(self) -> list[tuple[str, bytes, bytes, bytes, float, str]]:
        """Return the addresses that wait for their logins: source, host, program, pid or session, time, address."""
        return self._connects.dump()

    def restore(self, connects: Iterable[tuple[str, bytes, bytes, bytes, float, str]]) -> None:
        """Remember what :meth:`connects` gave."""
        self._connects.load(connects)

    def _lines(self, batch: Batch) -> Iterator[tuple[bytes, int]]:
        """Yield the lines that hold a literal, cut to what is looked at, with their offsets."""
        data = batch.data
        if not batch.layout.decided:
            batch.layout.sniff(data)
        for start, end in self._scan(data):
            if end - start > _LONGEST:
                self.counts["lines_cut"] += 1
                end = start + _LONGEST  # noqa: PLW2901 - the rest is not looked at
            yield data[start:end], start

    def _rules_of(self, program: bytes) -> list[Rule]:
        rules = self._rules.get(program)
        if rules is None:
            if len(self._rules) >= _PROGRAMS:
                self._rules.clear()
            rules = [rule for pattern in self._patterns if (rule := pattern.rule(program))]
            self._rules[program] = rules
        return rules

    def _attempt(self, rule: Rule, record: Record) -> Attempt:
        spans = rule.grammar.spans(record.message)
        groups = {name: spans[at] for name, at in rule.grammar.groups.items() if spans[at][0] >= 0} if spans else {}
        refusal = self._judge(rule, spans, record.time, record.message, record)[2] if spans else ""
        return Attempt(parser=rule.parser, kind=rule.kind, matched=bool(spans), spans=groups, refusal=refusal)

    def _event(self, head: Head, origin: Batch | Record, position: int) -> LoginEvent | None:
        """Return what a line says, None if nothing. It comes as a head, for a record each would cost a fifth more."""
        time, host, program, pid, message = head
        for rule in self._rules_of(program):
            spans = rule.grammar.spans(message)
            if spans:
                break
        else:
            return None
        at, address, refusal = self._judge(rule, spans, time, message, origin)
        if refusal:
            self.counts[refusal] += 1
            return None
        start, end = spans[rule.session]
        session = message[start:end].decode("utf-8", "surrogateescape") if rule.session else rule.fixed_session
        if rule.by_pid or rule.two_lines:
            key = origin.source, host, program, message[start:end] if rule.session else pid
            session = session or pid.decode("latin-1")
            real, address = self._follow(rule, key, at, address)
            if not real:
                return None
        start, end = spans[rule.user]
        user = message[start:end].decode("utf-8", "surrogateescape") if rule.user else rule.fixed_user
        start, end = spans[rule.service]
        service = message[start:end].decode("latin-1") if rule.service else rule.fixed_service
        return LoginEvent(
            kind=rule.kind,
            address=address,
            at=at,
            received=origin.received,
            user=user or None,
            service=service or None,
            tls=spans[rule.tls][0] >= 0 if rule.tls else rule.fixed_tls,
            session=session or None,
            parser=rule.parser,
            source=origin.source,
            position=position,
        )

    def _judge(
        self, rule: Rule, spans: Spans, time: float | None, message: bytes, origin: Batch | Record
    ) -> tuple[float, str | None, str]:
        """Return when it happened and from which address, and why the line is refused, or an empty text."""
        latest = min(origin.limit, origin.received)
        if time is None:
            if not origin.live:
                return 0.0, None, "no_stamp"
            time = latest
        elif time > latest:
            if not origin.live and time > latest + _SKEW:
                return 0.0, None, "future"
            time = latest
        if rule.once and message.count(rule.once) > 1:
            return time, None, "ambiguous"
        start, end = spans[rule.ip]
        if not rule.ip:
            return time, None, ""
        text = message[start:end]
        address, refusal = self._addresses.read(rule.spelling(text) if rule.spelling else text)
        if rule.lip and address:
            start, end = spans[rule.lip]
            if self._addresses.read(message[start:end])[0] == address:
                return time, None, "own_address"
        return time, address, refusal

    def _follow(self, rule: Rule, key: Key, at: float, address: str | None) -> tuple[bool, str | None]:
        """Remember or recall what a server spreads over several lines; return whether this is an event, and where from.

        The last part of the key is empty where the line has neither pid nor session: it is nobody's then.
        """
        if rule.kind is CONNECT:
            if address and key[3]:
                self._connects.put(key, at, address)
            return False, None
        known = self._connects.take(key, at) if rule.two_lines else None
        if rule.kind is LOGIN:
            address = address or known
            if not address:
                self.counts["no_connect"] += 1
            elif self._logouts and rule.by_pid and key[3]:
                self._sessions.put(key, at, address)
            return bool(address), address
        if rule.kind is LOGOUT and self._logouts:
            return not rule.by_pid or self._sessions.take(key, at) is not None, address
        return False, None
