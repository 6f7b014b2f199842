"""From log lines to login events: whose line it is, what it says, and whether that can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat

from attrs import evolve, frozen

from ._address import Addresses
from ._memory import CONNECT_SECONDS, Key, Memory
from ._pattern import Grammar, Pattern, Rule, Spans, spans_of
from ._record import Batch, Head, Records
from ._scan import Lines, scanner
from ._trust import Trust
from .api import CONNECT, FAILURE, LOGIN, LOGOUT, PART, Kind, LoginEvent, LogParser, Record

_LONGEST = 8192
"""Bytes of a line that are looked at."""
_SKEW = 300.0
"""Seconds by which the stamp of a found line may be later than anything in its file can be."""
_MANY = 128
"""Lines that are taken together where it does not matter when they are done."""
_PROGRAMS = 4096
"""Programs whose rules are remembered."""
_SESSION_SECONDS = 7 * 86400.0
"""How long a login waits for its logout where a pid names the session: pids come round again."""


_Hit = tuple[Rule, Spans, bytes, float, str | None, str | None, tuple[int, int]]
"""Which rule took a message and how, time, address, session if it had to be known, place."""


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


class _Rules(dict[bytes, list[Rule]]):
    """The rules for the lines of each program, by its name."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        super().__init__()
        self._patterns = patterns

    def __missing__(self, program: bytes) -> list[Rule]:
        """Ask the patterns and remember what they say."""
        if len(self) >= _PROGRAMS:
            self.clear()
        rules = self[program] = [rule for pattern in self._patterns if (rule := pattern.rule(program))]
        return rules


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
        self._rules = _Rules(self._patterns)
        self._addresses = Addresses()
        self._connects = Memory(CONNECT_SECONDS, self.counts, "connects_forgotten")
        self._sessions = Memory(_SESSION_SECONDS, self.counts, "sessions_forgotten")
        self._parts = Memory(float("inf"), self.counts, "parts_forgotten")

    def feed(self, batch: Batch | Records) -> Iterator[LoginEvent]:
        """Yield the events of a batch in file order."""
        if isinstance(batch, Records):
            for record in batch.records:
                yield from self.events(self._cut(record), batch.trust)
            return
        for hit in self._hits(self._heads(batch), batch, batch.layout.trust):
            yield _event(hit, batch)

    def tally(self, batches: Iterable[Batch]) -> Counter[tuple[str, Kind]]:
        """Count the events of many batches by parser and kind: quicker than to make them, and than batch by batch."""
        hits: Counter[Rule] = Counter()
        for origin, lines in self._gathered(batches):
            heads = origin.layout.heads(lines, origin.near, live=origin.live)
            found = self._hits(zip(heads, repeat((0, 0))), origin, origin.layout.trust)
            hits.update(hit[0] for hit in found)
        tally: Counter[tuple[str, Kind]] = Counter()
        for rule, times in hits.items():
            tally[rule.parser, rule.kind] += times
        return tally

    def _gathered(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[bytes]]]:
        """Yield the lines that hold a literal, as many together as pay for the way from one step to the next."""
        lines: list[bytes] = []
        last: Batch | None = None
        for batch in batches:
            if last and (len(lines) >= _MANY or not batch.goes_on(last)):
                yield last, lines
                lines = []
            lines += self._lines(batch)[1]
            last = batch
        if last:
            yield last, lines

    def records(self, batch: Batch) -> Iterator[Record]:
        """Yield the records that may hold an event; all the others do not."""
        for (start, _), line in zip(*self._lines(batch), strict=True):
            if record := batch.layout.record(line, batch, batch.position + start):
                yield record

    def events(self, record: Record, trust: Trust | None = None) -> Iterator[LoginEvent]:
        """Yield the events of one record. Feeding a batch gives the events of its records, one after the other.

        Args:
            record: what the log says.
            trust: what of its source is believed; all if None.
        """
        head = record.time, record.host, record.program, record.pid, record.message
        for hit in self._hits([(head, (0, 0))], record, trust or Trust()):
            yield _event(hit, record)

    def trace(self, record: Record) -> Sequence[Attempt]:
        """Return every pattern of the record's program, and what it made of it."""
        return [self._attempt(rule, record) for rule in self._rules[record.program]]

    def connects(self) -> list[tuple[str, bytes, bytes, str, float, str]]:
        """Return what the last lines left open: source, host, program, pid or session, time, address.

        That are the addresses that wait for their logins, and without an address the processes whose last line was
        broken.
        """
        return self._connects.dump() + self._parts.dump()

    def restore(self, connects: Iterable[tuple[str, bytes, bytes, str, float, str]]) -> None:
        """Remember what :meth:`connects` gave."""
        for each in connects:
            (self._connects if each[5] else self._parts).load([each])

    def _lines(self, batch: Batch) -> tuple[Lines, list[bytes]]:
        """Return where the lines are that hold a literal, and the lines, cut to what is looked at."""
        data = batch.data
        if not batch.layout.decided:
            batch.layout.sniff(data)
        spots = self._scan(data)
        lines = [data[start:end] for start, end in spots]
        if max(map(len, lines), default=0) > _LONGEST:
            self.counts["lines_cut"] += sum(len(line) > _LONGEST for line in lines)
            # no message holds the newline, so what is cut matches no pattern that wants to see its end
            lines = [line if len(line) <= _LONGEST else line[:_LONGEST] + b"\n" for line in lines]
        return spots, lines

    def _cut(self, record: Record) -> Record:
        """Return a record of which no more is left than of a line."""
        if len(record.message) <= _LONGEST:
            return record
        self.counts["lines_cut"] += 1
        return evolve(record, message=record.message[:_LONGEST] + b"\n")

    def _attempt(self, rule: Rule, record: Record) -> Attempt:
        spans = rule.grammar.spans(record.message)
        refusal = self._from(rule, spans, record.message)[1] if spans else ""
        if spans and not refusal:
            refusal = _when(record.time, record.limit, record.received, live=record.live)[1]
        full = rule.full or rule.grammar
        every = full.spans(record.message) or ()
        groups = {name: every[at] for name, at in full.groups.items() if every and every[at][0] >= 0}
        return Attempt(parser=rule.parser, kind=rule.kind, matched=bool(spans), spans=groups, refusal=refusal)

    def _heads(self, batch: Batch) -> Iterable[tuple[Head | None, tuple[int, int]]]:
        """Return the lines that hold a literal, taken apart, and where they are in the batch."""
        spots, lines = self._lines(batch)
        # Line by line in each step, not step by step for each line: code and data stay in the processor's caches.
        return zip(batch.layout.heads(lines, batch.near, live=batch.live), spots, strict=True)

    def _hits(
        self, heads: Iterable[tuple[Head | None, tuple[int, int]]], origin: Batch | Record, trust: Trust
    ) -> Iterator[_Hit]:
        """Yield the lines that are believed. They come as heads, for a record each would cost a fifth of the time."""
        all_rules, judge, latest = self._rules, self._from, origin.limit
        strict, trusted = trust.strict, origin.trusted
        for head, spot in heads:
            if not head:
                continue
            time, host, program, pid, message = head
            for rule in all_rules[program]:
                if rule.low <= message <= rule.high and (match := rule.match(message)):
                    break
            else:
                continue
            if ((strict or host != trust.familiar) and self._doubted(trust.refusal(rule.parser, host, trusted))) or (
                rule.in_parts and self._is_part(rule, (origin.source, host, program, _decoded(pid)))
            ):
                continue
            spans = spans_of(match)
            address, refusal = judge(rule, spans, message)
            if time is None or time > latest:
                time, late = _when(time, latest, origin.received, live=origin.live)
                refusal = refusal or late
            if refusal:
                self.counts[refusal] += 1
                continue
            session = None
            if rule.by_pid or rule.two_lines or rule.kind is FAILURE:
                session = _session(rule, spans, message) or _decoded(pid)
                real, address = self._follow(rule, (origin.source, host, program, session), time, address)
                if not real:
                    continue
            yield rule, spans, message, time, address, session, spot

    def _doubted(self, reason: str) -> bool:
        """Count why a source's record is not believed; return whether there is a reason."""
        if reason:
            self.counts[reason] += 1
        return bool(reason)

    def _is_part(self, rule: Rule, key: Key) -> bool:
        """Return whether a line is one that the server broke, or the rest of one."""
        rest = self._parts.take(key, 0.0) is not None
        if rule.kind is PART:
            self._parts.put(key, 0.0, "")
        elif rest:
            self.counts["rest"] += 1
        return rest or rule.kind is PART

    def _from(self, rule: Rule, spans: Spans, message: bytes) -> tuple[str | None, str]:
        """Return the address that a line names and why the line is refused, or an empty text."""
        if rule.once and message.count(rule.once) > 1:
            return None, "ambiguous"
        if not rule.ip:
            return None, ""
        start, end = spans[rule.ip]
        text = message[start:end]
        if rule.full and message.count(text) > 1 and self._is_own(rule.full, message, text):
            return None, "own_address"
        return self._addresses[rule.spelling(text) if rule.spelling else text]

    def _is_own(self, grammar: Grammar, message: bytes, text: bytes) -> bool:
        """Return whether the server's own address, as the line has it, is the client's."""
        spans = grammar.spans(message)
        start, end = spans[grammar.groups["lip"]] if spans else (0, 0)
        return bool(text) and self._addresses[message[start:end]] == self._addresses[text]

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


