"""Many processes at once, on PostgreSQL: readings counted once, changes seen in order, no deadlock that loses anything."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connection, transaction

from interchain_site.core.errors import DomainError
from interchain_site.testing.devices import make_device, make_workload
from nodes import queries
from nodes.agent.protocol import Meter, Observed
from nodes.models import Device, Lease, MeterTotal
from nodes.services import election, leases, metering, placement, totals
from nodes.states import LeaseState

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="Row locks between processes need PostgreSQL."),
]


def all_at_once(work: list[Callable[[], object]]) -> list[BaseException]:
    """Run each in a thread of its own, starting together; returns what they raised."""
    start, raised = threading.Barrier(len(work)), []

    def run(one: Callable[[], object]) -> None:
        try:
            start.wait()
            one()
        except BaseException as error:
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_the_same_batches_from_many_connections_count_once(cast):
    box = make_device(cast.owner)
    placed = [placement.open_lease(workload=make_workload(f"app{n}"), by=None) for n in range(3)]
    batches = [
        box.batch(*(box.reading(lease, meter, total) for lease in placed for meter in (Meter.TRANSFER, Meter.UPTIME)))
        for total in range(100, 1_100, 100)
    ]
    deliveries = batches * 3
    random.Random(5).shuffle(deliveries)
    raised = all_at_once([lambda jws=jws: metering.ingest(device=box.device, jws=jws) for jws in deliveries])
    assert raised == []
    totals = queries.usage_totals(lease_ids=[lease.pk for lease in placed])
    assert all(total == {Meter.TRANSFER: 1_000, Meter.UPTIME: 1_000} for total in totals.values())
    assert len(box.device.batches.all()) == len(batches)


def test_a_reader_beside_the_writers_never_passes_a_change_by(cast):
    boxes = [make_device(cast.owner, f"Box {n}") for n in range(4)]
    placed = {}
    for number in range(12):
        lease = placement.open_lease(workload=make_workload(f"app{number}"), by=None)
        placed[lease.pk] = (next(box for box in boxes if box.device.pk == lease.device_id), lease)
    done, seen = threading.Event(), {}

    def read() -> None:
        after = 0
        while True:
            last_round = done.is_set()
            for lease_id, place in queries.leases_with_new_readings(after=after, limit=5):
                seen[lease_id] = queries.usage_totals(lease_ids=[lease_id])[lease_id]
                after = place
            if last_round and not queries.leases_with_new_readings(after=after, limit=1):
                return

    def write(box, lease) -> None:
        for total in range(1, 16):
            box.measures(lease, transfer=total)

    writers = [lambda pair=pair: write(*pair) for pair in placed.values()]
    reading = threading.Thread(target=lambda: (read(), connection.close()))
    reading.start()
    raised = all_at_once(writers)
    done.set()
    reading.join(30)
    assert raised == []
    assert seen == {lease_id: {Meter.TRANSFER: 15} for lease_id in placed}


def test_no_place_is_given_while_a_smaller_one_is_not_committed(cast):
    make_device(cast.owner)
    first, second = (placement.open_lease(workload=make_workload(f"app{n}"), by=None) for n in range(2))
    given, committed = threading.Event(), threading.Event()

    def one(lease: Lease) -> list[totals.Total]:
        return [totals.Total(lease.pk, Meter.UPTIME, 1, "clock", datetime.now(UTC))]

    def slow() -> None:
        with transaction.atomic():
            totals.raise_totals(one(first))
            given.set()
            time.sleep(0.5)
            committed.set()

    def quick() -> None:
        given.wait()
        totals.raise_totals(one(second))
        assert committed.is_set(), "it had a higher place while the smaller one could not be seen yet"

    assert all_at_once([slow, quick]) == []
    places = queries.leases_with_new_readings(after=0, limit=9)
    assert [lease_id for lease_id, _ in places] == [first.pk, second.pk]


def test_reports_closes_and_replacements_at_once_leave_a_sound_state(cast):
    box = make_device(cast.owner)
    workloads = [make_workload(f"app{n}", volume_path="/d") for n in range(3)]
    for workload in workloads:
        box.runs(placement.open_lease(workload=workload, by=None))

    def report(observed: Observed) -> None:
        for lease in Lease.objects.all():
            box.says(lease, observed, host_port=40_000 if observed is Observed.RUNNING else 0)

    def replace(workload) -> None:
        newest = queries.lease_summary(workload.id)
        placement.replace_workload(lease_id=newest.lease_id, workload=workload, by=None)

    def close(workload) -> None:
        leases.close_lease(lease_id=queries.lease_summary(workload.id).lease_id, by=None)

    for _ in range(4):
        work = [lambda o=o: report(o) for o in (Observed.RUNNING, Observed.UNHEALTHY, Observed.STOPPED)]
        work += [lambda w=w: replace(w) for w in workloads] + [lambda w=w: close(w) for w in workloads]
        raised = all_at_once(work)
        assert [error for error in raised if not isinstance(error, DomainError)] == []
    for workload in workloads:
        generations = list(Lease.objects.filter(workload_id=workload.id).order_by("generation"))
        assert [lease.generation for lease in generations] == list(range(1, len(generations) + 1))
        assert [lease.is_newest for lease in generations] == [False] * (len(generations) - 1) + [True]
        assert all(lease.action != "run" for lease in generations[:-1])
    holding = Lease.objects.exclude(state__in=["stopped", "wiped"]).values("workload_id").distinct().count()
    device = Device.objects.get()
    assert device.reserved_memory_bytes == holding * workloads[0].memory_bytes
    assert not MeterTotal.objects.exists()


def test_workers_that_elect_at_once_elect_once(cast):
    """Four notice the same loss: one new lease for each slot, whoever comes first."""
    boxes = {box.device.pk: box for box in (make_device(cast.owner, f"Box {n}") for n in range(5))}
    workload = make_workload()
    placement.open_lease(workload=workload, replicas=2, by=None)
    for lease in Lease.objects.all():
        boxes[lease.device_id].runs(lease)
    lost = Lease.objects.get(slot=0)
    with transaction.atomic():
        leases.move(leases.get(lost.pk), LeaseState.LOST)
        transaction.get_connection().run_on_commit.clear()  # nobody was told
    Device.objects.filter(pk=lost.device_id).update(state="offline")  # one that was just heard may go on any moment
    given: list[int] = []
    work = [lambda: given.append(election.look(lost.workload_id)) for _ in range(4)]
    assert all_at_once(work) == []
    assert sorted(given) == [0, 0, 0, 1]
    assert sorted(Lease.objects.values_list("slot", "generation")) == [(0, 1), (0, 3), (1, 2)]
    assert Lease.objects.filter(slot=0, is_newest=True).get().fenced_at is None
