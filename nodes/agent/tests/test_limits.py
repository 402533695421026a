"""The owner's limits as pure rules: hours of the week, traffic, what is accepted."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.agent import limits
from nodes.agent.protocol import Hours, Limits, Mode

MONDAY = datetime(2026, 11, 23, tzinfo=timezone.utc)
openings = st.builds(Hours, st.integers(0, 6), st.integers(0, 1439), st.integers(0, 1440))


def at(minute: int) -> datetime:
    return MONDAY + timedelta(minutes=minute)


@pytest.mark.parametrize(
    ("moment", "mode"),
    [
        ("08:59", Mode.CLOSED),
        ("09:00", Mode.OPEN),
        ("16:49", Mode.OPEN),
        ("16:50", Mode.DRAINING),
        ("17:00", Mode.CLOSED),
    ],
)
def test_a_working_day(moment: str, mode: Mode) -> None:
    hour, minute = moment.split(":")
    asked = Limits(hours=(Hours(0, 540, 1020),))
    assert limits.by_clock(asked, at(int(hour) * 60 + int(minute))).mode is mode


def test_hours_that_touch_are_one_opening_and_midnight_is_no_end() -> None:
    nights = Limits(
        hours=tuple(Hours(day, 1320, 1440) for day in range(7)) + tuple(Hours(day, 0, 360) for day in range(7))
    )
    assert limits.by_clock(nights, at(1435)).mode is Mode.OPEN
    over = Limits(hours=(Hours(6, 1320, 360),))  # Sunday night ends on Monday
    assert limits.by_clock(over, at(300)).mode is Mode.OPEN
    assert limits.by_clock(over, at(355)).mode is Mode.DRAINING
    assert limits.by_clock(over, at(360)).mode is Mode.CLOSED


def test_the_owners_clock_counts_daylight_saving_included() -> None:
    asked = Limits(hours=tuple(Hours(day, 540, 1020) for day in range(7)), time_zone="Europe/Berlin")
    winter, summer = (datetime(2026, month, 6, 7, 30, tzinfo=timezone.utc) for month in (1, 7))
    assert (limits.by_clock(asked, winter).mode, limits.by_clock(asked, summer).mode) == (Mode.CLOSED, Mode.OPEN)


def test_a_zone_the_device_does_not_know_closes_it() -> None:
    asked = Limits(hours=(Hours(0),), time_zone="Mars/Base")
    assert limits.by_clock(asked, MONDAY).mode is Mode.CLOSED


@given(st.lists(openings, min_size=1, max_size=6), st.integers(0, 7 * 1440 - 1), st.integers(0, 60))
def test_open_is_what_any_opening_covers_and_draining_only_comes_before_closed(
    hours: "list[Hours]", minute: int, drain: int
) -> None:
    asked = Limits(hours=tuple(hours), drain_minutes=drain)

    def covered(when: int) -> bool:
        return any((when - h.day * 1440 - h.opens) % 10080 < ((h.closes - h.opens - 1) % 1440) + 1 for h in hours)

    mode = limits.by_clock(asked, at(minute)).mode
    assert (mode is Mode.CLOSED) == (not covered(minute))
    soon = any(not covered(minute + step) for step in range(drain + 1))
    assert (mode is Mode.DRAINING) == (covered(minute) and soon)


@pytest.mark.parametrize(
    ("used", "mode"), [(0, Mode.OPEN), (979, Mode.OPEN), (980, Mode.DRAINING), (1000, Mode.CLOSED)]
)
def test_traffic(used: int, mode: Mode) -> None:
    assert limits.by_traffic(Limits(transfer_bytes_per_month=1000), used).mode is mode
    assert limits.by_traffic(Limits(), used).mode is Mode.OPEN


def test_faults_name_the_field() -> None:
    wrong = Limits(
        -1, drain_minutes=999, profiles=("privileged",), hours=(Hours(9),), blocked_images=("",), time_zone=""
    )
    assert set(limits.faults(wrong)) == {
        "cpu_millis",
        "drain_minutes",
        "profiles",
        "hours",
        "blocked_images",
        "time_zone",
    }
    assert limits.faults(Limits()) == {}
