"""Which devices failed a workload a moment ago, and until when each is left alone. Read from the leases, so no restart forgets it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, Window
from django.db.models.functions import RowNumber

from nodes.agent.protocol import Reason
from nodes.models import Lease
from nodes.states import LeaseState

FIRST_REST, LONGEST_REST = timedelta(seconds=30), timedelta(minutes=15)
DECLINED_FOR = timedelta(minutes=5)  # a device that declined a workload is not asked for it again before
REMEMBERED = timedelta(hours=6)
MOST_FAILURES = 100  # of one workload
DEVICE_FAULTS = frozenset({Reason.DECLINED.value, Reason.DEVICE_ERROR.value})
"""What is the device's doing, so that the same workload may well run elsewhere."""


def is_own(lease: Lease) -> bool:
    """Whether a lease ended because of the workload itself."""
    return lease.state == LeaseState.STOPPED and bool(lease.reason) and lease.reason not in DEVICE_FAULTS


@dataclass(frozen=True)
class Failures:
    """What one device did to one workload lately."""

    count: int = 0
    rests_until: datetime | None = None
    declined_until: datetime | None = None


def of_workloads(workload_ids: Collection[UUID], *, now: datetime) -> dict[UUID, dict[UUID, Failures]]:
    """Return by workload what each device did to it lately; devices that did nothing wrong are absent. One query."""
    if not workload_ids:
        return {}
    failed = Lease.objects.filter(workload_id__in=workload_ids).filter(
        Q(fenced_at__gte=now - REMEMBERED) | Q(stopped_at__gte=now - REMEMBERED) & ~Q(reason="")
    )
    last = Window(RowNumber(), partition_by="workload_id", order_by="-generation")
    rows = failed.annotate(place=last).filter(place__lte=MOST_FAILURES).order_by("generation")
    found: dict[UUID, dict[UUID, Failures]] = {}
    for workload_id, device_id, reason, fenced_at, stopped_at in rows.values_list(
        "workload_id", "device_id", "reason", "fenced_at", "stopped_at"
    ):
        known = found.setdefault(workload_id, {})
        before = known.get(device_id, Failures())
        at = fenced_at or stopped_at
        if at is None:
            continue
        rest = min(FIRST_REST * 2**before.count, LONGEST_REST)
        declined = at + DECLINED_FOR if reason == Reason.DECLINED.value else before.declined_until
        known[device_id] = Failures(before.count + 1, at + rest, declined)
    return found


def resting(failures: dict[UUID, Failures], *, now: datetime, forgiving: bool) -> set[UUID]:
    """Return the devices not to ask now.

    Args:
        forgiving: a person asks, who may try a device again at once; not one whose owner declined.
    """
    return {
        device_id
        for device_id, one in failures.items()
        if (one.declined_until or now) > now or (not forgiving and (one.rests_until or now) > now)
    }
