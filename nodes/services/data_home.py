"""Where a workload's data is, and so whether it may start elsewhere.

Starting elsewhere would start with none, so what keeps data waits for the device that has it.
"""

from __future__ import annotations

from uuid import UUID

from nodes.agent import protocol
from nodes.models import Device, Lease
from nodes.states import DeviceState, LeaseState


def home_of(workload: protocol.Workload) -> Device | None:
    """Return the one device that may run the workload because it keeps its data; None when any device may."""
    if not workload.volume_path:
        return None
    kept = Lease.objects.filter(workload_id=UUID(workload.id), has_volume=True).exclude(state=LeaseState.WIPED)
    last = kept.exclude(device__state=DeviceState.REVOKED).select_related("device").order_by("-generation").first()
    return last.device if last else None
