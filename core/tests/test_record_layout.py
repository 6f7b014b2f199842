from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp.api import LogHeader, Record
from pop_before_smtp.errors import PluginError

AT = 1_795_339_046.0  # 2026-11-22T09:17:26Z
OWN = LogHeader(
    name="popd",
    line=rb"(?:(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}) )?(?P<program>popd)(?:\((?P<pid>[0-9]+)\))?: Info: (?P<message>.*)",
    program=b"popd",
)


def layout(**settings: object) -> Layout:
    return Layout([OWN], **{"zone": dt.UTC, **settings})  # type: ignore[arg-type]  # settings of a source


def record(line: bytes, by: Layout | None = None, *, live: bool = True) -> Record | None:
    by = by or layout()
    return by.record(line, Batch(source="s", data=line, received=AT + 9, limit=AT + 8, live=live, layout=by), 77)


HEADERS = {
    b"Nov 22 09:17:26 mail popd: hi": (AT, b"mail", b"popd", b"", b"hi"),
    b"Nov 22 09:17:26 mail popd[12]: hi": (AT, b"mail", b"popd", b"12", b"hi"),
    b"<22>Nov 22 09:17:26 mail popd[12]: hi": (AT, b"mail", b"popd", b"12", b"hi"),
    b"Nov 22 09:17:26.5 mail popd: hi": (AT + 0.5, b"mail", b"popd", b"", b"hi"),
    b"2026-11-22T09:17:26.250000+00:00 mail popd: hi": (AT + 0.25, b"mail", b"popd", b"", b"hi"),
    b"<22>2026-11-22T09:17:26Z mail popd: hi": (AT, b"mail", b"popd", b"", b"hi"),
    b"2026-11-22 09:17:26 mail postfix/smtpd[1]: a: b": (AT, b"mail", b"postfix/smtpd", b"1", b"a: b"),
    b"20261122T091726Z 2001:db8::1 popd: hi": (AT, b"2001:db8::1", b"popd", b"", b"hi"),
    b"Nov 22 09:17:26 mail popd:  hi": (AT, b"mail", b"popd", b"", b" hi"),
    b"Nov 22 09:17:26 mail popd: ": (AT, b"mail", b"popd", b"", b""),
    b"<22>1 2026-11-22T09:17:26+00:00 mail popd - - -  hi": (AT, b"mail", b"popd", b"", b"hi"),
    b"<22>1 2026-11-22T09:17:26+00:00 mail popd 12 ID7 - hi": (AT, b"mail", b"popd", b"12", b"hi"),
    b"<22>1 2026-11-22T09:17:26+00:00 - popd - - - hi": (AT, b"", b"popd", b"", b"hi"),
    b"<22>1 - mail popd - - - hi": (None, b"mail", b"popd", b"", b"hi"),
    b"<22>1 2026-11-22T09:17:26Z mail popd - - - \xef\xbb\xbfhi": (AT, b"mail", b"popd", b"", b"hi"),
    rb'<22>1 2026-11-22T09:17:26Z mail popd - - [a@1 x="]\"\\ - popd: no" y="2"][b] hi': (
        AT,
        b"mail",
        b"popd",
        b"",
        b"hi",
    ),
    b"@400000006b018c90000000000 popd: no": None,
    b"@400000006a015db000000000 popd[3]: hi": (float(0x6A015DB0 - 10), b"", b"popd", b"3", b"hi"),
    b"1795339046.5 mail popd[3]: hi": (AT + 0.5, b"mail", b"popd", b"3", b"hi"),
    b"Nov 22 09:17:26 mail popd: message repeated 3 times: [ hi [x]]": (AT, b"mail", b"popd", b"", b"hi [x]"),
    b"Nov 22 09:17:26 mail popd: message repeated 3 times: hi": (
        AT,
        b"mail",
        b"popd",
        b"",
        b"message repeated 3 times: hi",
    ),
    b"Nov 22 09:17:26 popd: Info: hi": None,
    b"Nov 22 09:17:26 mail: popd: hi": None,
    b"Nov 22 09:17:26 mail popd hi": None,
    b"Nov 22 09:17:26 mail two words: hi": None,
    b"Nov 22 09:17:26 mail popd[12: hi": None,
    b"Nov 22 09:17:26  popd: hi": None,
    b"Foo 22 09:17:26 mail popd: hi": (None, b"mail", b"popd", b"", b"hi"),
    b" Nov 22 09:17:26 mail popd: hi": None,
    b"x Nov 22 09:17:26 mail popd: hi": None,
    b"<22>2 2026-11-22T09:17:26Z mail popd - - - hi": None,
    b"<22>1 2026-11-22T09:17:26Z mail popd - - [unclosed hi": None,
    b"": None,
}


