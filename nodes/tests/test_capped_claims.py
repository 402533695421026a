"""What a device can possibly have used: each lease by itself, all of them together, and what is kept of a claim above."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import BENCHMARK, CAPACITY, GIGABYTE, make_device, make_workload
from nodes.agent.protocol import Meter, Method
from nodes.errors import Invalid
from nodes.models import CappedClaim, Device, Lease, MeterTotal
from nodes.services import metering, placement, plausibility
from nodes.services.plausibility import Bounds, Counted

HOUR = timedelta(hours=1)
LINK = 10_000_000
SECONDS_SINCE = 3600 + 30  # an hour and the clocks' skew
LATER_SECONDS = 60  # a test may take so long on a busy machine


def opened(box, name: str, ago: timedelta = HOUR, **changes) -> Lease:
    """A lease that runs since then."""
    lease = placement.open_lease(workload=make_workload(name, **changes), by=None)
    box.runs(lease)
    Lease.objects.filter(pk=lease.pk).update(opened_at=datetime.now(UTC) - ago)
    lease.refresh_from_db()
    return lease


@pytest.fixture
def slow(cast):
    """A device whose network interface moves 10 MB/s each way."""
    return make_device(cast.owner, capacity=dataclasses.replace(CAPACITY, link_bytes_per_second=LINK))


def sums(meter: Meter) -> int:
    return sum(MeterTotal.objects.filter(meter=meter.value).values_list("total", flat=True))


def test_transfer_is_held_to_what_the_devices_link_can_carry_both_ways(slow):
    lease = opened(slow, "app")
    slow.measures(lease, transfer=2**62)
    assert 2 * LINK * SECONDS_SINCE <= sums(Meter.TRANSFER) <= 2 * LINK * (SECONDS_SINCE + LATER_SECONDS)


def test_a_device_that_does_not_know_its_link_is_taken_to_have_a_usual_one(box):
    box.measures(opened(box, "app"), transfer=2**62)
    usual = 2 * plausibility.USUAL_LINK_BYTES_PER_SECOND
    assert usual * SECONDS_SINCE <= sums(Meter.TRANSFER) <= usual * (SECONDS_SINCE + LATER_SECONDS)


def test_two_leases_share_one_link(slow):
    first, second = opened(slow, "one"), opened(slow, "two")
    slow.measures(first, transfer=2**62)
    slow.measures(second, transfer=2**62)
    assert sums(Meter.TRANSFER) <= 2 * LINK * (SECONDS_SINCE + LATER_SECONDS)


def test_two_leases_in_one_batch_share_one_link(slow):
    readings = [slow.reading(opened(slow, name), Meter.TRANSFER, 2**62) for name in ("one", "two", "three")]
    metering.ingest(device=slow.device, jws=slow.batch(*readings))
    assert sums(Meter.TRANSFER) <= 2 * LINK * (SECONDS_SINCE + LATER_SECONDS)


def test_a_lease_that_was_there_before_takes_nothing_from_one_that_came_later(slow):
    """A day of the link, used in full by an old lease while it was alone, and then two honest hours together."""
    old = opened(slow, "old", timedelta(hours=24))
    slow.measures(old, transfer=2 * LINK * 23 * 3600)
    new = opened(slow, "new")
    slow.measures(new, transfer=2 * LINK * 3600)
    assert not CappedClaim.objects.exists()
    assert MeterTotal.objects.get(lease=new).total == 2 * LINK * 3600


def test_idle_years_of_a_device_are_no_credit_for_its_new_leases(slow):
    """The old lease's hours count for it alone: what the later two claim, the link must have carried since they opened."""
    opened(slow, "old", timedelta(days=700))
    for name in ("one", "two"):
        slow.measures(opened(slow, name), transfer=2**62)
    assert sums(Meter.TRANSFER) <= 2 * LINK * (SECONDS_SINCE + LATER_SECONDS)


def test_leases_that_ended_count_in_the_hours_they_were_there(slow):
    """Opening and closing leases one after the other makes no more link than there is."""
    for number in range(4):
        lease = opened(slow, f"app{number}", HOUR - timedelta(minutes=number))
        slow.measures(lease, transfer=2**62)
        Lease.objects.filter(pk=lease.pk).update(
            state="stopped", action="stop", is_newest=True, closed_at=datetime.now(UTC), stopped_at=datetime.now(UTC)
        )
    assert sums(Meter.TRANSFER) <= 2 * LINK * (SECONDS_SINCE + LATER_SECONDS)


