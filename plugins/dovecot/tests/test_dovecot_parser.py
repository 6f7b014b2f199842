"""Dovecot's parser against the contract, lines captured from 2.3.19 and 2.4.1, and lines made to deceive it."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
from pop_before_smtp import LOGIN, LOGOUT, LoginEvent
from pop_before_smtp.testing import CorpusTests, ParserTests, Sample
from pop_before_smtp_dovecot import pop_before_smtp_parsers

(PARSER,) = pop_before_smtp_parsers()
ALICE = {"address": "203.0.113.11", "user": "alice", "service": "imap", "session": "MsQp8tlglLfLAHEL"}


def login(message: bytes, *, words: tuple[bytes, ...] = (b"alice",), **fields: object) -> Sample:
    return Sample(program=b"dovecot", message=message, kind=LOGIN, words=words, **{**ALICE, "tls": False, **fields})  # type: ignore[arg-type]  # fields of a sample


def nothing(message: bytes, *words: bytes) -> Sample:
    return Sample(program=b"dovecot", message=message, words=words)


def own(sample: Sample) -> bytes:
    """Write a sample as Dovecot writes its own file: without host and tag, with a level."""
    process, _, text = sample.message.partition(b": ")
    return process + b": Info: " + text


class TestContract(ParserTests):
    parser = PARSER
    files = MappingProxyType(
        {
            "default stamp": lambda sample: b"Nov 22 09:17:26 " + own(sample),
            "ISO stamp": lambda sample: b"2026-11-22T09:17:26 " + own(sample),
            "no stamp": own,
        }
    )
    samples = (
        login(
            b"imap-login: Login: user=<alice>, method=PLAIN, rip=203.0.113.11, lip=192.0.2.1, mpid=4311, "
            b"session=<MsQp8tlglLfLAHEL>",
            words=(b"alice", b"MsQp8tlglLfLAHEL"),
        ),
        login(
            b"pop3-login: Logged in: user=<alice>, method=PLAIN, rip=2001:db8:c::11, lip=2001:db8::1, mpid=4311, TLS, "
            b"session=<8xKZyNlgLb8gAQ24>",
            address="2001:db8:c::11",
            service="pop3",
            tls=True,
            session="8xKZyNlgLb8gAQ24",
        ),
        login(
            b"managesieve-login: Login: user=<alice>, method=PLAIN, rip=::ffff:203.0.113.11, lip=::ffff:192.0.2.1, "
            b"mpid=7, secured, session=<MsQp8tlglLfLAHEL>",
            service="managesieve",
        ),
        login(
            b"imap-login: proxy(alice,192.0.2.2:143): Started proxying to <192.0.2.2> (0.014 secs): user=<alice>, "
            b"method=PLAIN, rip=203.0.113.11, lip=192.0.2.1, session=<MsQp8tlglLfLAHEL>"
        ),
        login(
            b"imap-login: proxy(alice,192.0.2.2:143): Started proxying to remote host (0.011 secs): user=<alice>, "
            b"method=PLAIN, rip=203.0.113.11, lip=192.0.2.1, TLS, session=<MsQp8tlglLfLAHEL>",
            tls=True,
        ),
        login(b'imap-login: "alice", "[203.0.113.11]:46198", method=PLAIN, sid=MsQp8tlglLfLAHEL; Login'),
        login(
            b'imap-login: Logged in; "alice", "[203.0.113.11]:46198", method=PLAIN, TLS, sid=MsQp8tlglLfLAHEL', tls=True
        ),
        Sample(
            program=b"dovecot",
            message=b"imap(alice)<4646><MsQp8tlglLfLAHEL>: Disconnected: Logged out in=9 out=470 deleted=0",
            kind=LOGOUT,
            user="alice",
            service="imap",
            session="MsQp8tlglLfLAHEL",
            words=(b"alice", b"MsQp8tlglLfLAHEL"),
        ),
        Sample(
            program=b"dovecot",
            message=b"imap-login: proxy(alice,192.0.2.2:143): Disconnected by client (0s idle, in=203, out=537): "
            b"user=<alice>, method=PLAIN, rip=203.0.113.11, lip=192.0.2.1, TLS: Connection closed, "
            b"session=<MsQp8tlglLfLAHEL>",
            kind=LOGOUT,
            tls=True,
            words=(b"alice",),
            address="203.0.113.11",
            user="alice",
            service="imap",
            session="MsQp8tlglLfLAHEL",
        ),
        # Refused, so no event; it shows the pattern that says why.
        nothing(
            b"imap-login: Login: user=<x>, method=PLAIN, rip=203.0.113.9, lip=192.0.2.1, mpid=1>, method=PLAIN, "
            b"rip=203.0.113.10, lip=192.0.2.1, mpid=2, session=<y>"
        ),
        nothing(
            b"imap-login: Login: user=<anonymous>, method=ANONYMOUS, rip=203.0.113.9, lip=192.0.2.1, mpid=1, session=<y>"
        ),
        nothing(
            b"imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<bob>, method=PLAIN, "
            b"rip=203.0.113.9, lip=192.0.2.1, session=<y>",
            b"bob",
        ),
        nothing(
            b"imap-login: Login aborted: Logged out (auth failed, 1 attempts in 2 secs) (auth_failed): user=<bob>, "
            b"method=PLAIN, rip=203.0.113.9, lip=192.0.2.1, session=<y>",
            b"bob",
        ),
        nothing(
            b"imap(alice)<1><s>: save: box=INBOX, uid=1, msgid=<m>, size=9, from=f, subject=s", b"<m>", b"box=INBOX"
        ),
    )


class TestCorpus(CorpusTests):
    parser = PARSER
    folder = Path(__file__).parent / "data"


def one(message: bytes, program: bytes = b"dovecot") -> LoginEvent | None:
    sample = Sample(program=program, message=message)
    found = TestContract().events(sample.line())
    return found[0] if found else None


@pytest.mark.parametrize(
    ("details", "tls"),
    [
        (b"", False),
        (b", session=<abc>", False),
        (b", mpid=77", False),
        (b", TLS", True),
        (b", mpid=77, TLS, session=<abc>", True),
        (b", mpid=77, secured, session=<abc>", False),
        (b", mpid=77, TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits), session=<abc>", True),
        (b", mpid=77, TLS, TLSv1.2 with cipher ECDHE-RSA-AES256-GCM-SHA384 (256/256 bits), session=<abc>", True),
        (b", TLS, mpid=77", True),
        (b", lport=993, rport=50211, mpid=77, TLS, session=<abc>", True),
        (b", mpid=77, real_rip=192.0.2.9, real_lip=192.0.2.1, session=<abc>", False),
        (b", mpid=77, TLS: Connection closed, session=<abc>", True),
    ],
)
@pytest.mark.parametrize("words", [b"Login", b"Logged in"])
def test_elements_that_come_and_go(words: bytes, details: bytes, tls: bool) -> None:
    event = one(b"imap-login: " + words + b": user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1" + details)
    assert event
    assert (event.address, event.user, event.tls) == ("203.0.113.7", "bob", tls)
    assert event.session == ("abc" if b"session" in details else None)


@pytest.mark.parametrize(
    "proxy",
    [
        b"proxy(bob,192.0.2.2:143): Started proxying to <192.0.2.2> (<backend.example>) (0.014 secs)",
        b"proxy(bob,192.0.2.2:143): Started proxying to <192.0.2.2> from 192.0.2.1 (0.014 secs)",
        b"proxy(bob,192.0.2.2:143): Started proxying to <192.0.2.2> as user robert (0.014 secs)",
        b"proxy(bob,192.0.2.2:143): Started proxying to <192.0.2.2> as user bob (master root) (0.014 secs, 1 reconnects)",
        b"proxy(bob): started proxying to backend.example:143",
        b"proxy(bob): started proxying to 192.0.2.2:143/robert (master root)",
    ],
)
def test_what_a_proxy_says_of_the_other_side(proxy: bytes) -> None:
    event = one(b"imap-login: " + proxy + b": user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, session=<abc>")
    assert event
    assert (event.kind, event.address, event.user, event.session) == (LOGIN, "203.0.113.7", "bob", "abc")


def test_neither_method_nor_own_address_is_needed() -> None:
    event = one(b"pop3-login: Login: user=<bob>, rip=203.0.113.7")
    assert event
    assert event.address == "203.0.113.7"


@pytest.mark.parametrize(
    "message",
    [
        b"imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, rip=203.0.113.8, lip=192.0.2.1",
        b"imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, session=<a>, rip=203.0.113.8, x=<>",
        b"imap-login: Login: user=<a<b>c>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, session=<a>",
        b"imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, session=<a>, TLS, session=<b>",
        b"imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=203.0.113.7, session=<a>",
        b"imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=::ffff:203.0.113.7, session=<a>",
        b"imap-login: Login: user=<bob>, method=PLAIN, rip=unknown, lip=192.0.2.1, session=<a>",
        b"imap-login: Login: user=<bob>, method=PLAIN, rip=, lip=192.0.2.1, session=<a>",
        (
            b"imap-login: Aborted login (auth failed, 1 attempts in 2 secs): user=<Login: user=<bob>, method=PLAIN, "
            b"rip=203.0.113.7, lip=192.0.2.1>, method=PLAIN, rip=203.0.113.8, lip=192.0.2.1, session=<a>"
        ),
        b"auth: Info: imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, session=<a>",
        (
            b"imap-login: proxy(x): Started proxying to <h> (0.1 secs): user=<x>, method=PLAIN, rip=203.0.113.7): "
            b"Disconnected: Aborted login: user=<y>, method=PLAIN, rip=203.0.113.8, lip=192.0.2.1, session=<a>"
        ),
    ],
)
def test_what_does_not_fit_as_a_whole_is_no_login(message: bytes) -> None:
    assert one(message) is None


@pytest.mark.parametrize("program", [b"dovecot", b"dovecot2", b"dovecot-backend"])
def test_the_tag_is_the_instance_name(program: bytes) -> None:
    message = b"imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, session=<a>"
    assert one(message, program)
    assert one(message, program + b"[88]")
    assert one(message, b"x" + program) is None


@pytest.mark.parametrize(
    "stamp",
    [
        b"Nov 22 09:17:26 ",
        b"2026-11-22T09:17:26 ",
        b"2026-11-22 09:17:26 ",
        b"2026-11-22 09:17:26.123456 ",
        b"@400000006b02b3b000000000 ",
        b"",
    ],
)
def test_its_own_log_file(stamp: bytes) -> None:
    lines = [
        b"master: Info: Dovecot v2.3.19.1 (9b53102964) starting up for imap, pop3 (core dumps disabled)",
        b"imap-login: Info: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, mpid=1, session=<abc>",
        b"imap(bob)<1><abc>: Info: Disconnected: Logged out in=9 out=470",
        b"auth-worker(77): Error: imap-login: Info: Login: user=<x>, method=PLAIN, rip=203.0.113.8, lip=192.0.2.1",
    ]
    found = TestContract().events(b"".join(stamp + line + b"\n" for line in lines))
    assert [(event.kind, event.address, event.session) for event in found] == [
        (LOGIN, "203.0.113.7", "abc"),
        (LOGOUT, None, "abc"),
    ]


def test_a_syslog_file_is_not_read_as_its_own() -> None:
    head = b"Nov 22 09:17:25 mail postfix/smtpd[1]: connect from unknown[203.0.113.9]\n"
    own = b"Nov 22 09:17:26 imap-login: Info: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1\n"
    assert TestContract().events(head + head + own) == []


def test_a_repeated_message_is_a_login() -> None:
    event = one(
        b"message repeated 2 times: [ imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, "
        b"mpid=1, session=<abc>]"
    )
    assert event
    assert (event.address, event.session) == ("203.0.113.7", "abc")
