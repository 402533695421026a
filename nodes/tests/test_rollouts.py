"""A new release takes over copy by copy, goes back when it fails, and a slot is billed for one copy at any moment.

Longer than 300 lines because releases, moves, data and billing share one slot's life.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import CAPACITY, GIGABYTE, make_device, make_workload
from nodes import queries
from nodes.agent.protocol import Meter, Observed, Reason
from nodes.errors import Conflict, NoDevice
from nodes.models import CappedClaim, Device, Lease, ReplicaSet, Rollout, Snapshot
from nodes.services import election, leases, liveness, metering, moving, placement, rollouts, routes, succession
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.signals import rollout_ended
from nodes.tests.replicas import box_of, newest, running


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(timezone.now(), tick=False) as travelled:
        yield travelled


@pytest.fixture
def boxes(cast):
    return [make_device(cast.owner, f"Box {n}") for n in range(3)]


def changed(workload, **more):
    return dataclasses.replace(workload, environment={"COLOUR": "blue"}, **more)


def ready(boxes, lease, port=41_000):
    box_of(boxes, lease).runs(lease, port)


def later(clock, commit, seconds):
    clock.shift(timedelta(seconds=seconds))
    with commit():
        election.sweep()


def fails(boxes, lease, commit, reason=Reason.EXITED):
    with commit():
        box_of(boxes, lease).says(lease, Observed.FAILED, reason=reason, message="exit code 3", log_tail="boom")


def test_each_copy_is_ready_before_the_one_it_replaces_ends(boxes, clock, commit, settings):
    workload = make_workload()
    old = [running(boxes, workload, replicas=2), newest(workload, 1)]
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    first = newest(workload)
    assert (first.replaces_id, first.generation) == (old[0].pk, 3)
    assert newest(workload, 1) == old[1], "one at a time"
    assert succession.serving(old[0].workload_id) == old, "clients go to the old ones"
    with commit():
        ready(boxes, first)
    old[0].refresh_from_db()
    assert (old[0].action, old[0].state) == ("run", "running"), "its connections may finish"
    assert succession.serving(first.workload_id) == [first, old[1]]
    later(clock, commit, settings.HANDOVER_SECONDS)
    old[0].refresh_from_db()
    assert (old[0].action, old[0].state) == ("stop", "draining")
    second = newest(workload, 1)
    assert second.replaces_id == old[1].pk
    with commit():
        ready(boxes, second, 41_001)
    later(clock, commit, settings.HANDOVER_SECONDS)
    later(clock, commit, settings.HANDOVER_SECONDS)
    rollout = Rollout.objects.get()
    assert (rollout.state, rollout.from_environment_encrypted) == ("done", "")
    assert ReplicaSet.objects.get().due_at is None
    assert [lease.workload.environment["COLOUR"] for lease in succession.serving(first.workload_id)] == ["blue"] * 2


def test_several_at_once_if_so_wished(boxes, commit, settings):
    settings.ROLLOUT_AT_ONCE = 2
    workload = make_workload()
    running(boxes, workload, replicas=3)
    rollouts.begin(workload=changed(workload), by=None)
    assert Lease.objects.filter(replaces__isnull=False).count() == 2


@pytest.mark.parametrize("reason", [Reason.EXITED, Reason.UNHEALTHY, Reason.WRONG_PORT, Reason.IMAGE_NOT_FOUND])
def test_a_release_that_does_not_come_up_is_rolled_back_and_the_old_copy_never_stopped(boxes, commit, reason):
    workload = make_workload()
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    failed = newest(workload)
    fails(boxes, failed, commit, reason)
    old.refresh_from_db()
    assert (old.is_newest, old.action, old.state) == (True, "run", "running")
    assert succession.serving(old.workload_id) == [old]
    rollout = Rollout.objects.get()
    assert (rollout.state, rollout.reason, rollout.message, rollout.log_tail) == (
        "rolled_back", reason.value, "exit code 3", "boom",
    )  # fmt: skip
    assert ReplicaSet.objects.get().workload == workload
    assert election.look(old.workload_id) == 0
    assert newest(workload) == old


def test_slots_that_had_changed_go_back_in_the_same_way(boxes, clock, commit, settings):
    workload = make_workload()
    running(boxes, workload, replicas=2)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    with commit():
        ready(boxes, newest(workload))
    later(clock, commit, settings.HANDOVER_SECONDS)
    taken = newest(workload)
    fails(boxes, newest(workload, 1), commit)
    back = newest(workload)
    assert (back.replaces_id, back.workload) == (taken.pk, workload)
    taken.refresh_from_db()
    assert (taken.state, taken.action) == ("running", "run"), "goes on until the old version is ready"
    with commit():
        ready(boxes, back, 42_000)
    later(clock, commit, settings.HANDOVER_SECONDS)
    serving = succession.serving(back.workload_id)
    assert [lease.workload for lease in serving] == [workload, workload]
    assert ReplicaSet.objects.get().due_at is None


def test_one_that_crashes_right_after_it_was_ready_gives_the_clients_back_at_once(boxes, clock, commit):
    workload = make_workload()
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    new = newest(workload)
    with commit():
        ready(boxes, new)
    clock.shift(timedelta(seconds=3))
    with commit():
        box_of(boxes, new).says(new, Observed.UNHEALTHY, host_port=41_000)
    assert succession.serving(old.workload_id) == [old]
    fails(boxes, new, commit)
    assert newest(workload) == old


def test_without_progress_it_is_rolled_back(boxes, clock, commit, settings):
    workload = make_workload()
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    box_of(boxes, newest(workload)).says(newest(workload), Observed.PREPARING)
    later(clock, commit, settings.ROLLOUT_PROGRESS_SECONDS)
    assert Rollout.objects.get().state == "rolling"
    later(clock, commit, workload.health.start_seconds + 1)
    assert (Rollout.objects.get().state, newest(workload)) == ("rolled_back", old)


def test_a_device_that_fails_is_no_fault_of_the_release(boxes, commit):
    workload = make_workload()
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    first = newest(workload)
    fails(boxes, first, commit, Reason.DEVICE_ERROR)
    again = newest(workload)
    assert (again.replaces_id, again.device_id != first.device_id) == (old.pk, True)
    assert Rollout.objects.get().state == "rolling"


def test_the_old_copy_lost_meanwhile_gives_way_at_once_and_is_fenced(boxes, commit):
    workload = make_workload()
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    with commit():
        liveness.lose(Device.objects.get(pk=old.device_id))
    new = newest(workload)
    if new.device_id != old.device_id:
        assert new.state == "offered"
    with commit():
        ready(boxes, new)
    old.refresh_from_db()
    assert (old.action, old.fenced_at is not None) == ("stop", True)


def test_without_room_for_both_it_is_refused_and_nothing_changes(cast):
    small = dataclasses.replace(CAPACITY, memory_bytes=GIGABYTE)
    box = make_device(cast.owner, capacity=small)
    workload = make_workload(memory_bytes=GIGABYTE * 3 // 4)
    old = running([box], workload)
    with pytest.raises(NoDevice, match="memory"):
        rollouts.begin(workload=changed(workload), by=None)
    assert (newest(workload), ReplicaSet.objects.get().workload, Rollout.objects.count()) == (old, workload, 0)


def test_on_one_device_both_copies_hold_their_room(cast, commit):
    box = make_device(cast.owner)
    workload = make_workload(memory_bytes=GIGABYTE)
    running([box], workload)
    rollouts.begin(workload=changed(workload), by=None)
    assert Device.objects.get().reserved_memory_bytes == 2 * GIGABYTE
    assert [wanted.action.value for wanted in queries.desired_of(box.device).leases] == ["run", "run"]


def test_what_never_ran_is_replaced_at_once(boxes, commit):
    workload = make_workload()
    old = placement.open_lease(workload=workload, by=None)
    assert rollouts.begin(workload=changed(workload), by=None) is None
    old.refresh_from_db()
    assert (old.action, newest(workload).generation) == ("stop", 2)


def test_the_next_release_takes_the_place_of_one_under_way_and_goes_back_to_the_last_that_served(boxes, commit):
    workload = make_workload()
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    between = newest(workload)
    with commit():
        rollouts.begin(workload=changed(workload, port=9000), by=None)
    between.refresh_from_db()
    last = newest(workload)
    assert (between.action, last.replaces_id) == ("stop", old.pk)
    fails(boxes, last, commit)
    assert (newest(workload), ReplicaSet.objects.get().workload) == (old, workload)
    assert sorted(Rollout.objects.values_list("state", flat=True)) == ["dropped", "rolled_back"]


def test_a_person_can_call_it_off(boxes, commit):
    workload = make_workload()
    old = running(boxes, workload)
    with pytest.raises(Conflict):
        rollouts.cancel(workload_id=old.workload_id, by=None)
    rollouts.begin(workload=changed(workload), by=None)
    rollouts.cancel(workload_id=old.workload_id, by=None)
    assert newest(workload) == old


def test_a_stop_stops_both_copies(boxes, commit):
    workload = make_workload()
    old = running(boxes, workload)
    rollouts.begin(workload=changed(workload), by=None)
    leases.close_workload(workload_id=old.workload_id, by=None)
    assert not Lease.objects.filter(action="run").exists()


def test_a_release_that_something_else_takes_the_place_of_is_dropped_audited_and_told(boxes, commit):
    workload, told = make_workload(), []
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    leases.close_workload(workload_id=old.workload_id, by=None)

    def listen(workload_id, **_):
        told.append(workload_id)

    rollout_ended.connect(listen)
    try:
        placement.open_lease(workload=workload, by=None)
    finally:
        rollout_ended.disconnect(listen)
    rollout = Rollout.objects.get()
    assert (rollout.state, rollout.ended_at, rollout.from_environment_encrypted) == ("dropped", timezone.now(), "")
    assert AuditEvent.objects.filter(action="rollout_dropped", subject=f"workload:{old.workload_id}").count() == 1
    assert told == [old.workload_id]


def test_the_standby_is_renewed_last(boxes, clock, commit, settings):
    workload = make_workload()
    running(boxes, workload, standby=True)
    ready_one = newest(workload, STANDBY_SLOT)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    assert newest(workload, STANDBY_SLOT) == ready_one
    with commit():
        ready(boxes, newest(workload))
    later(clock, commit, settings.HANDOVER_SECONDS)
    later(clock, commit, settings.HANDOVER_SECONDS)
    assert newest(workload, STANDBY_SLOT).workload.environment["COLOUR"] == "blue"


# --- the route ------------------------------------------------------------------------------------------------------
def test_the_order_of_routes_never_goes_back(boxes, clock, commit):
    workload = make_workload()
    old = running(boxes, workload)
    orders = []

    def look():
        clock.shift(timedelta(seconds=1))
        orders.append(routes.document_of(list(routes._routed().filter(workload_id=old.workload_id)))["order"])

    look()
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    look()
    with commit():
        ready(boxes, newest(workload))
    look()
    fails(boxes, newest(workload), commit)
    look()
    assert orders == sorted(orders)


# --- billing ----------------------------------------------------------------------------------------------------------
def reads(boxes, lease, clock, uptime_ms):
    box = box_of(boxes, lease)
    metering.ingest(device=box.device, jws=box.batch(box.reading(lease, Meter.UPTIME, uptime_ms, at=timezone.now())))


def counted(lease):
    return queries.usage_totals(lease_ids=[lease.pk])[lease.pk].get(Meter.UPTIME, 0)


def test_of_two_copies_of_a_slot_one_counts_at_any_moment(boxes, clock, commit, settings):
    workload = make_workload()
    old = running(boxes, workload)
    clock.shift(timedelta(seconds=60))
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    new = newest(workload)
    clock.shift(timedelta(seconds=5))
    with commit():
        ready(boxes, new)
    clock.shift(timedelta(seconds=8))
    reads(boxes, new, clock, 8_000)
    reads(boxes, old, clock, 73_000)
    assert (counted(old), counted(new)) == (73_000, 0)
    later(clock, commit, 2)  # takes over after 75 s, with 10 s on its clock
    clock.shift(timedelta(seconds=20))
    reads(boxes, new, clock, 30_000)
    reads(boxes, old, clock, 77_000)  # it took two seconds to hear of it
    assert counted(new) == 20_000, "what it ran beside the old one never counts"
    assert counted(old) == 73_000, "of 77 s read 20 s after the other took over 57 s are sure"
    assert not CappedClaim.objects.exists(), "nobody claimed too much"


def test_the_last_reading_of_the_old_copy_counts_until_the_other_took_over(boxes, clock, commit, settings):
    workload = make_workload()
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    with commit():
        ready(boxes, newest(workload))
    later(clock, commit, 10)
    clock.shift(timedelta(seconds=2))
    reads(boxes, old, clock, 12_000)
    assert counted(old) == 10_000


def test_a_copy_given_up_is_never_billed_for_its_time(boxes, clock, commit):
    workload = make_workload()
    running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    new = newest(workload)
    with commit():
        ready(boxes, new)
    clock.shift(timedelta(seconds=5))
    fails(boxes, new, commit)
    reads(boxes, new, clock, 5_000)
    assert counted(new) == 0


# --- moves ------------------------------------------------------------------------------------------------------------
def test_a_device_that_drains_serves_until_the_next_one_is_ready(boxes, clock, commit, settings):
    workload = make_workload()
    old = running(boxes, workload)
    Device.objects.filter(pk=old.device_id).update(state="draining")
    for _ in range(2):
        with commit():
            moving.move_away(Device.objects.get(pk=old.device_id), reason="It drains.")
    new = newest(workload)
    assert (new.replaces_id, new.generation, new.device_id != old.device_id) == (old.pk, 2, True)
    assert succession.serving(old.workload_id) == [old]
    with commit():
        ready(boxes, new)
    assert succession.serving(old.workload_id) == [new]
    later(clock, commit, settings.HANDOVER_SECONDS)
    old.refresh_from_db()
    assert (old.state, ReplicaSet.objects.get().due_at) == ("draining", None)


def test_where_the_move_fails_the_copy_that_serves_stays(boxes, commit):
    workload = make_workload()
    old = running(boxes, workload)
    Device.objects.filter(pk=old.device_id).update(state="draining")
    with commit():
        moving.move_away(Device.objects.get(pk=old.device_id), reason="It drains.")
    fails(boxes, newest(workload), commit)
    assert newest(workload) == old
    assert succession.serving(old.workload_id) == [old]


# --- data -----------------------------------------------------------------------------------------------------------
def test_with_data_the_old_copy_stops_is_copied_and_only_then_the_new_one_starts(boxes, clock, commit):
    workload = make_workload(volume_path="/data")
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    old.refresh_from_db()
    assert (old.action, newest(workload)) == ("stop", old)
    with commit():
        box_of(boxes, old).says(old, Observed.STOPPED)
    later(clock, commit, 5)
    assert newest(workload) == old, "its data is being copied"
    taken(Snapshot.objects.get())
    later(clock, commit, 5)
    new = newest(workload)
    assert (new.device_id, new.generation, new.restore_from) == (old.device_id, 2, None)
    with commit():
        ready(boxes, new)
    later(clock, commit, 15)
    assert Rollout.objects.get().state == "done"


def test_with_data_it_goes_back_to_what_was_copied(boxes, clock, commit):
    workload = make_workload(volume_path="/data")
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    with commit():
        box_of(boxes, old).says(old, Observed.STOPPED)
    taken(Snapshot.objects.get())
    later(clock, commit, 5)
    fails(boxes, newest(workload), commit)
    back = newest(workload)
    assert (back.workload, back.device_id, back.restore_from) == (workload, old.device_id, Snapshot.objects.get())
    assert Rollout.objects.get().state == "rolled_back"


def test_a_copy_that_cannot_be_made_does_not_keep_a_release_away(boxes, clock, commit):
    workload = make_workload(volume_path="/data")
    old = running(boxes, workload)
    with commit():
        rollouts.begin(workload=changed(workload), by=None)
    with commit():
        box_of(boxes, old).says(old, Observed.STOPPED)
    Snapshot.objects.update(state="failed", ended_at=timezone.now())
    later(clock, commit, 5)
    assert newest(workload).generation == 2


def taken(snapshot):
    now = timezone.now()
    Snapshot.objects.filter(pk=snapshot.pk).update(state="taken", restic_id="a" * 64, taken_at=now, ended_at=now)
