"""The contract of a parser, as tests."""

# ruff: noqa: S101, PLR2004 - a test kit asserts plain values

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import hypothesis
import pytest
from attrs import evolve, frozen
from hypothesis import strategies as st

from pop_before_smtp._match import Matcher
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp._sources.lines import Cutter
from pop_before_smtp.api import LOGIN, Kind, LoginEvent, LogParser

STAMP = 1_795_339_046.0
"""2026-11-22 09:17:26 UTC, when all samples happen."""
FORGED = "198.51.100.66"
"""The address that every hostile text names; no sample may use it."""

_LONG = 8 * 1024

HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "rfc3164": lambda tag: b"Nov 22 09:17:26 mail " + tag + b": ",
    "rfc3164 with priority": lambda tag: b"<22>Nov 22 09:17:26 mail " + tag + b": ",
    "iso8601": lambda tag: b"2026-11-22T09:17:26.000000+00:00 mail " + tag + b": ",
    "iso8601 in another zone": lambda tag: b"2026-11-22T14:47:26+05:30 mail " + tag + b": ",
    "rfc5424": lambda tag: (
        b"<22>1 2026-11-22T09:17:26+00:00 mail %s %s - -  "
        % (tag.partition(b"[")[0], tag.partition(b"[")[2].rstrip(b"]") or b"-")
    ),
}
"""How the usual syslog daemons begin a line, up to the message."""

HOSTILE = (
    b"",
    b" ",
    b"a b",
    b'"x"',
    b"x\x00y",
    b"\x1b[31mx",
    b"\xff\xfe",
    b"\xc3\xbc" * 40,
    b"A" * 300,
    b"%s%n",
    b";$(id)`id`",
    b"198.51.100.66",
    b"[198.51.100.66]",
    b" host=[198.51.100.66]",
    b" host=mx.example [198.51.100.66] nmsgs=1/1",
    b", ip=[198.51.100.66], port=[1]",
    b", rip=198.51.100.66, lip=192.0.2.1, mpid=1",
    b">, method=PLAIN, rip=198.51.100.66, lip=192.0.2.1, mpid=1, session=<x>",
    b"x>, rip=198.51.100.66, lip=192.0.2.1, x=<",
    b" from 198.51.100.66",
    b":198.51.100.66",
    b"Nov 22 09:17:26 mail dovecot: imap-login: Login: user=<x>, method=PLAIN, rip=198.51.100.66, lip=192.0.2.1",
    b"<22>1 2026-11-22T09:17:26Z mail dovecot - - - imap-login: Login: user=<x>, rip=198.51.100.66, lip=192.0.2.1",
    b"message repeated 2 times: [ imap-login: Login: user=<x>, rip=198.51.100.66, lip=192.0.2.1]",
    b"#012Nov 22 09:17:26 mail imapd[1]: Login user=a host=[198.51.100.66]",
)
"""What clients have sent in place of a name."""


@frozen(kw_only=True)
class Sample:
    """One line of a real server, and what it means.

    A sample without ``kind`` means nothing: a failure, a time-out, another program's line.
    """

    program: bytes
    message: bytes
    pid: bytes = b""
    kind: Kind | None = None
    address: str | None = None
    """Canonical; it must stand in the message, in any spelling, exactly once."""
    user: str | None = None
    service: str | None = None
    tls: bool | None = None
    session: str | None = None
    words: tuple[bytes, ...] = ()
    """Parts of the message that a client chose: its user name, its host's name, its client ID."""

    def line(self, header: Callable[[bytes], bytes] = HEADERS["iso8601"], message: bytes | None = None) -> bytes:
        """Return the whole line, with its newline."""
        tag = self.program + (b"[" + self.pid + b"]" if self.pid else b"")
        return header(tag) + (self.message if message is None else message) + b"\n"


