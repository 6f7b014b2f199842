"""The ways through the matcher: batches, records, counts. They all say the same."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import attrs
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp._match import Matcher
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp.api import LOGIN, LOGOUT, LoginEvent, LogParser, LogPattern

AT = 1_795_339_046.0
"""2026-11-22 09:17:26 UTC."""
POPD = LogParser(
    name="popd",
    patterns=[
        LogPattern(
            kind=LOGIN,
            program=rb"popd(?P<tls>-ssl)?",
            message=rb"login (?P<user>.*) from (?P<ip>\S*)(?: to (?P<lip>\S*))?(?: as (?P<session>\w+))?",
            contains=[b"login "],
            once=b" from ",
            fixed={"service": "pop3"},
        ),
        LogPattern(
            kind=LOGOUT,
            program=rb"popd(?:-ssl)?",
            message=rb"logout (?P<user>.*) as (?P<session>\w+)",
            contains=[b"logout "],
        ),
    ],
)
LINES = [
    b"2026-11-22T09:17:26Z mail popd: login ann from 203.0.113.7 as a1",
    b"2026-11-22T09:17:26Z mail popd-ssl: login b\xff from ::ffff:203.0.113.8 to 192.0.2.1",
    b"2026-11-22T09:17:27Z mail popd[9]: login from from 203.0.113.7 from 203.0.113.8",
    b"2026-11-22T09:17:28Z mail popd: login ann from 203.0.113.7 to 203.0.113.7",
    b"2026-11-22T09:17:28.5Z mail popd: logout ann as a1",
    b"2026-11-23T09:17:28Z mail popd: login later from 203.0.113.7",
    b"mail popd: login ann from 203.0.113.7",
    b"2026-11-22T09:17:28Z mail smtpd: login ann from 203.0.113.7",
    b"2026-11-22T09:17:28Z mail popd: login " + b"x" * 9000 + b" from 203.0.113.7",
    b"<22>1 - mail popd - - - login ann from 127.0.0.1",
    b"",
    b"login ",
]


def batches(lines: list[bytes], sizes: list[int], *, live: bool = True, limit: float = AT + 60) -> list[Batch]:
    """Cut lines into batches of these many lines, and one with the rest."""
    layout = Layout(zone=dt.UTC)
    made, position = [], 0
    for size in [*sizes, len(lines)]:
        part, lines = lines[:size], lines[size:]
        data = b"".join(line + b"\n" for line in part)
        made.append(
            Batch(source="log", data=data, position=position, received=AT + 60, limit=limit, live=live, layout=layout)
        )
        position += len(data)
    return made


def test_what_the_lines_say() -> None:
    matcher = Matcher([POPD], logouts=True)
    (batch,) = batches(LINES, [])
    found = list(matcher.feed(batch))
    assert found == [
        LoginEvent(
            kind=LOGIN,
            address="203.0.113.7",
            at=AT,
            received=AT + 60,
            user="ann",
            service="pop3",
            tls=False,
            session="a1",
            parser="popd",
            source="log",
            position=0,
        ),
        LoginEvent(
            kind=LOGIN,
            address="203.0.113.8",
            at=AT,
            received=AT + 60,
            user="b\udcff",
            service="pop3",
            tls=True,
            parser="popd",
            source="log",
            position=len(LINES[0]) + 1,
        ),
        LoginEvent(
            kind=LOGOUT,
            address=None,
            at=AT + 2.5,
            received=AT + 60,
            user="ann",
            session="a1",
            parser="popd",
            source="log",
            position=sum(len(line) + 1 for line in LINES[:4]),
        ),
        LoginEvent(
            kind=LOGIN,
            address="203.0.113.7",
            at=AT + 60,
            received=AT + 60,
            user="later",
            service="pop3",
            tls=False,
            parser="popd",
            source="log",
            position=sum(len(line) + 1 for line in LINES[:5]),
        ),
    ]
    assert matcher.counts == {"ambiguous": 1, "own_address": 1, "loopback": 1, "lines_cut": 1}
    for event in found:
        assert attrs.evolve(event) == event
        assert repr(event).startswith("LoginEvent(kind=")


def test_a_line_without_newline_is_a_line() -> None:
    batch = Batch(source="log", data=LINES[0], received=AT + 60, layout=Layout(zone=dt.UTC))
    assert len(list(Matcher([POPD]).feed(batch))) == 1
    assert Matcher([POPD]).tally([batch]) == {("popd", LOGIN): 1}


@given(
    lines=st.lists(st.sampled_from(LINES) | st.binary(max_size=30).map(lambda text: text.replace(b"\n", b" "))),
    sizes=st.lists(st.integers(0, 5), max_size=4),
    logouts=st.booleans(),
    live=st.booleans(),
)
def test_every_way_gives_the_same(lines: list[bytes], sizes: list[int], logouts: bool, live: bool) -> None:
    log = batches(lines, sizes, live=live)
    whole, fed, recorded, tallied = (Matcher([POPD], logouts=logouts) for _ in range(4))
    wanted = [event for batch in batches(lines, [], live=live) for event in whole.feed(batch)]
    assert [event for batch in log for event in fed.feed(batch)] == wanted
    assert [e for batch in log for record in recorded.records(batch) for e in recorded.events(record)] == wanted
    assert tallied.tally(log) == Counter((event.parser, event.kind) for event in wanted)
    assert whole.counts == fed.counts == recorded.counts == tallied.counts


def test_a_tally_keeps_apart_what_is_known_of_the_batches() -> None:
    """The same found line, once where its stamp is in the future of its file and once where it is not."""
    early, late = (batches(LINES[:1], [], live=False, limit=AT + limit)[0] for limit in (-3600, 3600))
    matcher = Matcher([POPD])
    assert matcher.tally([early, late, early]) == {("popd", LOGIN): 1}
    assert matcher.counts == {"future": 2}


def test_nothing_to_look_for_finds_nothing() -> None:
    assert not list(Matcher([]).feed(batches(LINES, [])[0]))
    assert not Matcher([]).tally([])
