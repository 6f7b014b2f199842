"""How lines are taken apart: the headers that syslog daemons, loggers and servers themselves write."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp.api import LogHeader, Record
from pop_before_smtp.errors import PluginError

AT = 1_795_339_046.0
"""2026-11-22 09:17:26 UTC."""
MESSAGE = b"Login user=ann host=[203.0.113.7]"
OWN = LogHeader(
    name="popd",
    line=rb"(?:(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]+) )?(?P<message>popd\([a-z]+\): .*)",
    program=b"popd",
)
FULL = LogHeader(
    name="full",
    line=rb"(?P<time>[0-9-]+T[0-9:]+Z)\|(?P<host>[a-z]+)\|(?P<program>[a-z]+)\|(?P<pid>[0-9]*)\|(?P<message>.*)",
)


def layout(*headers: LogHeader, format: str = "auto") -> Layout:  # noqa: A002 - the key in [[source]]
    return Layout(headers, format=format, zone=dt.UTC)


def record(line: bytes, how: Layout | None = None, *, live: bool = True) -> Record | None:
    how = how or layout()
    return how.record(line, Batch(source="log", data=line, received=AT + 5, live=live, layout=how), 0)


@pytest.mark.parametrize(
    ("header", "host", "program", "pid"),
    [
        (b"Nov 22 09:17:26 mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"Nov 22 09:17:26 mail imapd: ", b"mail", b"imapd", b""),
        (b"Nov 22 09:17:26 mail imapd[]: ", b"mail", b"imapd", b""),
        (b"<22>Nov 22 09:17:26 mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"Nov 22 09:17:26.000000 mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"Nov 22 09:17:26 mail.example.org cyrus/imaps[77]: ", b"mail.example.org", b"cyrus/imaps", b"77"),
        (b"Nov 22 09:17:26 192.0.2.1 imapd[77]: ", b"192.0.2.1", b"imapd", b"77"),
        (b"Nov 22 09:17:26 2001:db8::1 imapd[77]: ", b"2001:db8::1", b"imapd", b"77"),
        (b"Nov 22 09:17:26 mail:514 imapd[77]: ", b"mail:514", b"imapd", b"77"),
        (b"Nov 22 09:17:26 s_net@relay/mail imapd[77]: ", b"s_net@relay/mail", b"imapd", b"77"),
        (b"2026-11-22T09:17:26+00:00 mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"2026-11-22T09:17:26.000000+00:00 mail imapd: ", b"mail", b"imapd", b""),
        (b"<22>2026-11-22T14:47:26+05:30 mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"2026-11-22 09:17:26 mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"20261122T091726Z mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"<22>1 2026-11-22T09:17:26Z mail imapd 77 - - ", b"mail", b"imapd", b"77"),
        (b"<22>1 2026-11-22T09:17:26Z mail imapd 77 - -  ", b"mail", b"imapd", b"77"),
        (b"<22>1 2026-11-22T09:17:26Z mail imapd - ID47 - ", b"mail", b"imapd", b""),
        (b"<22>1 2026-11-22T09:17:26Z - imapd 77 - - ", b"", b"imapd", b"77"),
        (b"<22>1 2026-11-22T09:17:26Z mail imapd 77 - - \xef\xbb\xbf", b"mail", b"imapd", b"77"),
        (b'<22>1 2026-11-22T09:17:26Z mail imapd 77 - [x@1 a="b c"] ', b"mail", b"imapd", b"77"),
        (
            b'<22>1 2026-11-22T09:17:26Z mail imapd 77 - [x@1 a="\\] \\" \\\\" b="]["][y@2][z c=""] ',
            b"mail",
            b"imapd",
            b"77",
        ),
        (b"@400000006b02b3301dcd6500 mail imapd[77]: ", b"mail", b"imapd", b"77"),
        (b"1795339046 imapd[77]: ", b"", b"imapd", b"77"),
    ],
)
def test_headers(header: bytes, host: bytes, program: bytes, pid: bytes) -> None:
    found = record(header + MESSAGE)
    assert found
    assert (found.host, found.program, found.pid, found.message) == (host, program, pid, MESSAGE)
    assert found.time == pytest.approx(AT, abs=0.6)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"imapd[77]: " + MESSAGE,
        b"mail imapd[77]: " + MESSAGE,
        b" Nov 22 09:17:26 mail imapd[77]: " + MESSAGE,
        b"Nov 22 09:17:26 imapd[77]: " + MESSAGE,
        b"Nov 22 09:17:26 imapd: " + MESSAGE,
        b"Nov 22 09:17:26 mail imapd[77] " + MESSAGE,
        b"Nov 22 09:17:26 mail imapd[77]:" + MESSAGE,
        b"Nov 22 09:17:26 mail imapd[77: " + MESSAGE,
        b"Nov 22 09:17:26 mail : " + MESSAGE,
        b"Nov 22 09:17:26 mail postfix/smtpd[1]: helo imapd[77]: " + MESSAGE,
        b"Nov 22 09:17:26 mail (root) imapd[77]: " + MESSAGE,
        b"<22>2 2026-11-22T09:17:26Z mail imapd 77 - - " + MESSAGE,
        b"<22>1 2026-11-22T09:17:26Z mail imapd 77 - " + MESSAGE,
        b'<22>1 2026-11-22T09:17:26Z mail imapd 77 - [x a="b] ' + MESSAGE,
        b"<2222>Nov 22 09:17:26 mail imapd[77]: " + MESSAGE,
    ],
)
def test_what_is_no_header_lets_no_tag_through(line: bytes) -> None:
    found = record(line)
    assert not found or found.program != b"imapd"


@pytest.mark.parametrize("header", [b"<22>1 - mail imapd 77 - - ", b"Nov 31 09:17:26 mail imapd[77]: "])
def test_a_line_is_not_lost_for_want_of_a_stamp(header: bytes) -> None:
    found = record(header + MESSAGE)
    assert found
    assert (found.time, found.program, found.message) == (None, b"imapd", MESSAGE)


@pytest.mark.parametrize("blank", [b" ", b""])
@pytest.mark.parametrize(
    "header",
    [b"Nov 22 09:17:26 mail imapd[77]: ", b"<22>1 2026-11-22T09:17:26Z mail imapd 77 - - ", b"1795339046 imapd: "],
)
def test_a_repetition_is_the_message_itself(header: bytes, blank: bytes) -> None:
    """rsyslog writes a blank behind the bracket, others do not; the text inside belongs to the same program."""
    found = record(header + b"message repeated 3 times: [" + blank + MESSAGE + b"]")
    assert found
    assert (found.program, found.message, found.time) == (b"imapd", MESSAGE, AT)


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        (b"Login failed user=message repeated 2 times: [ " + MESSAGE + b"]", None),
        (b" message repeated 2 times: [ " + MESSAGE + b"]", None),
        (b"message repeated 2 times: [ " + MESSAGE + b"] ", None),
        (b"message repeated  2 times: [ " + MESSAGE + b"]", None),
        (b"message repeated two times: [ " + MESSAGE + b"]", None),
        (b"last message repeated 2 times", None),
        (b"message repeated 2 times: [ imapd[77]: " + MESSAGE + b"]", b"imapd[77]: " + MESSAGE),
        (
            b"message repeated 2 times: [ message repeated 2 times: [ " + MESSAGE + b"]]",
            b"message repeated 2 times: [ " + MESSAGE + b"]",
        ),
        (
            b"message repeated 2 times: [ Login failed user=x] " + MESSAGE + b" host=[203.0.113.8]]",
            b"Login failed user=x] " + MESSAGE + b" host=[203.0.113.8]",
        ),
    ],
)
def test_no_text_of_a_client_becomes_the_message(message: bytes, meant: bytes | None) -> None:
    """Only what the syslog daemon wrote around all of a message is taken off it, and once."""
    found = record(b"Nov 22 09:17:26 mail imapd[77]: " + message)
    assert found
    assert (found.program, found.message) == (b"imapd", meant or message)


def test_a_repetition_without_a_program_is_nobodys() -> None:
    """So sysklogd and rsyslog's older way have it; it does not say what was repeated."""
    assert record(b"Nov 22 09:17:26 mail last message repeated 2 times") is None


