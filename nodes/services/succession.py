"""Which leases of a workload may answer clients, best first: what routes and the directory are made of, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from nodes.agent.protocol import Action
from nodes.models import Device, Lease
from nodes.states import LeaseState

_RANK = {
    LeaseState.RUNNING: 0,
    # The portal not hearing from a device does not mean that clients cannot reach it.
    LeaseState.LOST: 1,
    LeaseState.UNHEALTHY: 2,
}


def serving(workload_id: UUID) -> list[Lease]:
    """Return the newest, wanted leases of a workload that may answer clients, with their devices: healthy ones first."""
    return serving_of([workload_id])[workload_id]


def serving_of(workload_ids: Sequence[UUID]) -> dict[UUID, list[Lease]]:
    """Return `serving` of many workloads, in one query."""
    found: dict[UUID, list[Lease]] = {workload_id: [] for workload_id in workload_ids}
    rows = Lease.objects.filter(workload_id__in=list(found), action=Action.RUN.value, is_newest=True, host_port__gt=0)
    for lease in rows.filter(state__in=list(_RANK)).select_related("device"):
        found[lease.workload_id].append(lease)
    return {workload_id: in_order(leases) for workload_id, leases in found.items()}


def in_order(leases: Iterable[Lease]) -> list[Lease]:
    """Return leases that may serve, best first."""
    return sorted(leases, key=lambda lease: (_RANK[LeaseState(lease.state)], lease.generation))


def endpoint_of(lease: Lease) -> str:
    """Return `host:port` at which clients reach a lease that serves."""
    return f"{bracketed(lease.device)}:{lease.host_port}"


def bracketed(device: Device) -> str:
    host = device.endpoint_host
    return f"[{host}]" if ":" in host else host
