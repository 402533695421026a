"""What an owner does with a device after it is enrolled: pause, drain, resume, remove."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent.protocol import Mode
from nodes.errors import Conflict
from nodes.models import Device, Lease
from nodes.policies import check_can_manage
from nodes.services import leases, liveness, moving, owner_limits
from nodes.services.wake import hang_up, wake
from nodes.states import DeviceState, transition_device


def pause_device(*, device: Device, by: User) -> None:
    """Take no new apps; what runs goes on.

    Raises:
        NotFound: it is not this person's device.
        IllegalMove: it is not enrolled, or removed.
    """
    _change(device, DeviceState.PAUSED, "device_paused", by=by)


def drain_device(*, device: Device, by: User) -> None:
    """Take no new apps and let what runs move away, so that the device can be switched off. Raises as `pause_device`."""
    _change(device, DeviceState.DRAINING, "device_drained", by=by)
    moving.move_away(device, reason=owner_limits.AWAY[Mode.DRAINING])


def resume_device(*, device: Device, by: User) -> None:
    """Take new apps again. Raises as `pause_device`."""
    check_can_manage(by, device)
    if device.state not in (DeviceState.PAUSED, DeviceState.DRAINING):
        return
    heard_at = liveness.last_heard(device)
    timeout = timedelta(seconds=settings.LINK_TIMEOUT_SECONDS)
    is_here = not device.goodbye and heard_at is not None and timezone.now() - heard_at < timeout
    _change(device, DeviceState.ONLINE if is_here else DeviceState.OFFLINE, "device_resumed", by=by)


def wish_mode(*, device: Device, mode: Mode) -> None:
    """Do what the owner typed on the device itself; whoever has its key may.

    Raises:
        Conflict: it is no mode an owner can choose.
    """
    verbs = {Mode.PAUSED: pause_device, Mode.DRAINING: drain_device, Mode.OPEN: resume_device}
    if mode not in verbs:
        raise Conflict("Choose open, paused or draining.")
    verbs[mode](device=device, by=device.owner)


def revoke_device(*, device: Device, by: User) -> None:
    """Remove a device for good: its key opens nothing any more, its apps move elsewhere. Removing twice changes nothing.

    Raises:
        NotFound: it is not this person's device.
    """
    check_can_manage(by, device)
    if device.state == DeviceState.REVOKED:
        return
    _change(device, DeviceState.REVOKED, "device_revoked", by=by)
    with transaction.atomic():
        hang_up(device.pk)
    for lease_id in Lease.objects.filter(device=device).values_list("pk", flat=True):
        leases.settle_removed(lease_id)


def _change(device: Device, to: DeviceState, action: str, *, by: User) -> None:
    check_can_manage(by, device)
    if device.state == to:
        return
    with transaction.atomic():
        transition_device(device, to)
        audit.record(action, subject=f"device:{device.pk}", by=by)
        wake(device.pk)