def test_one_header_after_the_other() -> None:
    """Lines of the same second, another host, another tag, a tag of which the last one is the beginning."""
    lines = [
        b"2026-11-22T09:17:26.000001+00:00 mail imapd: a",
        b"2026-11-22T09:17:26.5+00:00 mail imapd: b",
        b"2026-11-22T09:17:27.000002+00:00 mail imapd: c",
        b"2026-11-22T09:17:27.000002+01:00 mail imapd: d",
        b"2026-11-22T09:17:27.000002+00:00 mail2 imapd: e",
        b"2026-11-22T09:17:27.000002+00:00 mail imapd-ssl: f",
        b"2026-11-22T09:17:27.000002+00:00 mail imapd[7]: g",
        b"2026-11-22T09:17:27.000002+00:00 mail imapd: imapd: h",
        b"2026-11-22T09:17:xx.000002+00:00 mail imapd: i",
    ]
    one = layout()
    together = one.heads(lines, AT, live=True)
    assert together == [layout().heads([line], AT, live=True)[0] for line in lines]
    assert [head and head[4] for head in together] == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"imapd: h", None]


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 59.0, 3600.0, 86400.0]), st.sampled_from([b"a", b"a[1]", b"ab"]))))
def test_lines_taken_apart_together_are_those_taken_apart_alone(steps: list[tuple[float, bytes]]) -> None:
    lines, at = [], AT
    for step, tag in steps:
        at += step
        lines.append(dt.datetime.fromtimestamp(at, dt.UTC).strftime("%b %e %H:%M:%S mail ").encode() + tag + b": x")
    assert layout().heads(lines, AT, live=True) == [layout().heads([line], AT, live=True)[0] for line in lines]


