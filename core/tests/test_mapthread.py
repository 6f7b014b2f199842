"""Bringing a map to what its outlet wants: throttle, retry, and the empty map as last resort."""

import logging
from pathlib import Path

import pytest
from pop_before_smtp import Changes, Map, MapError
from pop_before_smtp._mapthread import MapThread, Upkeep


class FakeMap(Map):
    """Remembers what readers would see, and fails when told to."""

    def __init__(self) -> None:
        self.path = Path("/map")
        self.seen: set[str] | None = None
        self.writes = 0
        self.broken: str | None = None
        self.clearable = True
        self.closed = False
        self.cost = 0.0
        self.time = 0.0

    def write(self, changes: Changes) -> None:
        self.time += self.cost
        if self.broken:
            raise MapError(self.broken)
        assert changes.current >= changes.added
        assert not changes.current & changes.removed
        self.seen = set(changes.current)
        self.writes += 1

    def clear(self) -> None:
        if not self.clearable:
            raise MapError("no such file")
        self.seen = set()

    def close(self) -> None:
        self.closed = True

    def clock(self) -> float:
        return self.time


def built(**settings: float) -> tuple[FakeMap, Upkeep]:
    target = FakeMap()
    upkeep = Upkeep(target, "test", settings.get("min_interval", 1.0))
    upkeep.take({"192.0.2.1": True}, 0.0)
    assert upkeep.due() == 0.0
    assert upkeep.work(target.clock)
    return target, upkeep


def rested() -> tuple[FakeMap, Upkeep]:
    """Return a map that was written a second time, at 0 s."""
    target, upkeep = built()
    upkeep.take({"192.0.2.2": True}, 0.0)
    assert upkeep.due() == 0.0, "the second write need not wait: the first built what the state remembered"
    assert upkeep.work(target.clock)
    return target, upkeep


def test_the_first_write_builds_the_map_even_of_nothing() -> None:
    target = FakeMap()
    upkeep = Upkeep(target, "test", 1.0)
    assert upkeep.due() == 0.0
    assert upkeep.work(target.clock)
    assert target.seen == set()
    assert upkeep.due() is None


def test_what_changes_no_key_writes_nothing() -> None:
    target, upkeep = built()
    upkeep.take({"192.0.2.1": True, "192.0.2.9": False}, 0.0)
    assert upkeep.work(target.clock)
    assert target.writes == 1


def test_rewrites_rest_between_two_writes() -> None:
    target, upkeep = rested()
    upkeep.take({"192.0.2.4": True}, 0.1)
    assert upkeep.due() == 1.0
    target.time, target.cost = 1.0, 0.5
    upkeep.work(target.clock)
    upkeep.take({"192.0.2.3": True}, 1.6)
    assert upkeep.due() == pytest.approx(1.5 + 10 * 0.5)
    assert target.seen == {"192.0.2.1", "192.0.2.2", "192.0.2.4"}


def test_a_first_build_that_fails_closes_what_an_earlier_run_left_open() -> None:
    target = FakeMap()
    target.seen, target.broken = {"192.0.2.9"}, "no space left"
    upkeep = Upkeep(target, "test", 1.0)
    upkeep.take({}, 0.0)
    while target.seen and target.time < 60:
        upkeep.work(target.clock)
        target.time = (upkeep.due() or 0.0) if target.seen else target.time
    assert (target.seen, target.time) == (set(), 10.0)


def test_a_failure_is_reported_once_and_mended() -> None:
    target, upkeep = built()
    target.broken = "no space left"
    upkeep.take({"192.0.2.2": True}, 2.0)
    target.time = 2.0
    for _ in range(3):
        assert not upkeep.work(target.clock)
        target.time = upkeep.due() or 0.0
    assert target.seen == {"192.0.2.1"}
    assert upkeep.problem == "no space left"
    target.broken = None
    assert upkeep.work(target.clock)
    assert target.seen == {"192.0.2.1", "192.0.2.2"}
    assert upkeep.problem is None


def test_a_failing_map_is_logged_once_per_streak(caplog: pytest.LogCaptureFixture) -> None:
    target, upkeep = built()
    target.broken = "no space left"
    upkeep.take({"192.0.2.2": True}, 0.0)
    for _ in range(3):
        upkeep.work(target.clock)
    assert [record.message for record in caplog.records] == ["test: no space left; trying again"]


def test_a_removal_that_cannot_be_written_empties_the_map_ten_seconds_later() -> None:
    target, upkeep = built()
    target.broken = "no space left"
    target.time = 5.0
    upkeep.take({"192.0.2.1": False}, 5.0)
    while target.seen and target.time < 60:
        upkeep.work(target.clock)
        if target.seen:
            target.time = upkeep.due() or 0.0
    assert target.seen == set()
    assert target.time == 15.0
    target.broken = None
    upkeep.take({"192.0.2.2": True}, 16.0)
    assert upkeep.work(target.clock)
    assert target.seen == {"192.0.2.2"}


def test_an_addition_that_cannot_be_written_empties_nothing() -> None:
    target, upkeep = built()
    target.broken = "no space left"
    upkeep.take({"192.0.2.2": True}, 0.0)
    for second in range(30):
        target.time = float(second)
        upkeep.work(target.clock)
    assert target.seen == {"192.0.2.1"}


def test_a_map_that_cannot_even_be_emptied_is_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    target, upkeep = built()
    target.broken, target.clearable, target.time = "gone", False, 20.0
    upkeep.take({"192.0.2.1": False}, 0.0)
    upkeep.work(target.clock)
    assert caplog.records[-1].levelno == logging.CRITICAL


@pytest.mark.parametrize(("clear", "left"), [(True, set()), (False, {"192.0.2.1", "192.0.2.2"})])
def test_the_end_leaves_an_empty_map_or_a_right_one(clear: bool, left: set[str]) -> None:
    target, upkeep = built()
    upkeep.take({"192.0.2.2": True}, 0.0)
    upkeep.finish(clear=clear)
    assert target.seen == left
    assert target.closed


def test_a_clean_end_on_a_full_disk_still_closes_the_relay() -> None:
    target, upkeep = built()
    target.broken = "no space left"
    upkeep.finish(clear=True)
    assert target.seen == set()


def test_the_words_of_the_original(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    target, upkeep = built()
    upkeep.take({"192.0.2.1": False, "192.0.2.2": True}, 2.0)
    upkeep.work(target.clock)
    texts = [record.message for record in caplog.records]
    assert texts == ["The database holds 1 IPs: test", "added 192.0.2.2 to DB", "removed 192.0.2.1 from DB"]


def test_the_thread_writes_and_ends() -> None:
    target = FakeMap()
    thread = MapThread(target, "test", 0.0)
    thread.start({"192.0.2.1": True})
    thread.settled().result(5)
    assert target.seen == {"192.0.2.1"}
    thread.submit({"192.0.2.2": True})
    thread.close(clear=False)
    assert target.seen == {"192.0.2.1", "192.0.2.2"}
    assert thread.ended.result(5) is None


def test_a_bug_in_the_map_ends_the_thread_and_shows() -> None:
    class Buggy(FakeMap):
        def write(self, changes: Changes) -> None:
            raise ZeroDivisionError(changes)

    thread = MapThread(Buggy(), "test", 0.0)
    thread.start({})
    with pytest.raises(ZeroDivisionError):
        thread.ended.result(5)
