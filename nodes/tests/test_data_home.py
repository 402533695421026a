"""Apps with data: they wait for their device a while, then go on elsewhere with the newest snapshot; an orderly move loses nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from interchain_site.testing.devices import FakeDevice, make_device, make_workload
from nodes.agent.protocol import Observed
from nodes.errors import NoDevice
from nodes.models import Device, Lease, ReplicaSet, Snapshot
from nodes.services import data_home, devices, election, leases, placement, snapshots
from nodes.states import DeviceState, SnapshotState, transition_device

pytestmark = pytest.mark.redis
SCHEDULE, MOVE = Snapshot.Cause.SCHEDULE, Snapshot.Cause.MOVE


@pytest.fixture
def lease(box) -> Lease:
    lease = placement.open_lease(workload=make_workload(volume_path="/data"), by=None)
    box.runs(lease)
    return lease


@pytest.fixture
def other(cast, lease) -> FakeDevice:
    return make_device(cast.owner, "Other")


def copied(lease: Lease, cause: Snapshot.Cause = SCHEDULE) -> Snapshot:
    """A snapshot as if the device had made it."""
    snapshot = snapshots.want(lease=lease, cause=cause)
    now = timezone.now()
    Snapshot.objects.filter(pk=snapshot.pk).update(
        state=SnapshotState.TAKEN, restic_id="ab" * 32, taken_at=now, ended_at=now
    )
    snapshot.refresh_from_db()
    return snapshot


def goes_silent(box: FakeDevice, lease: Lease) -> None:
    Device.objects.filter(pk=box.device.pk).update(last_seen_at=timezone.now())
    box.device.refresh_from_db()
    transition_device(box.device, DeviceState.OFFLINE)
    leases.mark_lost(lease.pk)


def newest(lease: Lease) -> Lease:
    return Lease.objects.get(workload_id=lease.workload_id, is_newest=True)


def test_a_short_absence_is_waited_for(box, lease, other):
    copied(lease)
    goes_silent(box, lease)
    election.look(lease.workload_id)
    assert newest(lease).pk == lease.pk


def test_after_a_while_it_goes_on_elsewhere_with_the_newest_snapshot(box, lease, other, settings):
    copied(lease)
    last = copied(lease)
    goes_silent(box, lease)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.DATA_FAILOVER_SECONDS + 1), tick=False):
        election.look(lease.workload_id)
    moved = newest(lease)
    assert (moved.device_id, moved.restore_from) == (other.device.pk, last)
    lease.refresh_from_db()
    assert lease.fenced_at is not None


def test_it_is_looked_at_as_soon_as_it_need_wait_no_longer(box, lease, other, settings):
    """However long the pauses between the looks have become."""
    copied(lease)
    goes_silent(box, lease)
    box.device.refresh_from_db()
    over = box.device.last_seen_at + timedelta(seconds=settings.DATA_FAILOVER_SECONDS)
    ReplicaSet.objects.update(tries=50)
    with time_machine.travel(over - timedelta(seconds=10), tick=False):
        election.look(lease.workload_id)
    assert ReplicaSet.objects.get().due_at == over


def test_without_a_snapshot_it_waits_however_long(box, lease, other):
    goes_silent(box, lease)
    with time_machine.travel(timezone.now() + timedelta(days=30), tick=False):
        election.look(lease.workload_id)
    assert newest(lease).pk == lease.pk


def test_at_home_it_starts_with_what_is_there(box, lease, other):
    copied(lease)
    leases.close_lease(lease_id=lease.pk, by=None)
    box.says(lease, Observed.STOPPED)
    again = placement.open_lease(workload=lease.workload, by=None)
    assert (again.device_id, again.restore_from) == (box.device.pk, None)


def test_a_start_at_home_after_a_restore_that_never_ran_restores_again(box, lease, other, settings):
    """The volume there may be half of it: only a lease that ran vouches for its device's volume."""
    snapshot = copied(lease)
    goes_silent(box, lease)
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.DATA_FAILOVER_SECONDS + 1), tick=False):
        election.look(lease.workload_id)
        moved = newest(lease)
        leases.close_lease(lease_id=moved.pk, by=None)
        other.says(moved, Observed.STOPPED)
        again = placement.open_lease(workload=lease.workload, by=None)
    assert (again.device_id, again.restore_from) == (other.device.pk, snapshot)


def test_a_chosen_state_that_was_not_put_back_to_the_end_is_put_back_by_the_next_start(box, lease, cast):
    chosen = copied(lease)
    copied(lease)
    snapshots.want_restored(workload_id=lease.workload_id, snapshot_id=chosen.pk, by=cast.publisher)
    begun = placement.replace_workload(lease_id=lease.pk, workload=lease.workload, by=None)
    assert begun.restore_from == chosen
    leases.close_lease(lease_id=begun.pk, by=None)
    box.says(begun, Observed.STOPPED)
    again = placement.open_lease(workload=lease.workload, by=None)
    assert (again.device_id, again.restore_from) == (box.device.pk, chosen)


def test_an_orderly_move_copies_after_the_stop_and_begins_elsewhere_with_that(box, lease, other, cast):
    copied(lease)
    devices.drain_device(device=box.device, by=cast.owner)
    wanted = Snapshot.objects.get(state=SnapshotState.WANTED)
    assert wanted.cause == MOVE
    lease.refresh_from_db()
    box.says(lease, Observed.STOPPED)
    with pytest.raises(NoDevice, match="being copied"):
        data_home.home_of(lease.workload)
    now = timezone.now()
    Snapshot.objects.filter(pk=wanted.pk).update(
        state=SnapshotState.TAKEN, restic_id="cd" * 32, taken_at=now, ended_at=now
    )
    election.look(lease.workload_id)
    assert (newest(lease).device_id, newest(lease).restore_from_id) == (other.device.pk, wanted.pk)


def test_a_move_whose_copy_fails_waits_for_its_device(box, lease, other, cast):
    copied(lease)
    devices.drain_device(device=box.device, by=cast.owner)
    lease.refresh_from_db()
    box.says(lease, Observed.STOPPED)
    Snapshot.objects.filter(state=SnapshotState.WANTED).update(state=SnapshotState.FAILED)
    election.look(lease.workload_id)
    assert newest(lease).pk == lease.pk


def test_the_device_of_a_removed_owner_is_not_waited_for(box, lease, other, cast):
    snapshot = copied(lease)
    devices.revoke_device(device=box.device, by=cast.owner)
    election.look(lease.workload_id)
    assert (newest(lease).device_id, newest(lease).restore_from) == (other.device.pk, snapshot)
