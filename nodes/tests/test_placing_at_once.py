"""Workers and people who place at the same moment give each slot once, and promise no room twice: real row locks, so PostgreSQL."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict

import pytest
from django.db import connection
from django.utils import timezone

from interchain_site.testing.devices import CAPACITY, GIGABYTE, make_device, make_workload
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import election, placement, reservations
from nodes.tests.test_placing_many import want

on_postgres = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="Row locks between processes need PostgreSQL."
)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@on_postgres
def test_workers_that_place_at_once_give_each_slot_once_and_never_over_commit(cast):
    """Room for exactly forty, wanted forty-five times, by four workers and six people, on devices all of them like best."""
    for number in range(5):
        make_device(cast.owner, f"Box {number}", capacity=dataclasses.replace(CAPACITY, memory_bytes=GIGABYTE))
    for number in range(39):
        want(f"app{number}", memory_bytes=GIGABYTE // 8, cpu_millis=100)
    start, trouble, placed = threading.Barrier(10), [], []

    def work(number: int) -> None:
        try:
            start.wait()
            if number < 4:
                election.sweep()
            else:
                placement.open_lease(
                    workload=make_workload(f"own{number}", memory_bytes=GIGABYTE // 8, cpu_millis=100), by=None
                )
            placed.append(number)
        except Exception as error:
            trouble.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ReplicaSet.objects.exclude(due_at=None).update(due_at=timezone.now())
    election.sweep()
    assert [error for error in trouble if not isinstance(error, placement.NoDevice)] == []
    by_slot = defaultdict(int)
    for lease in Lease.objects.all():
        by_slot[lease.workload_id, lease.slot] += 1
    assert set(by_slot.values()) == {1}
    assert Lease.objects.count() == 40
    for device in Device.objects.all():
        assert device.reserved_memory_bytes == reservations.held_by(device).memory_bytes == device.memory_bytes


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@on_postgres
def test_room_taken_between_the_look_and_the_lock_is_not_given_twice(cast, monkeypatch):
    """Somebody else fills the best device after it was chosen and before it is locked."""
    make_device(cast.owner, "One", capacity=dataclasses.replace(CAPACITY, memory_bytes=2 * GIGABYTE))
    make_device(cast.owner, "Two", capacity=dataclasses.replace(CAPACITY, memory_bytes=GIGABYTE))
    lock, other = placement._lock, []

    def somebody_was_faster(*rest):
        if not other:
            other.append(None)
            thread = threading.Thread(target=fill_the_best)
            thread.start()
            thread.join()
        return lock(*rest)

    def fill_the_best() -> None:
        try:
            other[0] = placement.open_lease(workload=make_workload("other", memory_bytes=2 * GIGABYTE), by=None)
        finally:
            connection.close()

    monkeypatch.setattr(placement, "_lock", somebody_was_faster)
    mine = placement.open_lease(workload=make_workload("mine", memory_bytes=GIGABYTE), by=None)
    assert mine.device.name == "Two"
    assert other[0].device.name == "One"
