"""Servers that spread a login over several lines, and servers whose pid names the session."""

from __future__ import annotations

import datetime as dt

import pytest
from pop_before_smtp._match import Matcher
from pop_before_smtp._record import Batch, Layout
from pop_before_smtp.api import CONNECT, FAILURE, LOGIN, LOGOUT, PART, LoginEvent, LogParser, LogPattern

AT = 1_795_339_046.0
"""2026-11-22 09:17:26 UTC."""
POPD = LogParser(
    name="popd",
    patterns=[
        LogPattern(
            kind=CONNECT, program=rb"popd", message=rb"Session from (?P<ip>[0-9A-Fa-f.:]+)", contains=[b"Session from "]
        ),
        LogPattern(
            kind=LOGIN,
            program=rb"popd",
            message=rb"Authentication passed for (?P<user>.*)",
            contains=[b"Authentication passed for "],
            fixed={"service": "pop3"},
        ),
        LogPattern(
            kind=FAILURE,
            program=rb"popd",
            message=rb"Authentication failed for .*",
            contains=[b"Authentication failed for "],
        ),
        LogPattern(kind=LOGOUT, program=rb"popd", message=rb"[0-9]+ deleted, [0-9]+ left", contains=[b" deleted, "]),
    ],
)
"""As popa3d writes: address, success and end in three lines of one process."""
ONELINE = LogParser(
    name="imapd",
    patterns=[
        LogPattern(
            kind=LOGIN,
            program=rb"imapd",
            message=rb"Login user=(?P<user>.*) host=\[(?P<ip>[0-9A-Fa-f.:]+)\]",
            contains=[b"Login user="],
            fixed={"service": "imap"},
        ),
        LogPattern(kind=LOGOUT, program=rb"imapd", message=rb"Logout user=(?P<user>.*)", contains=[b"Logout user="]),
    ],
)


BREAKING = LogParser(
    name="webd",
    patterns=[
        LogPattern(kind=PART, program=b"webd", message=b"denied for x{500,}", contains=[b"denied for "]),
        LogPattern(kind=LOGIN, program=b"webd", message=rb"welcome from (?P<ip>\S+)", contains=[b"welcome from "]),
    ],
)
"""Its logger breaks long records."""


class Log:
    """Feeds lines of one second each to one matcher."""

    def __init__(self, *parsers: LogParser, logouts: bool = True) -> None:
        self.matcher = Matcher(parsers, logouts=logouts)
        self.layout = Layout(zone=dt.UTC)
        self.at = AT

    def read(self, *lines: bytes, source: str = "log") -> list[LoginEvent]:
        """Read lines without their stamp; returns the events."""
        stamp = dt.datetime.fromtimestamp(self.at, dt.UTC).strftime("%b %e %H:%M:%S ").encode()
        data = b"".join(stamp + line + b"\n" for line in lines)
        self.at += 1
        return list(
            self.matcher.feed(Batch(source=source, data=data, received=self.at, limit=self.at, layout=self.layout))
        )

    def addresses(self, *lines: bytes, source: str = "log") -> list[str | None]:
        return [event.address for event in self.read(*lines, source=source)]


@pytest.fixture(params=[True, False], ids=["with logouts", "logins only"])
def log(request: pytest.FixtureRequest) -> Log:
    return Log(POPD, ONELINE, logouts=request.param)


def test_the_address_comes_from_the_line_before() -> None:
    log = Log(POPD)
    found = log.read(
        b"mail popd[7]: Session from 203.0.113.7",
        b"mail popd[7]: pam_unix(popd:auth): something in between",
        b"mail popd[8]: Session from 2001:db8:c::8",
        b"mail sshd[9]: Session from 198.51.100.66",
        b"mail popd[7]: Authentication passed for ann",
        b"mail popd[8]: Authentication passed for bob",
        b"mail popd[7]: 0 deleted, 0 left",
    )
    assert [(event.kind, event.address, event.user, event.service, event.session) for event in found] == [
        (LOGIN, "203.0.113.7", "ann", "pop3", "7"),
        (LOGIN, "2001:db8:c::8", "bob", "pop3", "8"),
        (LOGOUT, None, None, None, "7"),
    ]
    assert [event.at for event in found] == [AT] * 3


def test_over_several_reads(log: Log) -> None:
    assert log.addresses(b"mail popd[7]: Session from 203.0.113.7") == []
    assert log.addresses(b"mail popd[7]: Authentication passed for ann") == ["203.0.113.7"]


@pytest.mark.parametrize(
    "success",
    [
        b"mail popd[8]: Authentication passed for ann",
        b"other popd[7]: Authentication passed for ann",
        b"mail popd: Authentication passed for ann",
        b"mail popd[7]: Authentication failed for ann",
    ],
)
def test_a_login_takes_up_its_own_connection_only(log: Log, success: bytes) -> None:
    """Another process, another host with the same pid, no pid at all."""
    assert log.addresses(b"mail popd[7]: Session from 203.0.113.7", success) == []


def test_sources_are_kept_apart(log: Log) -> None:
    log.read(b"mail popd[7]: Session from 203.0.113.7", source="one")
    assert log.addresses(b"mail popd[7]: Authentication passed for ann", source="two") == []
    assert log.addresses(b"mail popd[7]: Authentication passed for ann", source="one") == ["203.0.113.7"]


def test_lines_without_pid_are_nobodys(log: Log) -> None:
    assert log.addresses(b"mail popd: Session from 203.0.113.7", b"mail popd: Authentication passed for ann") == []
    assert log.matcher.counts["no_connect"] == 1


