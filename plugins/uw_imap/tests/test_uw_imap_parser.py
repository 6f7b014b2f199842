"""The UW parser against the contract, lines captured from 2007f, and logs whose lines a user name broke."""

from __future__ import annotations

from pathlib import Path

import pytest
from pop_before_smtp import LOGIN, LOGOUT, Kind, LoginEvent
from pop_before_smtp.testing import CorpusTests, ParserTests, Sample
from pop_before_smtp_uw_imap import pop_before_smtp_parsers

(PARSER,) = pop_before_smtp_parsers()
DATA = Path(__file__).parent / "data"
HOST = b"host=client.example.net [203.0.113.11]"


def sample(program: bytes, message: bytes, kind: Kind | None = None) -> Sample:
    words = tuple(word for word in (b"alice", b"client.example.net") if word in message)
    if kind is None:
        return Sample(program=program, pid=b"20166", message=message, words=words)
    return Sample(
        program=program,
        pid=b"20166",
        message=message,
        kind=kind,
        address="203.0.113.11",
        user="alice",
        service="pop3" if b"pop3" in program else "imap",
        session="20166",
        words=words,
    )


class TestContract(ParserTests):
    parser = PARSER
    samples = (
        sample(b"imapd", b"Login user=alice " + HOST, LOGIN),
        sample(b"imapd", b"Authenticated user=alice " + HOST + b" mech=CRAM-MD5", LOGIN),
        sample(b"ipop3d", b"Login user=alice " + HOST + b" nmsgs=0/0", LOGIN),
        sample(b"ipop3d", b"Admin Login user=alice " + HOST + b" nmsgs=3/17", LOGIN),
        sample(b"ipop3d", b"Auth user=alice host=[::ffff:203.0.113.11] nmsgs=0/0", LOGIN),
        sample(b"ipop3d", b"APOP user=alice host=[203.0.113.11] nmsgs=0/0", LOGIN),
        sample(b"imapd", b"Logout user=alice " + HOST, LOGOUT),
        sample(b"ipop3d", b"Killed (lost mailbox lock) user=alice " + HOST, LOGOUT),
        sample(b"imapd", b"Login failed user=alice auth=alice " + HOST),
        sample(b"imapd", b"Login SYSTEM BREAK-IN ATTEMPT user=alice auth=alice " + HOST),
        sample(b"imapd", b"Authenticated anonymous=alice " + HOST),
        sample(b"imapd", b"Login anonymous=alice " + HOST),
        sample(b"imapd", b"Preauthenticated user=alice " + HOST),
        sample(b"ipop3d", b"Failed bob override of user=alice " + HOST),
        sample(b"ipop3d", b"Update user=alice " + HOST + b" nmsgs=0 ndele=0 nseen=0"),
        sample(b"ipop3d", b"IMAP login to host=[192.0.2.9] user=alice " + HOST),
        sample(b"imapd", b"AUTHENTICATE PLAIN failure " + HOST),
        sample(b"ipop3d", b"pop3 service init from 203.0.113.11"),
        sample(b"imapd", b"LOGIN, user=alice, ip=[203.0.113.11], port=[1], protocol=IMAP"),
    )


class TestCorpus(CorpusTests):
    parser = PARSER
    folder = DATA


def events(*messages: bytes, program: bytes = b"imapd", pid: bytes = b"7") -> list[LoginEvent]:
    lines = [Sample(program=program, pid=pid, message=message).line() for message in messages]
    return TestContract().events(b"".join(lines))


@pytest.mark.parametrize(
    "end",
    [
        b"Logout",
        b"Autologout",
        b"Hangup",
        b"Killed",
        b"Killed (terminated)",
        b"Unexpected client disconnect, while reading line",
        b"Connection reset by peer, while reading line",
    ],
)
def test_an_end_counts_where_the_process_has_logged_in(end: bytes) -> None:
    login, logout = b"Login user=alice host=[203.0.113.11]", end + b" user=alice host=[203.0.113.11]"
    assert [event.kind for event in events(login, logout, logout)] == [LOGIN, LOGOUT]
    assert events(logout) == []
    other = Sample(program=b"imapd", pid=b"8", message=logout).line()
    assert len(TestContract().events(Sample(program=b"imapd", pid=b"7", message=login).line() + other)) == 1


@pytest.mark.parametrize(
    "message",
    [
        b"Login user=x host=[198.51.100.66] host=[203.0.113.51]",
        b"Login user=a host=h.example [198.51.100.66] nmsgs=0 host=[203.0.113.57]",
        b"Login user=alice host=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaa",
        b"Login user=alice host=client.example.net [203.0.113.20",
        b"Login user=alice host=UNKNOWN",
        b"Login user=alice host=[203.0.113.20] x",
        b"Logins user=alice host=[203.0.113.20]",
        b"Login user=alice host=a b [203.0.113.20]",
    ],
)
def test_what_does_not_fit_as_a_whole_is_no_login(message: bytes) -> None:
    assert events(message) == []


def test_an_all_numeric_name_is_no_address() -> None:
    (event,) = events(b"Login user=alice host=198.51.100.66 [203.0.113.204]")
    assert event.address == "203.0.113.204"


def test_each_program_says_its_own() -> None:
    assert events(b"Login user=a host=[203.0.113.9] mech=PLAIN", program=b"ipop3d") == []
    assert events(b"Login user=a host=[203.0.113.9] nmsgs=0/0") == []
    assert events(b"Login user=a host=[203.0.113.9]", program=b"popd") == []


def read(name: str) -> set[str | None]:
    return {event.address for event in TestContract().events((DATA / "newline" / name).read_bytes())}


def test_a_name_with_a_newline_forges_nothing_end_to_end() -> None:
    """What syslog-ng wrote when a client with no account logged in, failed and logged out."""
    assert read("e2e-uw-imapd-2007f-syslog-ng-mail.log") == set()


@pytest.mark.parametrize("name", ["rsyslog-default.log", "inetutils-syslogd.log"])
def test_escaped_newlines_forge_nothing(name: str) -> None:
    assert read(name) == {"203.0.113.7"}


@pytest.mark.parametrize("name", ["rsyslog-escape-off.log", "syslog-ng-default.log"])
def test_of_raw_newlines_only_whole_lines_are_believed(name: str) -> None:
    """A line that keeps the server's end of the one it was broken from is refused; one that a client wrote from its
    first to its last byte is a real one's twin, which only the lines around it can tell apart.
    """
    lines = [line for line in (DATA / "newline" / name).read_bytes().splitlines() if b"198.51.100.66" in line]
    assert len(lines) == 5
    believed = [line for line in lines if TestContract().events(line + b"\n")]
    assert set(believed) == {b"Nov 22 08:40:21 mail imapd[1]: Login user=a host=[198.51.100.66]"}
