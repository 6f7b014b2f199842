"""Tests of what a source is believed."""

from __future__ import annotations

import datetime as dt

import pytest
from pop_before_smtp._match import Matcher
from pop_before_smtp._record import Batch, Layout, Records
from pop_before_smtp._trust import Senders, Trust
from pop_before_smtp.api import LOGIN, LogHeader, LogParser, LogPattern, Record

AT = 1_795_339_046.0
POPD = LogParser(
    name="popd",
    patterns=[
        LogPattern(kind=LOGIN, program=b"popd", message=rb"login ok from (?P<ip>\S+)", contains=[b"login ok from "])
    ],
    headers=[LogHeader(name="popd", line=rb"(?P<time>\S+) popd-own (?P<message>login .*)", program=b"popd")],
)
ROOT = {"_SYSTEMD_UNIT": b"popd.service", "_UID": b"0"}


def granted(trust: Trust, *hosts: str) -> tuple[list[str | None], dict[str, int]]:
    """Return the addresses of logins on these hosts, and what was counted."""
    lines = [f"2026-11-22T09:17:{n:02}Z {host} popd: login ok from 192.0.2.{n}\n" for n, host in enumerate(hosts, 1)]
    layout = Layout(POPD.headers, zone=dt.UTC, trust=trust)
    batch = Batch(source="log", data="".join(lines).encode(), received=AT + 60, layout=layout)
    matcher = Matcher([POPD])
    return [event.address for event in matcher.feed(batch)], dict(matcher.counts)


def test_only_named_hosts_count() -> None:
    found = granted(Trust("log", hosts=["Mail", "mx2.example.org"]), "mail", "other", "MAIL", "mx2.example.org", "mx2")
    assert found == (["192.0.2.1", "192.0.2.3", "192.0.2.4"], {"other_host": 2})


def test_a_second_host_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    trust = Trust("/var/log/mail.log")
    assert len(granted(trust, "mail", "mail", "mail")[0]) == 3
    assert not caplog.messages
    assert len(granted(trust, "other", "mail", "third")[0]) == 3
    assert caplog.messages == [
        '/var/log/mail.log: holds the logins of several hosts, "mail" and "other"; name those that count in hosts'
    ]


def test_named_hosts_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    granted(Trust("log", hosts=["a", "b"]), "a", "b")
    assert not caplog.messages


def test_nothing_is_granted_where_clients_can_begin_lines() -> None:
    assert granted(Trust(escaped=False), "mail", "mail") == ([], {"unescaped_source": 2})


def test_a_servers_own_file_names_no_host_and_is_written_by_no_syslog_daemon() -> None:
    layout = Layout(POPD.headers, zone=dt.UTC, trust=Trust("log", hosts=["mail"], escaped=False))
    line = b"2026-11-22T09:17:26Z popd-own login ok from 192.0.2.1\n"
    batch = Batch(source="log", data=line, received=AT, layout=layout)
    assert [event.address for event in Matcher([POPD]).feed(batch)] == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("senders", "trusted", "believed"),
    [
        (Senders(units=("popd.service",), uids=(0,)), ROOT, True),
        (Senders(units=("popd.service",), uids=(0,)), ROOT | {"_UID": b"1000"}, False),
        (Senders(units=("popd.service",), uids=(0,)), ROOT | {"_UID": b"00"}, False),
        (Senders(units=("popd.service",), uids=(0,)), ROOT | {"_SYSTEMD_UNIT": b"session-1.scope"}, False),
        (Senders(units=("popd.service",), uids=(0,)), ROOT | {"_SYSTEMD_UNIT": b"popd.service\xff"}, False),
        (Senders(units=("popd.service",), uids=(0,)), {"_COMM": b"popd", "_UID": b"0"}, False),
        (Senders(units=("popd.service",), uids=(0,)), {}, False),
        (Senders(units=("popd@*.service",), uids=()), {"_SYSTEMD_UNIT": b"popd@in.service", "_UID": b"7"}, True),
        (Senders(units=("popd@*.service",), uids=()), ROOT, False),
        (Senders(units=(), uids=()), ROOT, False),
        (Senders(units=("*",), uids=()), {}, True),
    ],
)
def test_whose_records_in_the_journal_are_believed(
    senders: Senders, trusted: dict[str, bytes], *, believed: bool
) -> None:
    record = Record(
        time=AT, received=AT, host=b"mail", program=b"popd", message=b"login ok from 192.0.2.1", trusted=trusted
    )
    matcher = Matcher([POPD])
    records = Records(source="journal", records=[record] * 2, trust=Trust(senders={"popd": senders}))
    assert len(list(matcher.feed(records))) == (2 if believed else 0)
    assert matcher.counts["untrusted_sender"] == (0 if believed else 2)