@pytest.mark.parametrize(
    "end", [b"Authentication failed for ann", b"0 deleted, 0 left", b"Authentication passed for x"]
)
def test_what_ends_a_session_ends_its_address(log: Log, end: bytes) -> None:
    """The pid comes round again, and this time its address is not in the log."""
    log.read(b"mail popd[7]: Session from 203.0.113.7", b"mail popd[7]: " + end)
    assert log.addresses(b"mail popd[7]: Authentication passed for bob") == []
    assert log.matcher.counts["no_connect"] == 1


def test_a_new_connection_replaces_the_old_one(log: Log) -> None:
    log.read(b"mail popd[7]: Session from 203.0.113.7", b"mail popd[7]: Session from 203.0.113.8")
    assert log.addresses(b"mail popd[7]: Authentication passed for ann") == ["203.0.113.8"]


@pytest.mark.parametrize("address", [b"127.0.0.1", b"0.0.0.0", b"203.0.113", b"::"])
def test_a_connection_from_nowhere_is_no_login(log: Log, address: bytes) -> None:
    log.read(b"mail popd[7]: Session from " + address)
    assert log.addresses(b"mail popd[7]: Authentication passed for ann") == []


def test_a_connection_waits_ten_minutes(log: Log) -> None:
    log.read(b"mail popd[7]: Session from 203.0.113.7", b"mail popd[8]: Session from 203.0.113.8")
    log.at = AT + 599
    assert log.addresses(b"mail popd[7]: Authentication passed for ann") == ["203.0.113.7"]
    log.at = AT + 601
    assert log.addresses(b"mail popd[8]: Authentication passed for ann") == []


def test_connections_without_end_cost_a_bounded_memory(log: Log) -> None:
    pids = range(30_000)
    for start in pids[::1000]:
        log.at = AT
        log.read(*(b"mail popd[%d]: Session from 203.0.113.7" % pid for pid in range(start, start + 1000)))
    assert len(log.matcher.connects()) == 10_000
    assert log.matcher.counts["connects_forgotten"] == 20_000
    assert log.addresses(b"mail popd[0]: Authentication passed for a") == []
    assert log.addresses(b"mail popd[29999]: Authentication passed for a") == ["203.0.113.7"]


def test_waiting_addresses_survive_a_restart(log: Log) -> None:
    log.read(b"mail popd[7]: Session from 203.0.113.7", b"mail popd[8]: Session from 203.0.113.8")
    log.read(b"mail popd[8]: Authentication passed for bob")
    (waiting,) = log.matcher.connects()
    assert waiting == ("log", b"mail", b"popd", "7", AT, "203.0.113.7")
    again = Log(POPD)
    again.matcher.restore([waiting])
    assert again.addresses(b"mail popd[7]: Authentication passed for ann") == ["203.0.113.7"]


def test_a_broken_line_is_remembered_over_a_restart() -> None:
    log = Log(BREAKING)
    log.read(b"mail webd: denied for " + b"x" * 500)
    again = Log(BREAKING)
    again.matcher.restore(log.matcher.connects())
    assert again.addresses(b"mail webd: welcome from 203.0.113.7") == []
    assert again.addresses(b"mail webd: welcome from 203.0.113.7") == ["203.0.113.7"]
    assert again.matcher.connects() == []


# -- logouts that the pid names


def test_a_logout_needs_a_login_of_the_same_process() -> None:
    log = Log(ONELINE)
    found = log.read(
        b"mail imapd[7]: Login user=ann host=[203.0.113.7]",
        b"mail imapd[8]: Logout user=ann",
        b"other imapd[7]: Logout user=ann",
        b"mail imapd[7]: Logout user=ann",
        b"mail imapd[7]: Logout user=ann",
        b"mail imapd: Logout user=ann",
    )
    assert [(event.kind, event.session) for event in found] == [(LOGIN, "7"), (LOGOUT, "7")]
    assert found[1].position > found[0].position


def test_a_logout_without_session_is_the_same_for_logins_only() -> None:
    log = Log(ONELINE, logouts=False)
    found = log.read(b"mail imapd[7]: Login user=ann host=[203.0.113.7]", b"mail imapd[7]: Logout user=ann")
    assert [(event.kind, event.address, event.session) for event in found] == [(LOGIN, "203.0.113.7", "7")]


def test_sessions_without_end_cost_a_bounded_memory() -> None:
    log = Log(ONELINE)
    for start in range(0, 12_000, 1000):
        log.read(*(b"mail imapd[%d]: Login user=a host=[203.0.113.7]" % pid for pid in range(start, start + 1000)))
    assert log.matcher.counts["sessions_forgotten"] == 2000
    assert log.read(b"mail imapd[0]: Logout user=a") == []
    assert len(log.read(b"mail imapd[11999]: Logout user=a")) == 1


def test_a_failed_line_of_one_parser_drops_nothing_of_another() -> None:
    """Two programs with the same pid, as two hosts or a reboot can have."""
    log = Log(POPD, ONELINE)
    log.read(b"mail popd[7]: Session from 203.0.113.7", b"mail imapd[7]: Logout user=ann")
    assert log.addresses(b"mail popd[7]: Authentication passed for ann") == ["203.0.113.7"]


def test_failures_are_no_events_where_nothing_waits_for_them() -> None:
    """A parser may have FAILURE patterns without CONNECT ones."""
    failure = LogPattern(kind=FAILURE, program=rb"imapd", message=rb"Login failed.*", contains=[b"Login failed"])
    log = Log(LogParser(name="imapd", patterns=[*ONELINE.patterns, failure]))
    assert log.read(b"mail imapd[7]: Login failed user=ann") == []
