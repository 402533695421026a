"""Totals from readings: whatever order they come in and however often, they add up to the truth, and to no more."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import BENCHMARK, make_workload
from nodes import queries
from nodes.agent.protocol import Action, Meter, Observed, Workload
from nodes.errors import Malformed
from nodes.models import CappedClaim, Lease, MeterTotal, ReadingBatch
from nodes.services import leases, metering, placement, plausibility, totals

HOUR = timedelta(hours=1)


def since(lease: Lease, ago: timedelta) -> Lease:
    """Pretend that the lease was opened so long ago."""
    Lease.objects.filter(pk=lease.pk).update(opened_at=datetime.now(UTC) - ago)
    lease.refresh_from_db()
    return lease


def small(name: str) -> Workload:
    return make_workload(name, cpu_millis=100, memory_bytes=2**24, disk_bytes=2**24)


@pytest.fixture
def lease(box) -> Lease:
    lease = placement.open_lease(workload=make_workload(volume_path="/data"), by=None)
    box.runs(lease)
    return since(lease, HOUR)


# --- any order ---------------------------------------------------------------------------------------------------

METERS = [Meter.TRANSFER, Meter.STORAGE, Meter.COMPUTE, Meter.UPTIME]
growth = st.lists(st.tuples(st.sampled_from(METERS), st.integers(0, 100_000)), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grows=growth, data=st.data())
def test_any_order_and_any_number_of_resends_bills_exactly_the_true_totals(box, lease, grows, data):
    MeterTotal.objects.all().delete()
    ReadingBatch.objects.all().delete()
    truth: dict[Meter, int] = {}
    batches, pending = [], []
    began = datetime.now(UTC) - HOUR
    for step, (meter, by) in enumerate(grows):
        truth[meter] = truth.get(meter, 0) + by
        pending.append(box.reading(lease, meter, truth[meter], at=began + timedelta(seconds=step)))
        if data.draw(st.booleans()) or step == len(grows) - 1:
            batches.append(box.batch(*pending))
            pending = []
    delivered = data.draw(st.permutations(batches + data.draw(st.lists(st.sampled_from(batches), max_size=8))))
    seen: dict[Meter, int] = {}
    for jws in delivered:
        metering.ingest(device=box.device, jws=jws)
        now = queries.usage_totals(lease_ids=[lease.pk])[lease.pk]
        assert all(now.get(meter, 0) >= total for meter, total in seen.items())
        seen = now
    assert seen == truth
    assert ReadingBatch.objects.count() == len(batches)


def test_a_lost_batch_costs_nothing_once_a_later_one_arrives(box, lease):
    box.measures(lease, uptime=1_000)
    box.batch(box.reading(lease, Meter.UPTIME, 2_000))  # never arrives
    box.measures(lease, uptime=3_000)
    assert queries.usage_totals(lease_ids=[lease.pk]) == {lease.pk: {Meter.UPTIME: 3_000}}


def test_a_batch_id_is_remembered_with_its_device_and_a_changed_resend_counts_nothing(box, lease):
    batch_id = str(uuid.uuid4())
    metering.ingest(device=box.device, jws=box.batch(box.reading(lease, Meter.UPTIME, 1_000), id=batch_id))
    answer = metering.ingest(device=box.device, jws=box.batch(box.reading(lease, Meter.UPTIME, 9_000), id=batch_id))
    assert answer.duplicate
    assert MeterTotal.objects.get().total == 1_000


def test_a_total_that_falls_is_ignored_and_noted_but_a_late_one_is_only_late(box, lease):
    box.measures(lease, uptime=5_000)
    late = box.reading(lease, Meter.UPTIME, 4_000, at=datetime.now(UTC) - timedelta(minutes=5))
    metering.ingest(device=box.device, jws=box.batch(late))
    assert not AuditEvent.objects.filter(action="total_fell").exists()
    box.measures(lease, uptime=3_000)
    assert MeterTotal.objects.get().total == 5_000
    assert AuditEvent.objects.get(action="total_fell").data["was"] == 5_000


def test_the_same_meter_twice_in_one_batch_counts_the_higher(box, lease):
    readings = [box.reading(lease, Meter.UPTIME, total) for total in (7, 9, 8)]
    metering.ingest(device=box.device, jws=box.batch(*readings))
    assert MeterTotal.objects.get().total == 9


def test_the_database_itself_keeps_the_higher_total(box, lease):
    box.measures(lease, uptime=5_000)
    now = datetime.now(UTC)
    lower = totals.Total(lease.pk, Meter.UPTIME, 4_000, "clock", now)
    totals.raise_totals([lower])  # as a second process would, that looked before the first had written
    assert MeterTotal.objects.get().total == 5_000


ONE_LOOK_AND_ONE_WRITE = 2
"""On PostgreSQL. SQLite, which writes one table at a time, needs three for the write."""


@pytest.mark.parametrize("number", [1, 100])
def test_a_batch_is_two_statements_however_many_readings(box, lease, number, django_assert_num_queries):
    box.measures(lease, uptime=1)
    placed = [lease, *(placement.open_lease(workload=small(f"app{n}"), by=None) for n in range(24))]
    readings = [box.reading(one, meter, 10) for one in placed for meter in METERS if meter is not Meter.STORAGE]
    readings += [box.reading(lease, Meter.STORAGE, total) for total in range(1, 101 - len(readings))]
    savepoints = 2  # pytest's own transaction is around, so `atomic` makes one and gives it back
    expected = ONE_LOOK_AND_ONE_WRITE if connection.vendor == "postgresql" else 4 + savepoints
    with django_assert_num_queries(expected):
        metering.ingest(device=box.device, jws=box.batch(*readings[:number]))
    assert MeterTotal.objects.count() == (2 if number == 1 else 76)


def test_a_resend_is_two_statements_too_and_a_batch_that_changes_nothing_no_more(
    box, lease, django_assert_max_num_queries
):
    batch = box.batch(box.reading(lease, Meter.UPTIME, 5))
    metering.ingest(device=box.device, jws=batch)
    for again in (batch, box.batch(box.reading(lease, Meter.UPTIME, 5))):
        with django_assert_max_num_queries(ONE_LOOK_AND_ONE_WRITE + 2):
            metering.ingest(device=box.device, jws=again)


def test_a_batch_replayed_after_ninety_days_changes_nothing(agent, lease):
    box = agent.box
    first = box.batch(box.reading(lease, Meter.UPTIME, 3_000_000), box.reading(lease, Meter.TRANSFER, 2**60))
    metering.ingest(device=box.device, jws=first)
    box.measures(lease, uptime=3_100_000)
    before = [list(model.objects.order_by("pk").values()) for model in (MeterTotal, ReadingBatch, CappedClaim)]
    place = queries.leases_with_new_readings(after=0, limit=9)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=90), tick=True):
        # By then the claim that was capped would be possible, and the batch is as well signed as ever.
        answer = agent.send("readings", first)
    assert (answer.status_code, answer.json()["duplicate"]) == (200, True)
    assert before == [list(model.objects.order_by("pk").values()) for model in (MeterTotal, ReadingBatch, CappedClaim)]
    assert place == queries.leases_with_new_readings(after=0, limit=9)


# --- what is possible --------------------------------------------------------------------------------------------


def most(meter: Meter, lease: Lease, elapsed: timedelta) -> int:
    milliseconds = (elapsed + plausibility.SKEW) // timedelta(milliseconds=1)
    rate = BENCHMARK.instructions_per_second * lease.cpu_millis // 1000
    return {
        Meter.UPTIME: milliseconds,
        Meter.STORAGE: lease.disk_bytes * milliseconds // 1000,
        Meter.COMPUTE: rate * milliseconds // 1000 * plausibility.CALIBRATED_MARGIN_PERCENT // 100,
        Meter.TRANSFER: 2 * plausibility.USUAL_LINK_BYTES_PER_SECOND * milliseconds // 1000,
    }[meter]


@pytest.mark.parametrize("meter", METERS)
def test_more_than_possible_is_capped_and_noted(box, lease, meter):
    box.measures(lease, **{meter.value: 2**62})
    row = MeterTotal.objects.get()
    assert row.capped
    assert most(meter, lease, HOUR) <= row.total <= most(meter, lease, HOUR + timedelta(seconds=20))
    noted = AuditEvent.objects.get(action="reading_capped").data
    assert (noted["claimed"], noted["capped_to"]) == (2**62, row.total)


@pytest.mark.parametrize("meter", METERS)
def test_the_most_that_is_possible_is_paid_in_full(box, lease, meter):
    box.measures(lease, **{meter.value: most(meter, lease, HOUR)})
    row = MeterTotal.objects.get()
    assert (row.total, row.capped) == (most(meter, lease, HOUR), False)


def test_a_closed_lease_stops_counting_even_if_its_device_does_not_stop(box, lease):
    leases.close_lease(lease_id=lease.pk, by=None)
    Lease.objects.filter(pk=lease.pk).update(closed_at=datetime.now(UTC) - timedelta(minutes=30))
    box.measures(lease, uptime=3_600_000)
    assert MeterTotal.objects.get().total <= (30 * 60 + 60 + 30 + 20) * 1000


def test_late_readings_of_a_stopped_lease_still_count(box, lease):
    leases.close_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.STOPPED)
    assert [wanted.action for wanted in queries.desired_of(box.device).leases] == [Action.STOP]
    box.measures(lease, uptime=3_000_000)
    assert MeterTotal.objects.get().total == 3_000_000


# --- the order of changes ----------------------------------------------------------------------------------------


def test_a_reader_of_changes_misses_nothing_whatever_its_page_size(box):
    placed = [placement.open_lease(workload=make_workload(f"app{number}"), by=None) for number in range(5)]
    readings = [box.reading(lease, meter, 5) for lease in placed for meter in (Meter.UPTIME, Meter.TRANSFER)]
    metering.ingest(device=box.device, jws=box.batch(*readings))
    seen, after = [], 0
    while page := queries.leases_with_new_readings(after=after, limit=2):
        seen += [lease_id for lease_id, _ in page]
        after = page[-1][1]
    assert sorted(seen) == sorted(lease.pk for lease in placed)
    box.measures(placed[3], uptime=6)
    assert [lease_id for lease_id, _ in queries.leases_with_new_readings(after=after, limit=2)] == [placed[3].pk]


def test_what_changes_nothing_is_not_new(box, lease):
    box.measures(lease, uptime=1_000)
    after = queries.leases_with_new_readings(after=0, limit=9)[-1][1]
    box.measures(lease, uptime=1_000)
    assert queries.leases_with_new_readings(after=after, limit=9) == []


def test_the_evidence_of_a_total_is_the_batch_that_raised_it(box, lease):
    box.measures(lease, uptime=1_000, transfer=5)
    box.measures(lease, uptime=2_000)
    first, second = ReadingBatch.objects.order_by("id")
    assert queries.evidence_for(lease.pk) == {Meter.UPTIME: second.pk, Meter.TRANSFER: first.pk}
    assert queries.evidence_for(lease.pk, Meter.TRANSFER) == {Meter.TRANSFER: first.pk}


def test_ids_in_another_spelling_are_refused(box, lease):
    """They would be taken for the same ids here and for others by `interchain-verify`, which would call the bill false."""
    reading = box.reading(lease, Meter.TRANSFER, 1000)
    spelt = dataclasses.replace(reading, lease_id=str(lease.pk).upper().replace("-", ""))
    for batch in (box.batch(reading, id=uuid.uuid4().urn), box.batch(spelt)):
        with pytest.raises(Malformed, match="usual spelling"):
            metering.ingest(device=box.device, jws=batch)
    assert not ReadingBatch.objects.exists()
