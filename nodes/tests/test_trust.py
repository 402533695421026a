"""Reliability: what was seen of a device, in one figure; the weights on the page are those of the code."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from interchain_site.testing.devices import make_device, make_workload
from nodes import reliability as figures
from nodes.agent.protocol import Observed, Reason
from nodes.models import DeviceHistory, GatewayCount, Lease
from nodes.reliability import NEWCOMER, History, reliability
from nodes.services import placement, trust
from nodes.states import DeviceState, transition_device

DAY = 86_400
GOOD = History(online_seconds=300 * DAY, starts=100, checks_passed=60)

COUNTS = st.integers(0, 10**12)
histories = st.builds(
    History,
    online_seconds=COUNTS, away_seconds=COUNTS, starts=COUNTS, failed_starts=COUNTS,
    checks_passed=COUNTS, checks_failed=COUNTS, capped_days=st.integers(0, 30), claimed_bytes=COUNTS, explained_bytes=COUNTS,
)  # fmt: skip
BAD = ("away_seconds", "failed_starts", "checks_failed", "capped_days", "claimed_bytes")
GOOD_THINGS = ("online_seconds", "starts", "checks_passed", "explained_bytes")


@given(histories)
def test_it_is_a_figure_in_thousandths(seen):
    assert 0 <= reliability(seen) <= 1000


@given(histories, st.sampled_from(BAD), st.integers(1, 10**9))
def test_nothing_bad_makes_it_better(seen, name, more):
    worse = History(**{**vars(seen), name: getattr(seen, name) + more})
    assert reliability(worse) <= reliability(seen)


@given(histories, st.sampled_from(GOOD_THINGS), st.integers(1, 10**9))
def test_nothing_good_makes_it_worse(seen, name, more):
    better = History(**{**vars(seen), name: getattr(seen, name) + more})
    assert reliability(better) >= reliability(seen)


def test_a_newcomer_stands_between_the_proven_and_the_failing():
    failing = History(online_seconds=20 * DAY, away_seconds=20 * DAY, starts=10, failed_starts=10)
    assert reliability(failing) < NEWCOMER < reliability(GOOD)


def test_the_page_shows_the_weights_of_the_code():
    page = Path("docs/trust.md").read_text()
    found = {name: int(weight) for name, weight in re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.M)}
    assert found == figures.WEIGHTS
    assert sum(figures.WEIGHTS.values()) == 1000
    for number in (figures.CAPPED_DAY_COSTS, NEWCOMER, figures.TOLERATED_BYTES_PER_HOUR // 10**6):
        assert re.search(rf"\b{number}\b", page)


@pytest.fixture
def clock():
    with time_machine.travel(timezone.now(), tick=False) as travelling:
        yield travelling


def later(clock, seconds: int) -> None:
    """Let time pass, observed every minute as in the schedule."""
    for _ in range(seconds // 60):
        clock.shift(60)
        trust.observe()


def history(box) -> DeviceHistory:
    return DeviceHistory.objects.get(device=box.device)


def test_time_online_and_away_is_counted_apart(box, clock):
    trust.observe()
    later(clock, 600)
    transition_device(box.device, DeviceState.OFFLINE)
    later(clock, 300)
    assert (history(box).online_seconds, history(box).away_seconds) == (600, 300)


def test_what_the_owner_chose_is_not_held_against_the_device(box, clock):
    trust.observe()
    transition_device(box.device, DeviceState.PAUSED)
    later(clock, 600)
    assert (history(box).online_seconds, history(box).away_seconds) == (0, 0)


def test_a_portal_that_did_not_look_counts_five_minutes_at_most(box, clock):
    trust.observe()
    clock.shift(DAY // 2)
    trust.observe()
    assert history(box).online_seconds == 300


def test_looking_twice_counts_once(box, clock):
    trust.observe()
    clock.shift(60)
    trust.observe()
    trust.observe()
    assert history(box).online_seconds == 60


def test_starts_and_those_the_device_failed(box, clock):
    trust.observe()
    clock.shift(30)
    box.runs(placement.open_lease(workload=make_workload("good"), by=None))
    theirs = placement.open_lease(workload=make_workload("theirs"), by=None)
    box.says(theirs, Observed.FAILED, reason=Reason.EXITED)
    ours = placement.open_lease(workload=make_workload("ours"), by=None)
    box.says(ours, Observed.FAILED, reason=Reason.DEVICE_ERROR)
    clock.shift(30)
    trust.observe()
    assert (history(box).starts, history(box).failed_starts) == (1, 1)


def test_older_things_halve_in_a_month(box, clock):
    trust.observe()
    DeviceHistory.objects.update(online_seconds=1_000_000)
    transition_device(box.device, DeviceState.PAUSED)
    for _ in range(30):
        clock.shift(DAY)
        trust.observe()
    assert history(box).online_seconds == pytest.approx(500_000, rel=0.02)


def test_the_figure_is_stored_where_placement_reads_it(box, cast, clock):
    other = make_device(cast.owner, "Other")
    trust.observe()
    later(clock, 3600)
    DeviceHistory.objects.filter(device=other.device).update(checks_failed=5)
    assert trust.rate() == 2
    assert trust.rate() == 0
    for each in (box.device, other.device):
        each.refresh_from_db()
    assert other.device.reliability < NEWCOMER < box.device.reliability


def test_days_with_capped_claims_cost(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    box.measures(lease, uptime=2**62)
    trust.observe()
    trust.rate()
    box.device.refresh_from_db()
    assert trust.capped_days(box.device)[box.device.pk] == 1
    assert box.device.reliability == NEWCOMER - figures.WEIGHTS["claims"] * figures.CAPPED_DAY_COSTS // 1000


HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("claimed", "seen", "part"),
    [(10**9, 5 * 10**8, 1000), (10**7, 0, 1000), (10**9, 0, 10), (10**9, 2 * 10**8, 410), (0, 10**9, 1000)],
    ids=["twice", "health checks", "nobody saw it", "five times", "less than was seen"],
)
def test_what_no_gateway_saw_costs(box, claimed, seen, part):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    Lease.objects.update(opened_at=timezone.now() - timedelta(hours=1))
    box.measures(lease, transfer=claimed, uptime=HOUR_MS)
    GatewayCount.objects.create(
        workload_id=lease.workload_id, month=timezone.now().date().replace(day=1), bytes=seen, updated_at=timezone.now()
    )
    trust.observe()
    trust.rate()
    box.device.refresh_from_db()
    assert figures.parts(trust.seen_of(history(box), 0, trust.traffic_of(box.device)))["traffic"] == part
    assert NEWCOMER - box.device.reliability == -(-figures.WEIGHTS["traffic"] * (1000 - part) // 1000)
    long_ago = timezone.now() - timedelta(days=31)
    Lease.objects.update(closed_at=long_ago, stopped_at=long_ago, state="stopped", action="stop")
    assert trust.traffic_of(box.device) is None, "forgotten after a month"


def test_queries_do_not_grow_with_devices(box, cast, clock, django_assert_max_num_queries):
    for number in range(5):
        make_device(cast.owner, f"Box {number}")
    trust.observe()
    clock.shift(60)
    with django_assert_max_num_queries(14):
        trust.observe()
    DeviceHistory.objects.update(checks_failed=3)
    with django_assert_max_num_queries(9):
        trust.rate()
