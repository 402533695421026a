"""Who takes the slot of a device that is gone, exactly once, and what the one that comes back may still count.

Longer than 300 lines because replicas and standby share their helpers with one replica's life.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.utils import timezone

from interchain_site.testing.devices import CAPACITY, GIGABYTE, make_device, make_workload
from nodes import queries
from nodes.agent.protocol import Meter, Observed, Reason
from nodes.errors import Invalid, MovedMeanwhile, NoDevice
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import election, leases, liveness, placement, replica_sets, succession
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.tests.replicas import box_of, newest, running


@pytest.fixture
def boxes(cast):
    return [make_device(cast.owner, f"Box {n}") for n in range(3)]


def cut(box):
    liveness.lose(Device.objects.get(pk=box.device.pk))


def test_another_device_takes_over_at_once(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    with commit():
        cut(box_of(boxes, first))
    second = newest(workload)
    assert (second.generation, second.state) == (2, "offered")
    assert second.device_id != first.device_id
    first.refresh_from_db()
    assert (first.state, first.action, first.is_newest) == ("draining", "stop", False)
    assert first.fenced_at is not None
    assert succession.serving(first.workload_id) == []


def test_an_election_happens_once_however_many_notice(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    with commit():
        cut(box_of(boxes, first))
        cut(box_of(boxes, first))
    for _ in range(3):
        assert election.look(first.workload_id) == 0
        election.sweep()
    assert Lease.objects.count() == 2


def test_the_stale_copy_is_asked_to_stop_and_its_later_use_never_counts(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    box = box_of(boxes, first)
    Lease.objects.update(opened_at=timezone.now() - timedelta(hours=1))
    box.measures(first, uptime=60_000)
    with commit():
        cut(box)
    first.refresh_from_db()
    liveness.mark_online(Device.objects.get(pk=box.device.pk))
    (listed,) = queries.desired_of(box.device).leases
    assert (listed.lease_id, listed.action.value) == (str(first.pk), "stop")
    before, after = first.fenced_at - timedelta(seconds=1), first.fenced_at + timedelta(milliseconds=1)
    ingest(box, box.reading(first, Meter.UPTIME, 70_000, at=before))
    assert queries.usage_totals(lease_ids=[first.pk])[first.pk] == {Meter.UPTIME: 70_000}
    ingest(box, box.reading(first, Meter.UPTIME, 80_000, at=after))
    assert queries.usage_totals(lease_ids=[first.pk])[first.pk] == {Meter.UPTIME: 70_000}


def ingest(box, reading):
    from nodes.services import metering

    return metering.ingest(device=box.device, jws=box.batch(reading))


def test_a_fenced_lease_has_used_no_more_than_it_could_until_then(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    box = box_of(boxes, first)
    with commit():
        cut(box)
    long_ago = timezone.now() - timedelta(hours=2)
    Lease.objects.filter(pk=first.pk).update(
        opened_at=long_ago, closed_at=timezone.now(), fenced_at=long_ago + timedelta(minutes=1)
    )
    ingest(box, box.reading(first, Meter.UPTIME, 7_200_000, at=long_ago))
    assert queries.usage_totals(lease_ids=[first.pk])[first.pk][Meter.UPTIME] <= 95_000


def test_a_device_that_failed_it_does_not_get_it_back_at_once(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    with commit():
        cut(box_of(boxes, first))
    liveness.mark_online(Device.objects.get(pk=first.device_id))
    second = newest(workload)
    box_of(boxes, second).runs(second)
    with commit():
        box_of(boxes, second).says(second, Observed.FAILED, reason=Reason.DEVICE_ERROR, message="Docker is away.")
    third = newest(workload)
    assert len({first.device_id, second.device_id, third.device_id}) == 3
    box_of(boxes, third).runs(third)
    with commit():
        box_of(boxes, third).says(third, Observed.FAILED, reason=Reason.DECLINED)
    assert newest(workload) == third, "all three rest"
    assert ReplicaSet.objects.get().due_at is not None
    Lease.objects.filter(pk=first.pk).update(fenced_at=timezone.now() - timedelta(seconds=31))
    Device.objects.update(state="online")
    ReplicaSet.objects.update(due_at=timezone.now())
    assert election.sweep() == 1
    assert newest(workload).device_id == first.device_id


def test_what_no_device_takes_now_is_placed_when_one_can(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    others = Device.objects.exclude(pk=first.device_id)
    others.update(state="paused")
    with commit():
        cut(box_of(boxes, first))
    assert newest(workload) == first
    others.update(state="online")
    election.sweep()
    assert newest(workload) == first, "it is looked at again after a pause, not every time"
    ReplicaSet.objects.update(due_at=timezone.now())
    assert election.sweep() == 1
    assert newest(workload).device_id != first.device_id


def test_a_device_back_before_its_place_was_given_away_goes_on(cast, commit):
    box = make_device(cast.owner)
    workload = make_workload()
    lease = running([box], workload)
    with commit():
        cut(box)
    liveness.mark_online(Device.objects.get())
    make_device(cast.owner, "Other")
    ReplicaSet.objects.update(due_at=timezone.now())
    election.sweep()
    with commit():
        box.says(lease, Observed.RUNNING, host_port=40_000)
    assert (newest(workload), lease.state, lease.fenced_at) == (lease, "running", None)


def test_the_sweep_does_what_a_killed_process_left(boxes):
    workload = make_workload()
    first = running(boxes, workload)
    cut(box_of(boxes, first))  # and nothing after the commit
    assert newest(workload) == first
    assert election.sweep() == 1
    assert newest(workload).generation == 2


def test_the_sweep_costs_nothing_for_what_runs(boxes, django_assert_num_queries):
    for number in range(6):
        running(boxes, make_workload(f"app{number}"))
    with django_assert_num_queries(2):
        assert election.sweep() == 0


def test_what_is_stopped_is_not_elected(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    leases.close_workload(workload_id=first.workload_id, by=None)
    with commit():
        cut(box_of(boxes, first))
        election.look(first.workload_id)
    assert newest(workload) == first


def test_an_app_with_data_waits_for_its_device(boxes, commit):
    workload = make_workload(volume_path="/data")
    first = running(boxes, workload)
    with commit():
        cut(box_of(boxes, first))
    assert (newest(workload), newest(workload).state) == (first, "lost")


def test_a_failure_of_the_app_itself_is_not_carried_to_other_devices(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload)
    with commit():
        box_of(boxes, first).says(first, Observed.FAILED, reason=Reason.EXITED)
    assert newest(workload) == first
    assert ReplicaSet.objects.get().due_at is None


# --- replicas ------------------------------------------------------------------------------------------------------
def test_each_replica_has_a_device_of_its_own_and_one_counter_numbers_them(boxes):
    workload = make_workload()
    running(boxes, workload, replicas=3, least=3)
    placed = Lease.objects.order_by("slot")
    assert [lease.slot for lease in placed] == [0, 1, 2]
    assert len({lease.device_id for lease in placed}) == 3
    assert sorted(lease.generation for lease in placed) == [1, 2, 3]
    assert [lease.slot for lease in succession.serving(placed[0].workload_id)] == [0, 1, 2]


def test_more_replicas_than_devices_are_refused_with_how_many_there_could_be(boxes):
    with pytest.raises(NoDevice, match="Only 3 devices"):
        placement.open_lease(workload=make_workload(), replicas=4, least=4, by=None)
    assert not Lease.objects.exists()
    assert "Only 3 devices" in placement.can_place(workload=make_workload(), replicas=4)
    assert placement.can_place(workload=make_workload(), replicas=3) == ""


@pytest.mark.parametrize(("replicas", "changes"), [(0, {}), (101, {}), (2, {"volume_path": "/data"})])
def test_how_many_replicas_cannot_be(boxes, replicas, changes):
    with pytest.raises(Invalid) as caught:
        placement.open_lease(workload=make_workload(**changes), replicas=replicas, by=None)
    assert "replicas" in caught.value.fields


def test_replicas_spread_over_owners_then_networks(cast):
    for n in range(2):
        make_device(cast.owner, f"One {n}", host=f"10.0.{n}.1")
        make_device(cast.stranger, f"Two {n}", host="10.0.9.1")
    big = dataclasses.replace(CAPACITY, memory_bytes=64 * GIGABYTE)
    three = make_device(cast.stranger, "Three", host="10.0.8.1", capacity=big)
    workload = make_workload()
    placement.open_lease(workload=workload, replicas=3, by=None)
    devices = [lease.device for lease in Lease.objects.order_by("slot").select_related("device")]
    assert devices[0] == three.device, "most room"
    assert devices[1].owner_id == cast.owner.pk, "another owner"
    assert devices[2].endpoint_host != devices[1].endpoint_host


def test_one_replica_of_two_lost_is_replaced_and_the_other_serves_meanwhile(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload, replicas=2)
    with commit():
        cut(box_of(boxes, first))
    second = newest(workload)
    assert second.generation == 3
    assert [lease.slot for lease in succession.serving(first.workload_id)] == [1]
    with commit():
        box_of(boxes, second).runs(second, 41_000)
    assert [lease.slot for lease in succession.serving(first.workload_id)] == [0, 1]


def test_an_unhealthy_replica_leaves_the_succession_while_another_is_healthy(boxes):
    workload = make_workload()
    first = running(boxes, workload, replicas=2)
    box_of(boxes, first).says(first, Observed.UNHEALTHY, host_port=40_000)
    assert [lease.slot for lease in succession.serving(first.workload_id)] == [1]
    other = newest(workload, 1)
    box_of(boxes, other).says(other, Observed.UNHEALTHY, host_port=40_001)
    assert [lease.slot for lease in succession.serving(first.workload_id)] == [0, 1]


# --- warm standby --------------------------------------------------------------------------------------------------
def test_the_standby_takes_over_and_another_one_is_made_ready(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload, standby=True)
    standby = newest(workload, STANDBY_SLOT)
    assert (standby.action, standby.state) == ("standby", "ready")
    with commit():
        cut(box_of(boxes, first))
    promoted = newest(workload)
    assert (promoted.pk, promoted.generation, promoted.action) == (standby.pk, 3, "run")
    again = newest(workload, STANDBY_SLOT)
    assert (again.generation, again.action) == (4, "standby")
    box_of(boxes, promoted).runs(promoted)
    assert promoted.state == "running"


def test_a_promoted_standby_has_no_uptime_from_before(boxes, commit):
    workload = make_workload()
    first = running(boxes, workload, standby=True)
    Lease.objects.update(opened_at=timezone.now() - timedelta(hours=1))
    with commit():
        cut(box_of(boxes, first))
    promoted = newest(workload)
    box = box_of(boxes, promoted)
    box.runs(promoted)
    Lease.objects.filter(pk=promoted.pk).update(uptime_from=timezone.now() - timedelta(seconds=60))
    ingest(box, box.reading(promoted, Meter.UPTIME, 3_600_000))
    counted = queries.usage_totals(lease_ids=[promoted.pk])[promoted.pk][Meter.UPTIME]
    assert 60_000 <= counted < 90_000


def test_a_standby_that_is_lost_is_replaced(boxes, commit):
    workload = make_workload()
    running(boxes, workload, standby=True)
    standby = newest(workload, STANDBY_SLOT)
    with commit():
        cut(box_of(boxes, standby))
    assert newest(workload, STANDBY_SLOT).generation == 3
    assert newest(workload).generation == 1


def test_a_number_of_the_counter_is_given_once(boxes):
    workload = make_workload()
    running(boxes, workload)
    one, two = (ReplicaSet.objects.get() for _ in range(2))
    assert replica_sets.next_generation(one) == 2
    with pytest.raises(MovedMeanwhile):
        replica_sets.next_generation(two)
