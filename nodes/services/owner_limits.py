"""What an owner lends, from the device's page and from the device itself: kept, and made true at once."""

from __future__ import annotations

import json
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent import limits as rules
from nodes.agent.protocol import Limits, Mode, Report, to_json
from nodes.errors import Invalid, Malformed
from nodes.models import Device, Lease
from nodes.policies import check_can_manage
from nodes.services import moving, reservations, texts, willingness
from nodes.services.wake import wake
from nodes.states import ALIVE, DeviceState

LESS = "The owner of its device lends less now. It moves elsewhere."
AWAY = {
    Mode.DRAINING: "The owner of its device takes it back for a while. It moves elsewhere.",
    Mode.CLOSED: "The owner of its device takes it back for a while. It moves elsewhere.",
}


def set_limits(*, device: Device, limits: Limits, by: User) -> None:
    """Keep the limits of a device's page; apps beyond them move away, and the device learns them at once.

    Raises:
        NotFound: it is not this person's device.
        Invalid: the limits make no sense; `fields` says which.
    """
    check_can_manage(by, device)
    faults = rules.faults(limits)
    if faults:
        raise Invalid(fields=faults)
    with transaction.atomic():
        document = json.loads(to_json(limits))
        Device.objects.filter(pk=device.pk).update(limits=document)
        audit.record("device_limits_set", subject=f"device:{device.pk}", by=by, limits=document)
        reservations.refresh(device.pk)
        wake(device.pk)
    device.refresh_from_db()
    make_true(device)


def make_true(device: Device) -> None:
    """Move away what the limits no longer allow: first what is not accepted at all, then the youngest until the rest fits."""
    moving.move_away(device, reason=LESS, which=lambda workload: bool(willingness.refusal(device, workload)))
    lent, held = reservations.lent_by(device), reservations.held_by(device)
    if lent.fits(held):
        return
    excess = Lease.objects.filter(device=device, state__in=ALIVE, action="run").order_by("-opened_at")
    leaving: set[UUID] = set()
    for lease in excess:
        leaving.add(lease.workload_id)
        held -= reservations.room_of(lease)
        if lent.fits(held):
            break
    moving.move_away(device, reason=LESS, which=lambda workload: UUID(workload.id) in leaving)


def hear(*, device: Device, report: Report) -> None:
    """Take over what the device says of itself: its mode, its own limits, the month's traffic. Writes only what changed.

    Raises:
        Malformed: its limits make no sense.
    """
    if report.limits != Limits() and (faults := rules.faults(report.limits)):
        raise Malformed(f"Report.limits: {', '.join(sorted(faults))}")
    changes = _changes(device, report)
    if not changes:
        return
    with transaction.atomic():
        Device.objects.filter(pk=device.pk).update(**changes)
        if "local_limits" in changes:
            reservations.refresh(device.pk)
        if "local_mode" in changes:
            subject = f"device:{device.pk}"
            audit.record("device_mode_told", subject=subject, actor=subject, mode=report.mode.value)
    device.refresh_from_db()
    if "local_limits" in changes:
        make_true(device)
    if "local_mode" in changes and report.mode in AWAY:
        moving.move_away(device, reason=AWAY[report.mode])


def _changes(device: Device, report: Report) -> dict[str, object]:
    changes: dict[str, object] = {
        "local_mode": report.mode.value,
        "local_reason": texts.clean(report.mode_reason, 200),
        "local_limits": json.loads(to_json(report.limits)),
        "can_update": report.can_update,
        "can_tunnel": report.can_tunnel,
        "update_failure": texts.clean(report.update_failure, 200),
    }
    changes = {name: value for name, value in changes.items() if getattr(device, name) != value}
    return changes | _traffic(device, report)


def _traffic(device: Device, report: Report) -> dict[str, object]:
    """Keep the month's traffic where there is a limit, and only when it grew by a hundredth of it."""
    own, local = report.limits, device.both_limits[0]
    most = rules.least(own.transfer_bytes_per_month, local.transfer_bytes_per_month)
    used = report.load.get("transfer_month_bytes", 0)
    if not most or not 0 <= used < 2**62:
        return {}
    month = rules.month(own if own.transfer_bytes_per_month else local, timezone.now())
    same = month == device.transfer_month
    if same and abs(used - device.transfer_bytes) * 100 < most:
        return {}
    return {"transfer_month": month, "transfer_bytes": used}


def sweep() -> None:
    """Move apps off devices whose hours ended or whose traffic is used up by our own clock, whether they said so or not."""
    limited = Q()
    for side in ("limits", "local_limits"):
        limited |= Q(**{f"{side}__hours__0__isnull": False}) | Q(**{f"{side}__transfer_bytes_per_month__gt": 0})
    busy = Exists(Lease.objects.filter(device=OuterRef("pk"), state__in=ALIVE, action="run"))
    leaving = Q(state=DeviceState.DRAINING) | Q(state__in=[DeviceState.ONLINE, DeviceState.PAUSED]) & limited
    for device in Device.objects.filter(leaving, busy).iterator():
        mode = Mode.DRAINING if device.state == DeviceState.DRAINING else willingness.standing(device).mode
        if mode in AWAY:
            moving.move_away(device, reason=AWAY[mode])
