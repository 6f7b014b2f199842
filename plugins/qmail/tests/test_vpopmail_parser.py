"""vchkpw's lines against the contract, and lines captured from 5.4."""

from __future__ import annotations

from pathlib import Path

import pytest
from pop_before_smtp import LOGIN, LoginEvent
from pop_before_smtp.testing import CorpusTests, ParserTests, Sample
from pop_before_smtp_qmail import PARSER

USER = b"alice@example.org"


def sample(
    message: bytes,
    service: str | None = None,
    *,
    address: str = "203.0.113.11",
    tls: bool | None = None,
    program: bytes = b"vpopmail",
) -> Sample:
    return Sample(
        program=program,
        pid=b"20167",
        message=message,
        kind=LOGIN if service else None,
        address=address if service else None,
        user=USER.decode() if service else None,
        service=service,
        tls=tls,
        words=(USER,) if USER in message else (),
    )


class TestContract(ParserTests):
    parser = PARSER
    samples = (
        sample(b"vchkpw-pop3: (PLAIN) login success alice@example.org:203.0.113.11", "pop3"),
        sample(b"vchkpw-pop3: (CRAM-MD5) login success alice@example.org:203.0.113.11", "pop3"),
        sample(b"vchkpw-pop3: (APOP) login success alice@example.org:2001_db8_c__11", "pop3", address="2001:db8:c::11"),
        sample(b"vchkpw-110: (PLAIN) login success alice@example.org:203.0.113.11", "pop3"),
        sample(b"vchkpw-pop3s: (PLAIN) login success alice@example.org:203.0.113.11", "pop3", tls=True),
        sample(b"vchkpw-995: (PLAIN) login success alice@example.org:203.0.113.11", "pop3", tls=True),
        sample(b"vchkpw-imap: (PLAIN) login success alice@example.org:203.0.113.11", "imap"),
        sample(b"vchkpw-143: (PLAIN) login success alice@example.org:203.0.113.11", "imap"),
        sample(b"vchkpw-imaps: (PLAIN) login success alice@example.org:203.0.113.11", "imap", tls=True),
        sample(b"vchkpw-993: (PLAIN) login success alice@example.org:203.0.113.11", "imap", tls=True),
        sample(b"vchkpw-pop3: system password login success alice@example.org:203.0.113.11", "pop3"),
        sample(b"vchkpw: login [alice@example.org] from 203.0.113.11", "pop3"),
        sample(b"login [alice@example.org] from 203.0.113.11", "pop3", program=b"vchkpw"),
        *(
            sample(b"vchkpw-" + name + b": (PLAIN) login success alice@example.org:203.0.113.11")
            for name in (b"smtp", b"submission", b"smtps", b"25", b"465", b"587", b"webmail", b"2525", b"1110", b"")
        ),
        sample(b"vchkpw-pop3: password fail (pass: 'wrong') alice@example.org:203.0.113.11"),
        sample(b"vchkpw-pop3: vpopmail user not found alice@example.org:203.0.113.11"),
        sample(b"vchkpw-pop3: invalid user/domain characters alice@example.org:203.0.113.11"),
        sample(b"vchkpw: login failed [alice@example.org] from 203.0.113.11"),
    )

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("192.0.2.200", "192.0.2.200"),
            ("2001_db8__c8", "2001:db8::c8"),
            ("2001_DB8__C8", "2001:db8::c8"),
            ("__ffff_192.0.2.200", "192.0.2.200"),
            ("127.0.0.1", None),
            ("__1", None),
            ("0.0.0.0", None),
            ("192.0.2", None),
            ("192.0.2.999", None),
            ("2001_db8", None),
            ("fe80__1%eth0", None),
            ("", None),
        ],
    )
    def test_addresses_are_canonical_or_refused(self, written: str, meant: str | None) -> None:
        for login in self.logins():
            message = login.message[: max(login.message.rfind(b":"), login.message.rfind(b" ")) + 1] + written.encode()
            found = {event.address for event in self.events(login.line(message=message))}
            assert found == ({meant} if meant else set()), message


class TestCorpus(CorpusTests):
    parser = PARSER
    folder = Path(__file__).parent / "data" / "vpopmail"

    test_logouts_find_their_logins = None  # there are none


def events(message: bytes) -> list[LoginEvent]:
    return TestContract().events(Sample(program=b"vpopmail", pid=b"7", message=message).line())


@pytest.mark.parametrize(
    "user", [b"x:198.51.100.66", b"x] from 198.51.100.66", b"a:b@c", b"x login success y:198.51.100.66", b"x" * 300]
)
def test_the_address_is_the_last_thing_in_the_line(user: bytes) -> None:
    for message in (
        b"vchkpw-pop3: (PLAIN) login success " + user + b":203.0.113.7",
        b"vchkpw: login [" + user + b"] from 203.0.113.7",
    ):
        (event,) = events(message)
        assert event.address == "203.0.113.7"


def test_a_name_so_long_that_the_address_may_be_cut_is_not_believed() -> None:
    assert events(b"vchkpw-pop3: (PLAIN) login success " + b"x" * 301 + b":203.0.113.1") == []


def test_a_failed_login_that_names_a_success_is_none() -> None:
    name = b"vchkpw-pop3: (PLAIN) login success ann:198.51.100.66"
    for message in (
        b"vchkpw-pop3: password fail (pass: '" + name + b"') bob@example.org:203.0.113.7",
        b"vchkpw-pop3: vpopmail user not found " + name,
        b"vchkpw-smtp: (PLAIN) login success " + name,
    ):
        assert events(message) == []
