"""Patterns as plugins write them, checked and compiled to RE2 over bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Any

import re2  # type: ignore[import-untyped]  # google-re2 ships no types
from attrs import frozen

from .api import CONNECT, LOGIN, LOGOUT, PART, Kind, LogParser, LogPattern
from .errors import PluginError

Spans = Sequence[tuple[int, int]]
"""Start and end of the whole match and of each group; (-1, -1) for one that took no part."""

_FIELDS = frozenset({"ip", "lip", "user", "session", "service", "tls"})
"""The groups that the patterns of a log line may define."""
_SAID_BY_PROGRAM = frozenset({"user", "session", "service", "tls"})
"""Those that the program's pattern may define too, or that may be fixed."""
_COMPARED = 16
"""Bytes at the beginning of a text that tell most of those that cannot match."""
_ANY = 65536
"""As many bytes of the highest value are behind every message."""
_SHORTEST = 6
"""Bytes in a literal: shorter ones are found too often to be worth a scan."""


def options() -> Any:
    """Return what all patterns are compiled with: bytes in, bytes out, a dot that matches any byte."""
    made = re2.Options()
    made.encoding = re2.Options.Encoding.LATIN1
    made.dot_nl = True
    made.log_errors = False
    return made


class Grammar:
    """One RE2 pattern that texts match as a whole, with named groups only.

    Args:
        what: what the pattern is of, for the error.
        pattern: RE2 over bytes.
        allowed: the group names it may use.

    Raises:
        PluginError: it is no RE2 pattern, or has a group that is not allowed.
    """

    def __init__(self, what: str, pattern: bytes, allowed: AbstractSet[str]) -> None:
        try:
            compiled = re2.compile(pattern, options())
        except re2.error as error:
            reason = error.args[0] if error.args else b"?"
            text = reason.decode("latin-1") if isinstance(reason, bytes) else str(reason)
            raise PluginError(f"{what}: {pattern!r} is no RE2 pattern: {text}") from error
        self.groups: Mapping[str, int] = {name.decode("latin-1"): at for name, at in compiled.groupindex.items()}
        if compiled.groups != len(self.groups):
            raise PluginError(f"{what}: {pattern!r} has an unnamed group; write (?:...)")
        if strange := sorted(self.groups.keys() - allowed):
            raise PluginError(f"{what}: {pattern!r} has a group {strange[0]!r}; known are {', '.join(sorted(allowed))}")
        self.match: Callable[[bytes], Any] = compiled.fullmatch
        try:
            self.low, self.high = compiled.possiblematchrange(_COMPARED)
        except re2.error:  # anything may match
            self.low, self.high = b"", b"\xff" * _ANY

    def spans(self, text: bytes) -> Spans | None:
        """Return where the groups are, None if the text does not match as a whole."""
        match = self.match(text)
        return spans_of(match) if match else None


def _public_spans(match: Any) -> Spans:
    return [match.span(group) for group in range(match.re.groups + 1)]


# The public span() asks C++ for the number of groups on each call, 0.5 us a group where a whole match takes 4.
spans_of: Callable[[Any], Spans] = attrgetter("_spans")
if not hasattr(re2.compile(b"").fullmatch(b""), "_spans"):  # pragma: no cover - no release so far
    spans_of = _public_spans


@frozen(kw_only=True, eq=False)
class Rule:
    """A pattern of some parser, compiled, for the lines of one program: where in their messages to find what.

    A group's index is 0 where the message has no such group; then what the program or the pattern says stands.
    """

    parser: str
    kind: Kind
    low: bytes
    high: bytes
    """No message before or behind these, in the order of bytes, can match."""
    match: Callable[[bytes], Any]
    """The grammar's own."""
    grammar: Grammar
    """Without the group ``lip``: RE2's fastest engine fills four groups, and this one is hardly ever asked for."""
    full: Grammar | None
    """With it, where there is one."""
    once: bytes | None
    spelling: Callable[[bytes], bytes] | None
    ip: int
    user: int
    session: int
    service: int
    tls: int
    fixed_user: str | None
    fixed_session: str | None
    fixed_service: str | None
    fixed_tls: bool | None
    two_lines: bool
    """The parser has CONNECT lines: a LOGIN takes up what one left, a FAILURE or LOGOUT drops it."""
    by_pid: bool
    """The parser's logouts name no session: the pid does."""
    in_parts: bool
    """The parser has PART lines: the line behind one is no event."""


