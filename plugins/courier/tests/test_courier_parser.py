"""Courier's parser against the contract, lines captured from 5.0.13, and forms that other versions write."""

from __future__ import annotations

from pathlib import Path

import pytest
from pop_before_smtp import LOGIN, LOGOUT, Kind, LoginEvent
from pop_before_smtp.testing import CorpusTests, ParserTests, Sample
from pop_before_smtp_courier import pop_before_smtp_parsers

DATA = Path(__file__).parent / "data"
(PARSER,) = pop_before_smtp_parsers()
ADDRESS = "203.0.113.11"
WHO = b"user=alice, ip=[::ffff:203.0.113.11], port=[59364]"


def sample(program: bytes, message: bytes, kind: Kind | None = None, tls: bool | None = None) -> Sample:
    if kind is None:
        return Sample(program=program, message=message, words=(b"alice",) if b"alice" in message else ())
    return Sample(
        program=program,
        message=message,
        kind=kind,
        address=ADDRESS,
        user="alice",
        service="imap" if b"imap" in program else "pop3",
        tls=tls,
        session="59364",
        words=(b"alice",),
    )


class TestContract(ParserTests):
    parser = PARSER
    samples = (
        sample(b"imapd", b"LOGIN, " + WHO + b", protocol=IMAP", LOGIN),
        sample(b"imapd", b"LOGIN, " + WHO + b", protocol=IMAP, starttls=1", LOGIN, tls=True),
        sample(b"imapd-ssl", b"LOGIN, " + WHO + b", protocol=IMAP", LOGIN, tls=True),
        sample(b"pop3d", b"LOGIN, " + WHO, LOGIN),
        sample(b"pop3d", b"LOGIN, " + WHO + b", stls=1", LOGIN, tls=True),
        sample(b"pop3d-ssl", b"LOGIN, " + WHO, LOGIN, tls=True),
        sample(b"courier-imapd", b"LOGIN, " + WHO + b", protocol=IMAP", LOGIN),
        sample(b"imapd", b"LOGOUT, " + WHO + b", headers=0, body=0, rcvd=11, sent=82, time=0, starttls=1", LOGOUT),
        sample(
            b"imapd-ssl", b"DISCONNECTED, " + WHO + b", headers=0, body=0, rcvd=0, sent=17, time=0", LOGOUT, tls=True
        ),
        sample(b"pop3d", b"disc, " + WHO + b", top=0, retr=0, rcvd=6, sent=30, time=0", LOGOUT),
        sample(b"pop3d-ssl", b"TIMEOUT, " + WHO + b", top=0, retr=0, rcvd=6, sent=30, time=0", LOGOUT, tls=True),
        sample(b"imapd", b"NOTICE: Disconnected during shutdown by signal, " + WHO + b", headers=0, body=0", LOGOUT),
        sample(b"imapd", b"LOGIN FAILED, " + WHO),
        Sample(program=b"pop3d", message=b"LOGIN FAILED, user=" + b"A" * 490),
        Sample(program=b"imapd-ssl", message=b"LOGIN FAILED, user=" + b"A" * 490),
        sample(b"imapd", b"LOGIN FAILED, method=PLAIN, ip=[::ffff:203.0.113.11], port=[59364]"),
        sample(b"imapd", b"LOGOUT, ip=[::ffff:203.0.113.11], port=[59364], rcvd=37, sent=365"),
        sample(b"imapd", b"Connection, ip=[::ffff:203.0.113.11], port=[59364]"),
        sample(b"imapd", b"Disconnected, ip=[::ffff:203.0.113.11], port=[59364], time=5"),
        sample(b"authdaemond", b"pam_unix(imap:auth): authentication failure; rhost=::ffff:203.0.113.11  user=alice"),
        sample(b"imapd[77]", b"Login user=alice host=[203.0.113.11]"),
    )


class TestCorpus(CorpusTests):
    parser = PARSER
    folder = DATA


def one(program: bytes, message: bytes) -> LoginEvent | None:
    found = TestContract().events(Sample(program=program, message=message).line())
    return found[0] if found else None


@pytest.mark.parametrize("end", [b"LOGOUT", b"DISCONNECTED", b"TIMEOUT", b"disc"])
@pytest.mark.parametrize("program", [b"imapd", b"imapd-ssl", b"pop3d", b"pop3d-ssl"])
def test_every_end_of_every_service(program: bytes, end: bytes) -> None:
    event = one(program, end + b", " + WHO + b", top=0, retr=0, rcvd=6, sent=30, time=0")
    assert event
    assert (event.kind, event.address, event.session) == (LOGOUT, ADDRESS, "59364")


def test_old_lines_have_no_port() -> None:
    event = one(b"imapd", b"LOGIN, user=alice, ip=[203.0.113.11], protocol=IMAP")
    assert event
    assert (event.address, event.session) == (ADDRESS, None)


@pytest.mark.parametrize("program", [b"imapd-ssl[20815]", b"courier-pop3d", b"courier-imapd-ssl[1]"])
def test_tags_with_a_pid_or_a_prefix(program: bytes) -> None:
    assert one(program, b"LOGIN, " + WHO)


@pytest.mark.parametrize(
    "message",
    [
        b"LOGIN, user=x, ip=[198.51.100.66], port=[1], ip=[::ffff:203.0.113.47], port=[44474], protocol=IMAP",
        b"LOGIN, user=x, ip=[203.0.113.47], port=[44474], protocol=IMAP trailing",
        b"LOGIN, user=x, ip=[203.0.113.47, port=[44474]",
        b"LOGIN: user=x, ip=[203.0.113.47], port=[44474]",
        b"x LOGIN, user=x, ip=[203.0.113.47], port=[44474]",
    ],
)
def test_what_does_not_fit_as_a_whole_is_no_login(message: bytes) -> None:
    assert one(b"imapd", message) is None


@pytest.mark.parametrize("user", [b"x ip=[198.51.100.66]", b"a,ip=[198.51.100.66],b", b"", b"LOGIN, user=y"])
def test_the_address_is_read_from_the_right(user: bytes) -> None:
    event = one(b"pop3d", b"LOGIN, user=" + user + b", ip=[::ffff:203.0.113.47], port=[44474]")
    assert event
    assert event.address == "203.0.113.47"
    assert (event.user or "").encode() == user


def test_a_long_name_forges_nothing() -> None:
    """What Courier 5.0.13 wrote for failed logins whose long names went on as logins: courierlogger breaks lines."""
    found = TestContract().events((DATA / "5.0.13" / "broken-lines.log").read_bytes())
    assert [event.address for event in found if event.kind is LOGIN] == ["203.0.113.42"]


@pytest.mark.parametrize("between", [b"", b"Connection, ip=[203.0.113.40], port=[1]\n"])
def test_a_long_name_costs_others_nothing(between: bytes) -> None:
    """The line behind a long one is its rest; the one after that is somebody's own again."""
    tag = b"2026-11-22T09:17:26Z mail pop3d: "
    long, rest, login = b"LOGIN FAILED, user=" + b"A" * 486, b"rest, ip=[203.0.113.9], port=[1]", b"LOGIN, " + WHO
    lines = [long, rest, *filter(None, [between.strip()]), login]
    (event,) = TestContract().events(b"".join(tag + line + b"\n" for line in lines))
    assert event.address == ADDRESS
    for other in (b"mail imapd: ", b"mail pop3d-ssl: ", b"other pop3d: "):
        lines = [tag + long, b"2026-11-22T09:17:26Z " + other + login]
        assert len(TestContract().events(b"".join(line + b"\n" for line in lines))) == 1