@pytest.mark.parametrize("line", HEADERS, ids=lambda line: line.decode("latin-1"))
def test_headers_are_told_apart(line: bytes) -> None:
    found = record(line)
    wanted = HEADERS[line]
    assert (found and (found.time, found.host, found.program, found.pid, found.message)) == wanted
    assert layout().stamp(line, AT) == (wanted and wanted[0])


def test_a_record_knows_where_it_is_from() -> None:
    found = record(b"Nov 22 09:17:26 mail popd: hi", live=False)
    assert found
    assert (found.source, found.position, found.received, found.limit, found.live) == ("s", 77, AT + 9, AT + 8, False)


lines = st.lists(
    st.builds(
        lambda head, text: head.rpartition(b":")[0] + b": " + text,
        st.sampled_from(sorted(HEADERS)),
        st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"")),
    )
    | st.builds(
        lambda minute, second, tail: b"2026-11-22T09:%02d:%s+00:00 %s" % (minute, second, tail),
        st.integers(0, 2),
        st.sampled_from([b"00", b"59.5", b"59.123456", b"5x", b"7 ", b"1e", b"0.1.2", b"-1", b"nan"]),
        st.sampled_from([b"mail popd: a", b"mail popd: b", b"mail popd[1]: a", b"m popd: a", b"mail message repeated"]),
    )
)


@given(lines=lines)
def test_many_lines_at_once_are_each_what_it_is_alone(lines: list[bytes]) -> None:
    by = layout(format="syslog")
    assert by.heads(lines, AT, live=True) == [layout(format="syslog").split(line, AT, live=True) for line in lines]


@given(line=st.binary(max_size=80))
def test_no_bytes_raise(line: bytes) -> None:
    for form in ("syslog", "popd", "auto"):
        record(line, layout(format=form))
        layout(format=form).stamp(line, AT)
        layout(format=form).sniff(line)


SYSLOG = b"Nov 22 09:17:26 mail popd: Info: hi\n"
FILE = b"Nov 22 09:17:26 popd(12): Info: hi\n"


def test_a_servers_own_file_is_known_by_its_first_lines() -> None:
    by = layout()
    by.sniff(FILE * 3)
    assert by.decided
    found = record(FILE.rstrip(), by)
    assert found
    assert (found.time, found.program, found.pid, found.message) == (AT, b"popd", b"12", b"hi")
    assert record(SYSLOG.rstrip(), by) is None


def test_a_syslog_file_stays_one() -> None:
    by = layout()
    by.sniff(SYSLOG)
    by.sniff(FILE * 10)
    assert record(SYSLOG.rstrip(), by)
    assert record(FILE.rstrip(), by) is None


@pytest.mark.parametrize(
    ("head", "syslog"),
    [
        (SYSLOG + FILE, True),
        (FILE + SYSLOG, True),
        (SYSLOG + FILE + FILE, False),
        (b"rest of a line\n" + SYSLOG, True),
        (b"rest of a line\n" + FILE, False),
        (b"popd: Info: no stamp\n", False),
    ],
)
def test_most_lines_decide_and_a_draw_is_syslog(head: bytes, syslog: bool) -> None:
    by = layout()
    by.sniff(head)
    assert by.decided
    assert (record(SYSLOG.rstrip(), by) is not None) == syslog


def test_lines_that_fit_nothing_decide_nothing() -> None:
    by = layout()
    for head in (b"", b"\n\n", b"what is this\nnobody knows\n", FILE.rstrip(b"\n")):
        by.sniff(head)
        assert not by.decided
    assert record(SYSLOG.rstrip(), by)
    by.sniff(FILE)
    assert record(FILE.rstrip(), by)


def test_the_source_can_say_what_it_is() -> None:
    own, syslog = layout(format="popd"), layout(format="syslog")
    own.sniff(SYSLOG * 9)
    syslog.sniff(FILE * 9)
    assert record(FILE.rstrip(), own)
    assert record(SYSLOG.rstrip(), own) is None
    assert record(SYSLOG.rstrip(), syslog)
    assert record(FILE.rstrip(), syslog) is None


def test_a_file_without_stamps_or_names() -> None:
    by = layout(format="popd")
    found = record(b"popd: Info: hi", by)
    assert found
    assert (found.time, found.program, found.message) == (None, b"popd", b"hi")


@pytest.mark.parametrize("line", [b"(?P<time>x", b"(x)(?P<message>.*)", rb"(?P<messages>.*)"])
def test_a_bad_header_names_itself(line: bytes) -> None:
    with pytest.raises(PluginError, match="header 'popd'"):
        Layout([LogHeader(name="popd", line=line)])