class ParserTests:
    """Subclass it, set ``parser`` and ``samples``; every pattern needs a sample."""

    parser: LogParser
    samples: Sequence[Sample]
    files: Mapping[str, Callable[[Sample], bytes]] = MappingProxyType({})
    """Where the parser has headers: each style of the server's own log file, and what it writes for a sample."""

    @pytest.fixture(autouse=True)
    def utc(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Have stamps without a zone mean UTC."""
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        yield
        monkeypatch.undo()
        time.tzset()

    def events(self, text: bytes, *, cut: int | None = None) -> list[LoginEvent]:
        """Return what the parser finds in a log; with ``cut`` it is read in two pieces."""
        matcher, layout, cutter = Matcher([self.parser], logouts=True), Layout(self.parser.headers), Cutter()
        found: list[LoginEvent] = []
        pieces = [text] if cut is None else [text[:cut], text[cut:]]
        for position, lines in [*(cutter.feed(piece) for piece in pieces), cutter.finish()]:
            if lines:
                batch = Batch(
                    source="log", data=lines, position=position, received=STAMP + 5, limit=STAMP + 5, layout=layout
                )
                found += matcher.feed(batch)
        return found

    def logins(self) -> list[Sample]:
        """Return the samples that are logins."""
        return [sample for sample in self.samples if sample.kind is LOGIN]

    @pytest.mark.parametrize("header", HEADERS)
    def test_samples_mean_what_they_say_in_every_header(self, header: str) -> None:
        """Each sample alone; a logout, which may need its login, behind all the logins."""
        before = b"".join(sample.line(HEADERS[header]) for sample in self.logins())
        known = len(self.events(before))
        for sample in self.samples:
            lead = b"" if sample.kind in {LOGIN, None} else before
            found = self.events(lead + sample.line(HEADERS[header]))[known if lead else 0 :]
            wanted = [self._wanted(sample)] if sample.kind else []
            assert [self._said(event) for event in found] == wanted, sample
            assert all(event.at == STAMP for event in found)

    def test_its_own_file_says_the_same(self) -> None:
        """A whole file of each style, known by its first lines; the logins first."""
        assert bool(self.files) == bool(self.parser.headers), "give a style in `files` for each of the headers"
        samples = sorted(self.samples, key=lambda sample: sample.kind is not LOGIN)
        wanted = [self._wanted(sample) for sample in samples if sample.kind]
        for style, write in self.files.items():
            found = self.events(b"".join(write(sample) + b"\n" for sample in samples))
            assert [self._said(event) for event in found] == wanted, style
            assert all(STAMP <= event.at <= STAMP + 5 for event in found)

    def test_no_boundary_between_two_reads_matters(self) -> None:
        """The same log, read in two pieces that meet at any byte."""
        text = b"".join(sample.line() for sample in self.samples)[:4096]
        whole = [self._said(event) for event in self.events(text)]
        assert whole
        for cut in range(len(text)):
            assert [self._said(event) for event in self.events(text, cut=cut)] == whole

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("192.0.2.200", "192.0.2.200"),
            ("2001:DB8::C8", "2001:db8::c8"),
            ("2001:0db8:0:0:0:0:0:c8", "2001:db8::c8"),
            ("::ffff:192.0.2.200", "192.0.2.200"),
            ("127.0.0.1", None),
            ("::1", None),
            ("0.0.0.0", None),  # noqa: S104 - an address like any other
            ("::", None),
            ("192.0.2", None),
            ("192.0.2.0/24", None),
            ("192.0.2.999", None),
            ("192.0.2.010", None),
            ("2001:db8", None),
            ("fe80::1%eth0", None),
            ("", None),
        ],
    )
    def test_addresses_are_canonical_or_refused(self, written: str, meant: str | None) -> None:
        """Every login sample, with another address in the place of its own."""
        if any(pattern.address for pattern in self.parser.patterns):
            pytest.skip("the server has a spelling of its own")
        for sample in self.logins():
            start, end = self._span(sample)
            message = sample.message[:start] + written.encode() + sample.message[end:]
            found = {event.address for event in self.events(sample.line(message=message))}
            assert found == ({meant} if meant else set()), message

    def test_what_a_client_writes_is_never_taken_for_his_address(self) -> None:
        """Every word of a client in every sample, replaced by every hostile text: the address stays or goes."""
        for sample in self.samples:
            for word in sample.words or ((sample.user or "").encode(),):
                for text in HOSTILE if word else ():
                    for hostile in (text, word + text, text + word):
                        message = sample.message.replace(word, hostile)
                        found = {event.address for event in self.events(sample.line(message=message)) if event.address}
                        assert found <= {sample.address}, message

    @hypothesis.settings(max_examples=50, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(data=st.data())
    def test_what_clients_may_think_of_next(self, data: st.DataObject) -> None:
        """Random text, made of what the samples and the hostile texts are made of."""
        sample = data.draw(st.sampled_from([sample for sample in self.samples if sample.words or sample.user]))
        pieces = st.sampled_from([*re.findall(rb"\w+|\W", sample.message), *HOSTILE, FORGED.encode()])
        text = b"".join(data.draw(st.lists(pieces | st.binary(max_size=4), max_size=40))).replace(b"\n", b" ")
        word = data.draw(st.sampled_from(sample.words or ((sample.user or "").encode(),)))
        message = sample.message.replace(word, text)
        found = {event.address for event in self.events(sample.line(message=message)) if event.address}
        assert found <= {sample.address}

    def test_other_programs_lines_mean_nothing(self) -> None:
        """A whole line of the server inside another program's message."""
        for sample in self.samples:
            for header in HEADERS.values():
                line = sample.line(header)
                assert not self.events(header(b"smtpd[7]") + line)
                assert not self.events(header(b"smtpd[7]") + b"helo=<" + line)

    def test_messages_are_matched_whole(self) -> None:
        """Text before or behind a login changes no address."""
        for sample in self.logins():
            for message in (b"x " + sample.message, sample.message + b" x", sample.message + b" [198.51.100.66]"):
                found = {event.address for event in self.events(sample.line(message=message))}
                assert found <= {sample.address}, message

    def test_literals_are_there_and_every_pattern_has_a_sample(self) -> None:
        """``contains`` holds for each sample, and no pattern is there for nothing."""
        for pattern in self.parser.patterns:
            alone = Matcher([evolve(self.parser, patterns=(pattern,))], logouts=True)
            taken = [sample.line() for sample in self.samples if self._takes(alone, sample)]
            assert taken, f"no sample for {pattern.message!r}"
            assert all(len(literal) >= 6 for literal in pattern.contains)
            assert all(any(literal in line for literal in pattern.contains) for line in taken)

    def test_long_lines_cost_what_they_are_long(self) -> None:
        """Eight kilobytes of what the grammar repeats, against two: RE2 is linear, and so must be the rest."""
        for sample in self.samples:
            for piece in (sample.message, sample.message[:20], b" ", b"user=", b"host=[", b", rip=", b"<>"):
                short, long = (
                    sample.line(message=sample.message + piece * (length // len(piece)) + sample.message)
                    for length in (_LONG // 4, _LONG)
                )
                for line in (short, long):
                    assert {event.address for event in self.events(line)} <= {sample.address, None}
                slow = self._seconds(long)
                assert slow < 0.005 or slow < 12 * self._seconds(short), piece

    # -- helpers

    def _seconds(self, line: bytes) -> float:
        matcher, layout = Matcher([self.parser], logouts=True), Layout()
        batch = Batch(source="log", data=line, received=STAMP, layout=layout)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            list(matcher.feed(batch))
            best = min(best, time.perf_counter() - start)
        return best

    @staticmethod
    def _takes(matcher: Matcher, sample: Sample) -> bool:
        layout, line = Layout(), sample.line()
        record = layout.record(line.rstrip(b"\n"), Batch(source="", data=line, received=STAMP, layout=layout), 0)
        return record is not None and any(attempt.matched for attempt in matcher.trace(record))

    def _span(self, sample: Sample) -> tuple[int, int]:
        layout = Layout()
        line = sample.line()
        record = layout.record(line.rstrip(b"\n"), Batch(source="", data=line, received=STAMP, layout=layout), 0)
        assert record
        attempts = Matcher([self.parser]).trace(record)
        span = next(attempt.spans["ip"] for attempt in attempts if attempt.matched)
        written = sample.message[slice(*span)].decode()
        parsed = ipaddress.ip_address(written)
        folded = getattr(parsed, "ipv4_mapped", None) or parsed
        assert str(folded) == sample.address
        return span

    @staticmethod
    def _said(event: LoginEvent) -> tuple[object, ...]:
        return event.kind, event.address, event.user, event.service, event.tls, event.session

    @staticmethod
    def _wanted(sample: Sample) -> tuple[object, ...]:
        return sample.kind, sample.address, sample.user, sample.service, sample.tls, sample.session
