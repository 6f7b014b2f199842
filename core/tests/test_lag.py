"""A source in another time zone is named, and none for any other reason."""

from __future__ import annotations

import pytest
from pop_before_smtp._lag import Lag
from test_engine import WALL, batch, engine, line

HOUR = 3600.0


def test_logins_that_are_all_whole_hours_old_name_a_time_zone(caplog: pytest.LogCaptureFixture) -> None:
    one = engine()
    for wall in range(int(WALL), int(WALL) + 50, 10):
        late = line(wall - 2 * HOUR - 1, "login from 203.0.113.7")
        assert one.feed(batch(late, received=wall), 0.0, wall) == []
    (record,) = caplog.records
    assert record.getMessage() == (
        "log: every login is 2 hours old when it comes and worth no lease; is that another time zone? "
        "Set timezone in its [[source]], or mend the clock of its host"
    )


@pytest.mark.parametrize(
    "lines",
    [
        [(0, 2 * HOUR), (0, 2 * HOUR), (0, 2 * HOUR), (0.5, 2 * HOUR)],  # read at once
        [(0, 2 * HOUR), (5, 2 * HOUR), (10, 3 * HOUR), (15, 2 * HOUR), (20, 2 * HOUR)],
        [(0, 2 * HOUR), (5, 2 * HOUR), (10, 1.9 * HOUR), (15, 2 * HOUR), (20, 2 * HOUR)],
        [(n, 2 * HOUR - 20 * n) for n in range(100)],  # a queue that is caught up with
    ],
)
def test_logins_that_are_late_for_another_reason_name_none(
    lines: list[tuple[float, float]], caplog: pytest.LogCaptureFixture
) -> None:
    lag = Lag()
    for wall, late in lines:
        lag.note("log", late, WALL + wall)
    assert not caplog.records