class Pattern:
    """A parser's pattern, compiled.

    Raises:
        PluginError: it does not fit the contract; names the parser and the pattern.
    """

    def __init__(self, parser: LogParser, number: int, pattern: LogPattern) -> None:
        what = f"parser {parser.name!r}: patterns[{number}]"
        self._parser = parser
        self._pattern = pattern
        self._program = Grammar(f"{what}.program", pattern.program, _SAID_BY_PROGRAM)
        self._full = Grammar(f"{what}.message", pattern.message, _FIELDS)
        self._message = Grammar(f"{what}.message", pattern.message.replace(b"(?P<lip>", b"(?:"), _FIELDS)
        self._two_lines = any(each.kind is CONNECT for each in parser.patterns)
        logouts = [each.program + each.message for each in parser.patterns if each.kind is LOGOUT]
        self._in_parts = any(each.kind is PART for each in parser.patterns)
        self._by_pid = bool(logouts) and not any(b"(?P<session>" in each for each in logouts)
        for problem in self._problems():
            raise PluginError(f"{what}: {problem}")

    @property
    def serves_logins(self) -> bool:
        """Whether logins need it: all lines of a server do that spreads a login over two, or breaks long ones."""
        return self._pattern.kind is LOGIN or self._two_lines or self._in_parts

    @property
    def contains(self) -> tuple[bytes, ...]:
        """The literals, one of which is in each line."""
        return self._pattern.contains

    def _problems(self) -> Iterator[str]:
        """Yield what speaks against the pattern beside its grammar."""
        pattern, groups = self._pattern, self._message.groups.keys()
        for name in sorted((self._program.groups.keys() & groups) | (pattern.fixed.keys() & groups)):
            yield f"{name!r} is defined twice, by the message and by the program or fixed"
        for name in sorted(pattern.fixed.keys() - _SAID_BY_PROGRAM):
            yield f"fixed has the key {name!r}; known are {', '.join(sorted(_SAID_BY_PROGRAM))}"
        for name, value in pattern.fixed.items():
            if not isinstance(value, bool if name == "tls" else str):
                yield f"fixed[{name!r}] is {value!r}; it must be {'True or False' if name == 'tls' else 'a str'}"
        if not pattern.contains or any(len(literal) < _SHORTEST for literal in pattern.contains):
            yield f"contains needs literals of {_SHORTEST} bytes or more"
        if "ip" not in groups and (pattern.kind is CONNECT or (pattern.kind is LOGIN and not self._two_lines)):
            yield f"a {pattern.kind} needs the group 'ip'"

    def rule(self, program: bytes) -> Rule | None:
        """Return the rule for the lines of one program, None if the pattern is not about it."""
        spans = self._program.spans(program)
        if not spans:
            return None
        pattern, groups = self._pattern, self._message.groups
        said: dict[str, Any] = dict(pattern.fixed)
        for name, at in self._program.groups.items():
            start, end = spans[at]
            said[name] = start >= 0 if name == "tls" else program[start:end].decode("latin-1") or None
        fields: dict[str, Any] = {name: groups.get(name, 0) for name in _FIELDS - {"lip"}}
        fields |= {f"fixed_{name}": said.get(name) for name in _SAID_BY_PROGRAM}
        return Rule(
            parser=self._parser.name,
            kind=pattern.kind,
            low=self._message.low,
            high=self._message.high,
            match=self._message.match,
            grammar=self._message,
            full=self._full if "lip" in self._full.groups else None,
            once=pattern.once,
            spelling=pattern.address,
            **fields,
            two_lines=self._two_lines,
            by_pid=self._by_pid,
            in_parts=self._in_parts,
        )
