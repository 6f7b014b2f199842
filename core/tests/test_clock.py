"""The lease clock: steps and suspend only ever shorten a lease."""

import time

from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp._clock import Clock
from pop_before_smtp.testing import FakeClock


def test_it_runs_like_any_clock() -> None:
    clock = FakeClock()
    clock.advance(90)
    assert clock.now() == 90


def test_a_step_back_does_not_stop_it() -> None:
    clock = FakeClock()
    clock.step(-3600)
    clock.advance(10)
    assert clock.now() == 10


def test_a_step_forwards_counts_once() -> None:
    clock = FakeClock()
    clock.step(600)
    assert clock.now() == 600
    clock.step(-600)
    clock.advance(10)
    assert clock.now() == 600
    clock.advance(600)
    assert clock.now() == 610


@given(st.lists(st.tuples(st.sampled_from(["advance", "step"]), st.floats(-1e6, 1e6)), max_size=30))
def test_it_never_goes_back_and_never_lags(moves: list[tuple[str, float]]) -> None:
    clock = FakeClock()
    passed = last = 0.0
    for move, seconds in moves:
        if move == "advance":
            clock.advance(abs(seconds))
            passed += abs(seconds)
        else:
            clock.step(seconds)
        now = clock.now()
        assert now >= last
        assert now >= passed - 1e-3, "a lease must not outlive real time"
        last = now


def test_the_real_one_moves() -> None:
    clock = Clock()
    assert 0 <= clock.now() <= 1
    assert abs(clock.wall() - time.time()) < 1