def _event(hit: _Hit, origin: Batch | Record) -> LoginEvent:
    """Make what its ``__init__`` makes, in half the time."""
    rule, spans, message, time, address, session, (start, _) = hit
    event = object.__new__(LoginEvent)
    event.__dict__.update(
        kind=rule.kind,
        address=address,
        at=time,
        received=origin.received,
        user=(_text(message, spans[rule.user]) if rule.user else rule.fixed_user) or None,
        service=(_text(message, spans[rule.service]) if rule.service else rule.fixed_service) or None,
        tls=spans[rule.tls][0] >= 0 if rule.tls else rule.fixed_tls,
        session=session or _session(rule, spans, message) or None,
        parser=rule.parser,
        source=origin.source,
        position=origin.position + start,
    )
    return event


def _session(rule: Rule, spans: Spans, message: bytes) -> str | None:
    return _text(message, spans[rule.session]) if rule.session else rule.fixed_session


def _text(message: bytes, span: tuple[int, int]) -> str:
    start, end = span
    return _decoded(message[start:end])


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _when(time: float | None, latest: float, received: float, *, live: bool) -> tuple[float, str]:
    """Return when it happened if the stamp cannot be taken as it is, and why the line is refused, or an empty text."""
    if time is None:
        return min(received, latest), "" if live else "no_stamp"
    return min(time, latest), "future" if not live and time > latest + _SKEW else ""
