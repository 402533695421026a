"""What tests of replicas do with a fleet of a few devices: run a workload everywhere, and find who has what."""

from __future__ import annotations

from typing import Any

from interchain_site.testing.devices import FakeDevice
from nodes.agent.protocol import Observed, Workload
from nodes.models import Lease
from nodes.services import placement


def box_of(boxes: list[FakeDevice], lease: Lease) -> FakeDevice:
    return next(box for box in boxes if box.device.pk == lease.device_id)


def newest(workload: Workload, slot: int = 0) -> Lease:
    return Lease.objects.get(workload_id=workload.id, slot=slot, is_newest=True)


def running(boxes: list[FakeDevice], workload: Workload, **wishes: Any) -> Lease:
    """Place a workload and let each device say that it does what it should; returns the first replica's lease."""
    placement.open_lease(workload=workload, by=None, **wishes)
    for lease in Lease.objects.filter(workload_id=workload.id):
        if lease.action == "run":
            box_of(boxes, lease).runs(lease, 40_000 + lease.slot)
        else:
            box_of(boxes, lease).says(lease, Observed.READY)
    return newest(workload)
