"""Who is there: silence counts only while the portal was listening."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from interchain_site.core import redis
from interchain_site.core.models import AuditEvent
from interchain_site.testing.devices import make_device, make_workload
from nodes.agent.protocol import Goodbye, Observed
from nodes.models import Device
from nodes.services import devices, leases, liveness, placement
from nodes.states import DeviceState


@pytest.fixture
def old_box(box):
    """A device that enrolled long ago and runs something."""
    Device.objects.update(enrolled_at=timezone.now() - timedelta(days=1))
    box.device.refresh_from_db()
    box.lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(box.lease)
    return box


def portal_listens(for_seconds: float) -> None:
    liveness.listening()
    redis.connection().set(liveness.SINCE_KEY, str(time.time() - for_seconds))


def heard(box, ago: float) -> None:
    redis.connection().zadd(liveness.SEEN_KEY, {box.id: time.time() - ago})


def states(box):
    box.device.refresh_from_db()
    box.lease.refresh_from_db()
    return box.device.state, box.lease.state


def test_a_silent_device_goes_offline_and_its_leases_are_lost(old_box):
    portal_listens(60)
    heard(old_box, 31)
    liveness.sweep()
    liveness.sweep()
    assert states(old_box) == ("offline", "lost")
    assert AuditEvent.objects.filter(action__in=["device_offline", "lease_lost"]).count() == 2


def test_a_device_heard_in_time_stays(old_box):
    portal_listens(60)
    heard(old_box, 29)
    liveness.sweep()
    assert states(old_box) == ("online", "running")


def test_who_was_asked_and_gave_no_answer_is_back_only_once_it_is_heard(old_box):
    portal_listens(60)
    heard(old_box, 5)
    liveness.lose(old_box.device)  # as suspicion does, long before LINK_TIMEOUT_SECONDS
    liveness.sweep()
    assert states(old_box) == ("offline", "lost")
    heard(old_box, 0)
    liveness.sweep()
    assert states(old_box) == ("online", "lost")


def test_a_portal_that_just_started_declares_nobody_offline(old_box):
    liveness.listening()
    heard(old_box, 500)
    liveness.sweep()
    portal_listens(29)
    liveness.sweep()
    assert states(old_box) == ("online", "running")


def test_while_no_web_process_runs_silence_means_nothing(old_box):
    portal_listens(600)
    redis.connection().delete(liveness.LISTENING_KEY)
    heard(old_box, 500)
    liveness.sweep()
    assert states(old_box) == ("online", "running")
    liveness.listening()
    liveness.sweep()
    assert states(old_box) == ("online", "running")


def test_a_lost_redis_declares_nobody_offline(old_box):
    portal_listens(600)
    heard(old_box, 5)
    redis.connection().flushall()
    liveness.listening()
    liveness.sweep()
    assert states(old_box) == ("online", "running")


def test_a_device_heard_again_is_online_and_its_lease_goes_on_when_it_says_so(old_box):
    portal_listens(60)
    heard(old_box, 31)
    liveness.sweep()
    heard(old_box, 0)
    liveness.sweep()
    assert states(old_box) == ("online", "lost")
    old_box.says(old_box.lease, Observed.RUNNING, host_port=40_000)
    assert states(old_box) == ("online", "running")


def test_a_paused_device_that_goes_silent_loses_its_leases_and_stays_paused(old_box, cast):
    devices.pause_device(device=old_box.device, by=cast.owner)
    portal_listens(60)
    heard(old_box, 31)
    liveness.sweep()
    assert states(old_box) == ("paused", "lost")
    devices.resume_device(device=old_box.device, by=cast.owner)
    assert states(old_box)[0] == "offline"


def test_a_device_that_just_enrolled_has_time_to_be_heard(cast):
    box = make_device(cast.owner)
    portal_listens(60)
    liveness.sweep()
    box.device.refresh_from_db()
    assert box.device.state == DeviceState.ONLINE


def test_what_a_removal_left_unfinished_is_settled(old_box):
    leases.close_lease(lease_id=old_box.lease.pk, by=None)
    Device.objects.update(state=DeviceState.REVOKED)
    liveness.sweep()
    assert states(old_box) == ("revoked", "stopped")


def test_when_it_was_heard_is_saved_now_and_then(old_box):
    Device.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    heard(old_box, 1)
    liveness.sweep()
    old_box.device.refresh_from_db()
    assert timezone.now() - old_box.device.last_seen_at < timedelta(minutes=1)
    redis.connection().flushall()
    assert liveness.last_heard(old_box.device) == old_box.device.last_seen_at


def test_an_agent_that_was_only_stopped_has_its_time_to_return(old_box):
    heard(old_box, 1)
    liveness.goodbye(old_box.device.pk, Goodbye.STOP)
    portal_listens(60)
    liveness.sweep()
    assert states(old_box) == ("offline", "running")
    Device.objects.update(last_seen_at=timezone.now() - timedelta(seconds=31))
    liveness.sweep()
    assert states(old_box) == ("offline", "lost")


def test_a_paused_device_stays_paused_when_it_leaves(old_box, cast):
    devices.pause_device(device=old_box.device, by=cast.owner)
    liveness.goodbye(old_box.device.pk, Goodbye.SLEEP)
    assert states(old_box) == ("paused", "lost")
    liveness.mark_online(Device.objects.get())
    assert Device.objects.get().goodbye == ""