def test_compute_of_all_leases_is_held_to_the_devices_cores(cast):
    """The owner lends two cores; each lease may use one and a half for a while, if Docker's quota lets it, but not both."""
    box = make_device(cast.owner, capacity=dataclasses.replace(CAPACITY, cpu_millis=2000))
    leases = [opened(box, name, cpu_millis=1000) for name in ("one", "two")]
    Lease.objects.update(cpu_millis=1500)
    for lease in leases:
        box.measures(lease, compute=2**62)
    rate = BENCHMARK.instructions_per_second * 2 * plausibility.CALIBRATED_MARGIN_PERCENT // 100
    assert rate * SECONDS_SINCE <= sums(Meter.COMPUTE) <= rate * (SECONDS_SINCE + LATER_SECONDS)


def test_storage_of_all_leases_is_held_to_the_devices_disk(cast):
    box = make_device(cast.owner, capacity=dataclasses.replace(CAPACITY, disk_bytes=2 * GIGABYTE))
    leases = [opened(box, name, disk_bytes=GIGABYTE // 2, volume_path="/data") for name in ("one", "two")]
    Lease.objects.update(disk_bytes=2 * GIGABYTE)
    for lease in leases:
        box.measures(lease, storage=2**62)
    assert sums(Meter.STORAGE) <= 2 * GIGABYTE * (SECONDS_SINCE + LATER_SECONDS)


def test_a_lease_without_a_volume_stores_nothing(box):
    box.measures(opened(box, "app"), storage=1)
    assert sums(Meter.STORAGE) == 0


def test_an_owner_who_lends_less_now_keeps_what_was_used_before(slow):
    lease = opened(slow, "app", cpu_millis=2000)
    type(slow.device).objects.update(cpu_millis=2000)
    slow.device.refresh_from_db()
    honest = BENCHMARK.instructions_per_second * 2 * 3600
    slow.measures(lease, compute=honest)
    assert sums(Meter.COMPUTE) == honest


def proven(box, *rates: tuple[timedelta | None, int]) -> None:
    """Spot checks have proven these rates, so long ago each; None: from enrolment on."""
    now = datetime.now(UTC)
    changes = [((now - ago).isoformat() if ago else "", rate) for ago, rate in rates]
    Device.objects.filter(pk=box.device.pk).update(
        benchmark={**box.device.benchmark, "proven_rate": rates[-1][1], "rates": changes}
    )
    box.device.refresh_from_db()


def of_core(rate: int, seconds: float) -> int:
    return int(rate * plausibility.CALIBRATED_MARGIN_PERCENT / 100 * seconds)


RATE = BENCHMARK.instructions_per_second


@pytest.mark.parametrize("cores", [1000, 4000])
def test_a_lower_rate_that_was_proven_takes_nothing_of_the_use_before(box, cores):
    """Ten hours at the rate of enrolment; a quarter of it since the last one, with a minute to hear of it."""
    lease = opened(box, "app", timedelta(hours=10), cpu_millis=cores)
    proven(box, (None, RATE), (HOUR, RATE // 4))
    possible = (of_core(RATE, 9 * 3600 + 60) + of_core(RATE // 4, 3600 - 60 + 30)) * cores // 1000
    box.measures(lease, compute=2**62)
    assert possible <= sums(Meter.COMPUTE) <= possible + of_core(RATE // 4, LATER_SECONDS) * cores // 1000


def test_a_higher_rate_that_was_proven_gives_nothing_for_the_time_before(box):
    lease = opened(box, "app", timedelta(hours=10), cpu_millis=1000)
    proven(box, (None, RATE), (HOUR, 4 * RATE))
    box.measures(lease, compute=2**62)
    possible = of_core(RATE, 9 * 3600) + of_core(4 * RATE, SECONDS_SINCE)
    assert possible <= sums(Meter.COMPUTE) <= possible + of_core(4 * RATE, LATER_SECONDS)


def test_a_lease_that_opened_after_the_change_is_bounded_by_the_new_rate_alone(box):
    lease = opened(box, "app", cpu_millis=1000)
    proven(box, (None, RATE), (timedelta(days=3), RATE // 2), (timedelta(days=2), RATE // 4))
    box.measures(lease, compute=2**62)
    assert of_core(RATE // 4, SECONDS_SINCE) <= sums(Meter.COMPUTE) <= of_core(RATE // 4, SECONDS_SINCE + LATER_SECONDS)


@pytest.mark.parametrize("link", [-1, 12_500_000_001])
def test_a_link_no_computer_has_is_refused_at_enrolment(cast, link):
    with pytest.raises(Invalid):
        make_device(cast.owner, capacity=dataclasses.replace(CAPACITY, link_bytes_per_second=link))


# --- an honest device, whatever it does --------------------------------------------------------------------------


@st.composite
def honest_lives(draw):
    """Leases that come and go on a device over some hours, and what each uses of its link minute by minute."""
    minutes = draw(st.integers(2, 40))
    spans = draw(st.lists(st.tuples(st.integers(0, minutes - 1), st.integers(1, minutes)), min_size=1, max_size=6))
    shares = draw(st.lists(st.integers(0, 100), min_size=len(spans) * minutes, max_size=len(spans) * minutes))
    return minutes, [(opens, min(minutes, opens + length)) for opens, length in spans], shares


@settings(max_examples=150, deadline=None)
@given(life=honest_lives(), told=st.randoms(use_true_random=False))
def test_an_honest_device_is_never_capped_and_a_greedy_one_gets_no_more_than_its_link(life, told):
    minutes, spans, shares = life
    device = Device(capacity={"link_bytes_per_second": LINK, "cpu_millis": 1000, "disk_bytes": 1}, benchmark={})
    start, most = datetime(2026, 1, 1, tzinfo=UTC), 2 * LINK * 60
    ids = [uuid.UUID(int=number) for number in range(len(spans))]
    used, stood = [0] * len(spans), [0] * len(spans)
    for minute in range(minutes):
        present = [n for n, (opens, ends) in enumerate(spans) if opens <= minute < ends]
        parts = [shares[n * minutes + minute] for n in present]
        for n, part in zip(present, parts, strict=True):
            used[n] += most * part // max(100, sum(parts))
        now = start + timedelta(minutes=minute + 1)
        known = [
            counted(ids[n], start + timedelta(minutes=opens), start + timedelta(minutes=ends), stood[n], now)
            for n, (opens, ends) in enumerate(spans)
            if opens <= minute
        ]
        bounds = Bounds(device, known, now)
        order = [n for n, (opens, _) in enumerate(spans) if opens <= minute and told.random() < 0.7]
        told.shuffle(order)
        for n in order:
            stood[n] = bounds.grant(ids[n], Meter.TRANSFER, Method.INTERFACE, used[n])
            assert stood[n] == used[n]
    greedy = Bounds(device, known, now)
    got = [greedy.grant(lease.lease_id, Meter.TRANSFER, Method.INTERFACE, 2**62) for lease in known]
    assert sum(got) <= 2 * LINK * (60 * minutes + 30)


def counted(lease_id, opened_at, ends_at, total, now) -> Counted:
    ended = ends_at if ends_at <= now else None
    return Counted(lease_id, 1, 1000, 1, True, opened_at, ended, ended, None, totals={Meter.TRANSFER: total})


# --- what is kept of it ------------------------------------------------------------------------------------------


def test_each_day_keeps_how_often_a_meter_was_capped_and_the_worst_of_it(box):
    lease = opened(box, "app", volume_path="/data")
    first = box.batch(box.reading(lease, Meter.UPTIME, 10**12), box.reading(lease, Meter.TRANSFER, 5))
    metering.ingest(device=box.device, jws=first)
    box.measures(lease, uptime=10**15, storage=2**62)
    box.measures(lease, uptime=10**13)
    metering.ingest(device=box.device, jws=first)  # resent: noted already
    rows = {row.meter: row for row in CappedClaim.objects.filter(device=box.device, day=datetime.now(UTC).date())}
    assert sorted(rows) == ["storage", "uptime"]
    assert (rows["uptime"].claims, rows["uptime"].claimed) == (3, 10**15)
    assert 3_600_000 <= rows["uptime"].allowed <= 3_600_000 + (30 + LATER_SECONDS) * 1000
    assert (rows["storage"].claims, rows["storage"].claimed) == (1, 2**62)


def test_a_hundred_capped_readings_write_four_rows_and_four_traces(box):
    placed = [
        opened(box, f"app{number}", volume_path="/data", cpu_millis=100, memory_bytes=2**24, disk_bytes=2**24)
        for number in range(25)
    ]
    meters = (Meter.TRANSFER, Meter.STORAGE, Meter.COMPUTE, Meter.UPTIME)
    metering.ingest(
        device=box.device, jws=box.batch(*(box.reading(lease, meter, 2**62) for lease in placed for meter in meters))
    )
    assert sorted(CappedClaim.objects.values_list("meter", "claims")) == [(meter.value, 25) for meter in sorted(meters)]
    assert AuditEvent.objects.filter(action="reading_capped").count() == 4


def test_an_honest_device_leaves_no_trace(box):
    box.measures(
        opened(box, "app", volume_path="/data"), uptime=3_600_000, transfer=10**9, storage=10**12, compute=10**12
    )
    assert not CappedClaim.objects.exists()
