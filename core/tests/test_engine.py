"""From lines to leases, without any I/O: the policy, each outlet, and what is worth remembering."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp import LOGIN, LOGOUT, LogParser, LogPattern, Map, Writer
from pop_before_smtp._config import OutletSettings, PolicySettings, WriterSettings
from pop_before_smtp._engine import Engine
from pop_before_smtp._host import Host
from pop_before_smtp._match import Matcher
from pop_before_smtp._networks import Netblocks
from pop_before_smtp._outlet import Outlet
from pop_before_smtp._policy import Policy
from pop_before_smtp._record import Batch

WALL = 1_800_000_000.0
GRACE = 1800.0
PARSER = LogParser(
    name="popd",
    patterns=[
        LogPattern(
            kind=LOGIN,
            program=rb"popd",
            message=rb"login from (?P<ip>[0-9A-Fa-f.:]+)",
            contains=[b"login from "],
            fixed={"service": "pop3"},
        ),
        LogPattern(kind=LOGOUT, program=rb"popd", message=rb"logout (?P<session>\w+)", contains=[b"logout "]),
    ],
)


def engine(*graces: float, policy: PolicySettings | None = None) -> Engine:
    settings = policy or PolicySettings()
    outlets = []
    for grace in graces or (GRACE,):
        writer = Writer(name="test", settings=OutletSettings, open=lambda _: _no_map())
        table = OutletSettings(use="test")
        configured = WriterSettings(outlet=table, writer=writer, settings=table, index=0)
        outlets.append(Outlet(configured, grace, Netblocks(), settings))
    return Engine(Matcher([PARSER]), Policy(settings, Host()), outlets)


def _no_map() -> Map:
    raise AssertionError("the engine opens no map")


def line(at: float, text: str) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S+00:00', time.gmtime(at))} mail popd: {text}\n"


def batch(*lines: str, received: float = WALL, live: bool = True) -> Batch:
    return Batch(source="log", data="".join(lines).encode(), received=received, limit=received, live=live)


def leases(one: Engine, index: int = 0) -> dict[str, float | None]:
    table = one.outlets[index].leases
    return {address: table.deadline(address) for address in table}


def test_a_login_is_granted_remembered_and_counted() -> None:
    one = engine()
    kept = one.feed(batch(line(WALL - 60, "login from 203.0.113.7")), 5.0, WALL)
    assert [event.address for event in kept] == ["203.0.113.7"]
    assert leases(one) == {"203.0.113.7": 5.0 + GRACE - 60}
    assert one.outlets[0].counts["logins"] == 1


def test_what_the_policy_refuses_is_counted_and_forgotten() -> None:
    one = engine(policy=PolicySettings(services=("imap",)))
    assert one.feed(batch(line(WALL, "login from 203.0.113.7")), 0.0, WALL) == []
    assert one.counts == {"service": 1}
    assert leases(one) == {}


def test_a_logout_grants_nothing() -> None:
    one = engine()
    assert one.feed(batch(line(WALL, "logout x")), 0.0, WALL) == []


def test_each_outlet_has_its_own_grace() -> None:
    one = engine(60.0, 3600.0)
    kept = one.feed(batch(line(WALL - 600, "login from 203.0.113.7")), 0.0, WALL)
    assert len(kept) == 1, "one outlet's lease rests on it"
    assert leases(one, 0) == {}
    assert leases(one, 1) == {"203.0.113.7": 3000.0}
    assert one.outlets[0].counts == {"expired_on_arrival": 1}


def test_a_stamp_from_the_future_counts_as_now() -> None:
    one = engine()
    one.feed(batch(line(WALL + 86400, "login from 203.0.113.7")), 0.0, WALL)
    assert leases(one) == {"203.0.113.7": GRACE}


@pytest.mark.parametrize("stamp", [0.0, WALL - 86400 * 365, WALL - GRACE])
def test_a_stamp_of_the_past_grants_nothing(stamp: float) -> None:
    one = engine()
    one.feed(batch(line(stamp, "login from 203.0.113.7")), 0.0, WALL)
    assert leases(one) == {}


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4000), st.integers(0, 600)), min_size=1, max_size=30),
)
def test_the_leases_are_exactly_the_last_logins_and_their_grace(logins: list[tuple[int, int, int]]) -> None:
    """Out of order, doubled, late: address -> last login + grace, on a clock that only advances."""
    one = engine()
    now, wall = 0.0, WALL
    last: dict[str, float] = {}
    for number, age, pause in logins:
        address = f"203.0.113.{number}"
        one.feed(batch(line(wall - age, f"login from {address}"), received=wall), now, wall)
        last[address] = max(last.get(address, 0.0), wall - age)
        now, wall = now + pause, wall + pause
        while (due := one.next_due()) is not None and due <= now:
            one.outlets[0].expire(now)
        model = {known: at + GRACE - WALL for known, at in last.items() if at + GRACE > wall}
        assert {known: deadline for known, deadline in leases(one).items() if deadline and deadline > now} == model
