"""What goes into the state comes out of it: logins, positions, revocations, and what compaction leaves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pop_before_smtp._record import Checkpoint
from pop_before_smtp._state import Login, State, fold
from pop_before_smtp.api import LOGIN, LOGOUT, LoginEvent

NOON = 1_800_000_000.0
LOGFILE = "/var/log/mail.log"


def event(address: str = "192.0.2.7", at: float = NOON, **fields: Any) -> LoginEvent:
    usual = {"kind": LOGIN, "user": "ann", "service": "imap", "tls": True, "parser": "dovecot", "source": LOGFILE}
    return LoginEvent(address=address, at=at, received=at, **(usual | fields))


def checkpoint(offset: int, **fields: Any) -> Checkpoint:
    usual = {"device": 2049, "inode": 77, "fingerprint": b"\x00\xffhash", "fingerprint_size": 256}
    return Checkpoint(offset=offset, **(usual | fields))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.open(tmp_path / "state")
    yield opened
    opened.close()


def settled_size(state: State) -> int:
    state._rows("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return (state.directory / "state.sqlite").stat().st_size


def test_everything_of_a_login_is_there_after_a_restart(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.append([event(position=130)], {})
    state.close()
    state = State.open(tmp_path)
    assert list(state.logins(0)) == [
        Login(
            address="192.0.2.7",
            user="ann",
            service="imap",
            tls=True,
            source=LOGFILE,
            parser="dovecot",
            position=130,
            first=NOON,
            last=NOON,
        )
    ]
    state.close()


@pytest.mark.parametrize("tls", [True, False, None])
def test_tls_is_true_false_or_unknown(state: State, tls: bool | None) -> None:
    state.append([event(tls=tls)], {})
    assert next(state.logins(0)).tls is tls


def test_logins_with_and_without_tls_are_not_one_series(state: State) -> None:
    state.append([event(at=NOON, tls=True), event(at=NOON + 60, tls=False)], {})
    state.compact(0)
    assert [(login.tls, login.last) for login in state.logins(0)] == [(True, NOON), (False, NOON + 60)]


@pytest.mark.parametrize("user", [None, "", "ann", "jörg", "\udcff\udc80 x", "a\0b", "o'hara; --", "名" * 300])
def test_user_and_service_come_back_whatever_they_are(state: State, user: str | None) -> None:
    state.append([event(user=user, service=user)], {})
    state.compact(0)
    state.append([event(user=user, service=user)], {})
    (login,) = fold(state.logins(0))
    assert (login.user, login.service) == (user, user)


def test_the_logins_of_a_batch_are_folded_and_the_last_one_says_where(state: State) -> None:
    state.append([event(at=NOON + 9, position=900), event(at=NOON, position=0), event(at=NOON + 5, position=500)], {})
    (login,) = state.logins(0)
    assert (login.first, login.last, login.position) == (NOON, NOON + 9, 900)


def test_logouts_are_not_stored(state: State) -> None:
    state.append([event(kind=LOGOUT)], {})
    assert list(state.logins(0)) == []


def test_logins_come_in_the_order_of_their_last_time_and_not_before_since(state: State) -> None:
    for seconds in (30, 10, 20, 0):
        state.append([event(f"192.0.2.{seconds}", NOON + seconds)], {})
    assert [login.address for login in state.logins(NOON + 10)] == ["192.0.2.10", "192.0.2.20", "192.0.2.30"]


def test_one_address_can_be_asked_for(state: State) -> None:
    state.append([event(), event("2001:db8::7")], {})
    assert [login.address for login in state.logins(0, "2001:db8::7")] == ["2001:db8::7"]


def test_a_position_of_any_file_system_comes_back(state: State) -> None:
    here = {LOGFILE: checkpoint(10), "odd \udcff": checkpoint(0, device=2**64 - 1, inode=2**63, fingerprint=b"")}
    state.append([], here)
    state.append([], {LOGFILE: checkpoint(20)})
    assert state.positions() == here | {LOGFILE: checkpoint(20)}


def test_what_the_matcher_remembers_is_replaced_as_a_whole(state: State) -> None:
    first = [
        (LOGFILE, b"host", b"spop3d", "12", NOON, "192.0.2.7"),
        ("\udcff", b"\xff", b"", "\udcfe", NOON, "192.0.2.8"),
    ]
    state.append([], {}, first)
    state.append([], {})
    assert state.connects() == first
    state.append([], {}, first[1:])
    assert state.connects() == first[1:]


def test_the_latest_revocation_counts_and_old_ones_are_forgotten(state: State) -> None:
    state.append([], {}, revocations={"192.0.2.7": NOON, "\udcff": NOON + 5})
    state.append([], {}, revocations={"192.0.2.7": NOON - 60})
    assert state.revocations() == {"192.0.2.7": NOON, "\udcff": NOON + 5}
    state.compact(NOON + 1)
    assert state.revocations() == {"\udcff": NOON + 5}


def test_our_maps_are_known(state: State) -> None:
    relay, odd = Path("/var/lib/relay.lmdb"), Path("/tmp/\udcff\n")
    state.own(relay)
    state.own(odd, cleared=True)
    assert (state.owned(), state.cleared()) == ({relay, odd}, {odd})
    state.own(odd)
    assert (state.owned(), state.cleared()) == ({relay, odd}, set())


def test_compaction_keeps_the_first_login_of_a_series_that_goes_on(state: State) -> None:
    for minutes in range(0, 100, 10):
        state.append([event(at=NOON + 60 * minutes)], {})
        state.append([event("192.0.2.8", NOON)], {})
        state.compact(NOON + 60 * (minutes - 30))
    (login,) = state.logins(0)
    assert (login.address, login.first, login.last) == ("192.0.2.7", NOON, NOON + 60 * 90)


def test_the_file_stays_small_when_the_same_addresses_log_in_for_ever(state: State) -> None:
    addresses = [f"198.51.100.{number}" for number in range(100)]
    for minute in range(1000):
        state.append([event(address, NOON + minute) for address in addresses], {LOGFILE: checkpoint(minute)})
        if minute % 100 == 99:
            state.compact(NOON)
    assert len(list(state.logins(0))) == len(addresses)
    assert settled_size(state) < 200_000


def test_room_of_a_rush_is_given_back(state: State) -> None:
    for block in range(10):
        state.append([event(f"10.{block}.{number >> 8}.{number & 255}") for number in range(3000)], {})
    state.compact(NOON)
    assert settled_size(state) > 2_000_000
    state.compact(NOON + 1)
    state.append([event()], {})
    assert settled_size(state) < 200_000


ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])
TIMES = st.floats(NOON, NOON + 1000)
USERS = st.sampled_from([None, "ann", "\udcff"])
BATCHES = st.lists(st.builds(event, ADDRESSES, TIMES, user=USERS, tls=st.sampled_from([True, None])), max_size=5)
STEPS = st.lists(st.one_of(BATCHES, TIMES, st.just("restart")), max_size=12)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_for_each_address_the_last_login_that_was_not_compacted_away_is_known(steps: list[Any]) -> None:
    last: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        state = State.open(Path(folder))
        for step in steps:
            if step == "restart":
                state.close()
                state = State.open(Path(folder))
            elif isinstance(step, float):
                state.compact(step)
                last = {address: at for address, at in last.items() if at >= step}
            else:
                state.append(step, {})
                for one in step:
                    last[one.address] = max(last.get(one.address, 0.0), one.at)
        logins = list(state.logins(0))
        state.close()
    assert [login.last for login in logins] == sorted(login.last for login in logins)
    known: dict[str, float] = {}
    for login in logins:
        known[login.address] = max(known.get(login.address, 0.0), login.last)
    assert known == last
    assert {(login.address, login.user, login.tls) for login in fold(logins)} == {
        (login.address, login.user, login.tls) for login in logins
    }
    assert len(fold(logins)) == len({(login.address, login.user, login.tls) for login in logins})
