"""What the matcher makes of single lines, whatever stands in them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pop_before_smtp._match import Matcher
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp.api import CONNECT, FAILURE, LOGIN, LOGOUT, LogHeader, LoginEvent, LogParser, LogPattern

AT = 1_795_339_046.0
"""2026-11-22 09:17:26 UTC."""
STAMP = b"2026-11-22T09:17:26Z mail "
IP = rb"(?P<ip>[0-9A-Za-z.:%]*)"
WEB = LogParser(
    name="web",
    patterns=[
        LogPattern(
            kind=LOGIN,
            program=rb"web(?P<service>imap|pop3)(?P<tls>-tls)?",
            message=rb"login (?P<user>.*) from " + IP + rb"(?: at (?P<lip>[0-9.:a-f]*))?(?: session=(?P<session>\S+))?",
            contains=[b"login "],
            once=b" from ",
        ),
        LogPattern(
            kind=LOGIN,
            program=rb"webspelt",
            message=rb"login (?P<user>.*)@" + IP,
            contains=[b"login "],
            address=lambda text: text.replace(b"_", b":"),
        ),
        LogPattern(
            kind=LOGOUT, program=rb"web.*", message=rb"logout session=(?P<session>\S+)", contains=[b"logout session"]
        ),
    ],
    headers=[LogHeader(name="web", line=rb"(?P<message>log(?:in|out) .*)", program=b"webimap")],
)
TWO = LogParser(
    name="two",
    patterns=[
        LogPattern(kind=CONNECT, program=rb"two", message=rb"from " + IP, contains=[b"two[7]: from "]),
        LogPattern(kind=LOGIN, program=rb"two", message=rb"passed (?P<user>.*)", contains=[b": passed "]),
        LogPattern(kind=FAILURE, program=rb"two", message=rb"failed.*", contains=[b": failed"]),
        LogPattern(kind=LOGOUT, program=rb"two", message=rb"bye bye", contains=[b"bye bye"]),
    ],
)


def batch(data: bytes, *, received: float = AT + 5, limit: float | None = None, live: bool = True) -> Batch:
    return Batch(
        source="log",
        data=data,
        position=1000,
        received=received,
        limit=received if limit is None else limit,
        live=live,
        layout=Layout(WEB.headers, zone=dt.UTC),
    )


def one(line: bytes, **how: float) -> tuple[LoginEvent | None, dict[str, int]]:
    """Return the event of a line and what was counted."""
    matcher = Matcher([WEB], logouts=True)
    found = list(matcher.feed(batch(line + b"\n", **how)))  # type: ignore[arg-type]  # live is a bool
    assert len(found) < 2
    return (found[0] if found else None), dict(matcher.counts)


def test_all_that_a_line_says() -> None:
    (event,) = Matcher([WEB]).feed(batch(b"x\n" + STAMP + b"webpop3-tls[7]: login ann from 203.0.113.7 session=s1\n"))
    assert event == LoginEvent(
        kind=LOGIN,
        address="203.0.113.7",
        at=AT,
        received=AT + 5,
        user="ann",
        service="pop3",
        tls=True,
        session="s1",
        parser="web",
        source="log",
        position=1002,
    )


def test_what_a_line_does_not_say() -> None:
    event, _ = one(STAMP + b"webimap: login  from 203.0.113.7")
    assert event
    assert (event.user, event.tls, event.session, event.service) == (None, False, None, "imap")


def test_logouts_are_for_those_who_ask() -> None:
    data = STAMP + b"webimap: logout session=s1\n"
    assert [event.session for event in Matcher([WEB], logouts=True).feed(batch(data))] == ["s1"]
    assert list(Matcher([WEB]).feed(batch(data))) == []


def test_the_first_parser_that_takes_a_line_has_it() -> None:
    other = LogParser(name="other", patterns=WEB.patterns)
    for parsers in ([WEB, other], [other, WEB]):
        (event,) = Matcher(parsers).feed(batch(STAMP + b"webimap: login ann from 203.0.113.7\n"))
        assert event.parser == parsers[0].name


@pytest.mark.parametrize(
    ("message", "address", "counted"),
    [
        (b"login a from 203.0.113.7", "203.0.113.7", {}),
        (b"login a from 2001:DB8:0::7", "2001:db8::7", {}),
        (b"login a from ::ffff:203.0.113.7", "203.0.113.7", {}),
        (b"login a from 203.0.113.7 from 203.0.113.8", None, {"ambiguous": 1}),
        (b"login a from 203.0.113", None, {"bad_address": 1}),
        (b"login a from fe80::1%eth0", None, {"bad_address": 1}),
        (b"login a from ", None, {"bad_address": 1}),
        (b"login a from 127.1.2.3", None, {"loopback": 1}),
        (b"login a from ::ffff:127.0.0.1", None, {"loopback": 1}),
        (b"login a from ::", None, {"unspecified": 1}),
        (b"login a from 203.0.113.7 at 203.0.113.7", None, {"own_address": 1}),
        (b"login a from 203.0.113.7 at ::ffff:203.0.113.7", None, {"own_address": 1}),
        (b"login 203.0.113.7 from 203.0.113.7 at 192.0.2.1", "203.0.113.7", {}),
        (b"login a from 203.0.113.7 at 192.0.2.1", "203.0.113.7", {}),
        (b"login a from 203.0.113.7 trailing", None, {}),
        (b"x login a from 203.0.113.7", None, {}),
        (b"LOGIN a from 203.0.113.7", None, {}),
    ],
)
def test_which_address_counts(message: bytes, address: str | None, counted: dict[str, int]) -> None:
    event, counts = one(STAMP + b"webimap: " + message)
    assert (event and event.address) == address
    assert counts == counted


def test_a_spelling_of_its_own() -> None:
    event, _ = one(STAMP + b"webspelt: login a@2001:db8::7")
    assert event
    assert event.address == "2001:db8::7"


def test_names_are_bytes_until_the_end() -> None:
    for user in (b"a\x00b", b"\xff\xfe", "ünï".encode(), b"a\rb", b"\x1b[31m"):
        event, _ = one(STAMP + b"webimap: login " + user + b" from 203.0.113.7")
        assert event
        assert event.user
        assert event.user.encode("utf-8", "surrogateescape") == user
        assert event.address == "203.0.113.7"


@pytest.mark.parametrize("size", [8192, 8193, 20_000, 200_000])
def test_long_lines_are_cut_and_counted(size: int) -> None:
    """What is cut has lost its end and fits no grammar; the next line is read as ever."""
    end = b" from 203.0.113.7"
    line = STAMP + b"webimap: login "
    line += b"u" * (size - len(line) - len(end)) + end
    matcher = Matcher([WEB])
    found = list(matcher.feed(batch(line + b"\n" + STAMP + b"webimap: login ann from 203.0.113.8\n")))
    assert [event.address for event in found] == (["203.0.113.7"] if size <= 8192 else []) + ["203.0.113.8"]
    assert matcher.counts["lines_cut"] == (size > 8192)


def test_a_cut_may_not_make_an_address() -> None:
    """The end of the line would have made it another one, or none."""
    line = STAMP + b"webimap: login "
    line += b"u" * (8192 - len(line) - len(b" from 203.0.113.1")) + b" from 203.0.113.123 elsewhere"
    matcher = Matcher([WEB])
    assert list(matcher.feed(batch(line + b"\n"))) == []


# -- time


@pytest.mark.parametrize(
    ("stamp", "live", "at", "counted"),
    [
        (b"2026-11-22T09:17:26Z ", True, AT, {}),
        (b"2026-11-22T09:17:26Z ", False, AT, {}),
        (b"2026-11-21T09:17:26Z ", True, AT - 86400, {}),
        (b"1970-01-01T00:00:00Z ", False, 0.0, {}),
        (b"2026-11-22T09:17:36Z ", True, AT + 5, {}),
        (b"2026-11-22T09:17:36Z ", False, AT + 5, {}),
        (b"2026-11-22T09:22:31Z ", False, AT + 5, {}),
        (b"2026-11-22T09:22:32Z ", False, None, {"future": 1}),
        (b"2027-11-22T09:17:26Z ", True, AT + 5, {}),
        (b"2027-11-22T09:17:26Z ", False, None, {"future": 1}),
        (b"Nov 22 09:17:26 ", False, AT, {}),
        (b"Dec 30 09:17:26 ", False, None, {"future": 1}),
        (b"Jun  1 09:17:26 ", False, 1780305446.0, {}),
        (b"Nov 31 09:17:26 ", True, AT + 5, {}),
        (b"Nov 31 09:17:26 ", False, None, {"no_stamp": 1}),
    ],
)
def test_when_it_happened(stamp: bytes, live: bool, at: float | None, counted: dict[str, int]) -> None:
    event, counts = one(stamp + b"mail webimap: login ann from 203.0.113.7", live=live)
    assert (event and event.at) == at
    assert counts == counted


def test_nothing_found_is_later_than_its_file() -> None:
    data = b"2026-11-22T09:17:26Z mail webimap: login ann from 203.0.113.7\n"
    for limit in (AT - 300, AT - 1, AT, AT + 1):
        (event,) = Matcher([WEB]).feed(batch(data, received=AT + 86400, limit=limit, live=False))
        assert event.at == min(AT, limit)
    assert not list(Matcher([WEB]).feed(batch(data, received=AT + 86400, limit=AT - 301, live=False)))


def test_a_files_own_lines_without_time_count_while_we_watch() -> None:
    event, _ = one(b"login ann from 203.0.113.7")
    assert event
    assert event.at == AT + 5
    assert one(b"login ann from 203.0.113.7", live=False) == (None, {"no_stamp": 1})


# -- one way to the same result

PIECES = st.sampled_from(
    [
        b"\n",
        STAMP,
        b"Nov 22 09:17:26 mail ",
        b"<22>1 2026-11-22T09:17:26Z mail webimap 7 - - ",
        b"webimap: ",
        b"webpop3-tls[7]: ",
        b"webspelt: ",
        b"two[7]: ",
        b"two[8]: ",
        b"login ann",
        b" from 203.0.113.7",
        b" from 203.0.113.8",
        b"from 203.0.113.9",
        b" at 203.0.113.7",
        b"@2001_db8__7",
        b"logout session=1",
        b"passed ann",
        b"failed",
        b"bye bye",
        b"message repeated 2 times: [ ",
        b"]",
        b"\x00",
        b"\xff",
        b" ",
    ]
)
LINES = st.lists(
    st.lists(PIECES | st.binary(max_size=3), max_size=6).map(b"".join)
    | st.builds(
        lambda tag, message: STAMP + tag + message,
        st.sampled_from([b"webimap: ", b"webpop3[7]: ", b"two[7]: "]),
        st.sampled_from(
            [
                b"login a from 203.0.113.7",
                b"logout session=1",
                b"from 203.0.113.9",
                b"passed x",
                b"failed x",
                b"bye bye",
            ]
        ),
    ),
    max_size=30,
).map(b"\n".join)


@settings(deadline=None)
@given(LINES, st.booleans(), st.booleans())
def test_a_batch_gives_what_its_records_give(data: bytes, live: bool, logouts: bool) -> None:
    whole, by_record = Matcher([WEB, TWO], logouts=logouts), Matcher([WEB, TWO], logouts=logouts)
    fed = list(whole.feed(batch(data, live=live)))
    assert fed == [event for record in by_record.records(batch(data, live=live)) for event in by_record.events(record)]
    assert whole.counts == by_record.counts
    assert whole.connects() == by_record.connects()


@settings(deadline=None)
@given(LINES, st.data())
def test_where_a_read_ends_makes_no_difference(data: bytes, drawn: st.DataObject) -> None:
    lines = data.splitlines(keepends=True)
    cut = len(b"".join(lines[: drawn.draw(st.integers(0, len(lines)))]))
    whole = list(Matcher([WEB, TWO], logouts=True).feed(batch(data)))
    pieces, layout, found = Matcher([WEB, TWO], logouts=True), batch(b"").layout, []
    layout.sniff(data)
    for position, piece in ((1000, data[:cut]), (1000 + cut, data[cut:])):
        part = batch(piece)
        part.position, part.layout = position, layout
        found += pieces.feed(part)
    assert found == whole


@settings(deadline=None)
@given(st.binary(max_size=2000) | LINES, st.booleans())
def test_no_bytes_make_it_raise(data: bytes, live: bool) -> None:
    matcher = Matcher([WEB, TWO], logouts=True)
    for event in matcher.feed(batch(data, live=live)):
        assert event.address is None or event.address in {"203.0.113.7", "203.0.113.8", "203.0.113.9", "2001:db8::7"}
        assert 1000 <= event.position <= 1000 + len(data)
    for record in matcher.records(batch(data, live=live)):
        list(matcher.events(record))
        matcher.trace(record)


def test_bytes_without_any_parser() -> None:
    assert list(Matcher([]).feed(batch(b"\xff\n\x00"))) == []


# -- explain


def test_a_trace_says_what_each_pattern_made_of_the_line() -> None:
    matcher = Matcher([WEB], logouts=True)
    line = STAMP + b"webimap: login ann from 203.0.113.7 at 203.0.113.7 session=s1"
    (record,) = matcher.records(batch(line + b"\n"))
    login, logout = matcher.trace(record)
    assert (login.parser, login.kind, login.matched, login.refusal) == ("web", LOGIN, True, "own_address")
    assert {name: record.message[slice(*span)] for name, span in login.spans.items()} == {
        "user": b"ann",
        "ip": b"203.0.113.7",
        "lip": b"203.0.113.7",
        "session": b"s1",
    }
    assert (logout.kind, logout.matched, logout.spans, logout.refusal) == (LOGOUT, False, {}, "")
    assert matcher.counts == {}