# -- files without syslog headers


def test_a_servers_own_file_is_known_by_its_first_lines() -> None:
    how = layout(OWN)
    assert record(b"Nov 22 09:17:26 popd(ann): hello", how) is None  # nothing is decided yet
    how.sniff(b"Nov 22 09:17:26 popd(ann): hello\nNov 22 09:17:26 popd(ann): bye\n")
    assert how.decided
    found = record(b"Nov 22 09:17:26 popd(ann): login", how)
    assert found
    assert (found.time, found.program, found.host, found.message) == (AT, b"popd", b"", b"popd(ann): login")
    assert record(b"Nov 22 09:17:26 mail popd[1]: popd(ann): login", how) is None


def test_its_lines_may_say_more_or_have_no_time() -> None:
    how = layout(OWN, FULL)
    how.sniff(b"2026-11-22T09:17:26Z|mail|popd|7|x\n")
    found = record(b"2026-11-22T09:17:26Z|mail|popd|7|login", how)
    assert found
    assert (found.time, found.host, found.program, found.pid, found.message) == (AT, b"mail", b"popd", b"7", b"login")
    how = layout(OWN, FULL)
    how.sniff(b"popd(ann): hello\n")
    found = record(b"popd(ann): login", how)
    assert found
    assert (found.time, found.message) == (None, b"popd(ann): login")


def test_a_syslog_file_stays_one() -> None:
    how = layout(OWN)
    how.sniff(b"Nov 22 09:17:25 mail imapd[1]: hello\nNov 22 09:17:26 popd(ann): hello\n")
    assert how.decided
    assert record(b"Nov 22 09:17:26 popd(ann): login", how) is None
    how.sniff(b"Nov 22 09:17:26 popd(ann): hello\n" * 9)
    assert record(b"Nov 22 09:17:26 popd(ann): login", how) is None
    assert record(b"Nov 22 09:17:26 mail imapd[1]: " + MESSAGE, how)


def test_a_carriage_return_of_a_client_does_not_begin_a_line() -> None:
    """Else one line with many of them would outvote the file that it stands in."""
    line = b"Nov 22 09:17:26 mail imapd[7]: Login failed user=x" + b"\rpopd(x): login" * 9 + b" host=[203.0.113.5]\n"
    known = layout(OWN)
    known.sniff(line)
    head = known.split(line.rstrip(b"\n"), AT, live=False)
    assert head
    assert head[2] == b"imapd"


def test_undecided_until_something_fits() -> None:
    how = layout(OWN)
    for head in (b"", b"popd(ann): half a line", b"-- started --\n\n\xff\x00\n"):
        how.sniff(head)
        assert not how.decided
    how.sniff(b"-- started --\npopd(ann): hello\n")
    assert how.decided
    assert record(b"popd(ann): login", how)


def test_the_format_of_a_source_is_not_guessed() -> None:
    own = b"Nov 22 09:17:26 popd(ann): login"
    syslog = b"Nov 22 09:17:26 mail popd[1]: login"
    for name, fits, other in (("syslog", syslog, own), ("popd", own, syslog)):
        how = layout(OWN, format=name)
        how.sniff((other + b"\n") * 9)
        assert record(fits, how)
        assert record(other, how) is None


@pytest.mark.parametrize("line", [rb"(?P<user>x).*", rb"(x)(?P<message>.*)", rb"(?P<message>.*"])
def test_a_header_that_does_not_fit_the_contract(line: bytes) -> None:
    with pytest.raises(PluginError, match="header 'bad'"):
        Layout([LogHeader(name="bad", line=line)])


@given(st.binary(), st.booleans(), st.floats(0, 2**32))
def test_no_bytes_make_it_raise(head: bytes, live: bool, near: float) -> None:
    line = head.partition(b"\n")[0]
    for how in (layout(OWN, FULL), layout(OWN, format="popd")):
        how.sniff(head)
        how.split(line, near, live=live)
        how.stamp(line, near)


@given(
    st.sampled_from(
        [b"Nov 22 09:17:26 ", b"<22>1 2026-11-22T09:17:26Z ", b"2026-11-22T09:17:26 ", b"@400000006b02b330"]
    ),
    st.lists(
        st.sampled_from([b"mail", b" ", b"imapd", b"[", b"]", b":", b"1", b"-", b'"', b"=", b"\\", b"\xff", b"\x00"])
    ),
)
def test_broken_headers_do_not_make_it_raise(stamp: bytes, pieces: list[bytes]) -> None:
    layout(OWN).split(stamp + b"".join(pieces), AT, live=False)
