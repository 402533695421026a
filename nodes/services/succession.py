"""Which leases of a workload may answer clients, best first: what routes and the directory are made of, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.conf import settings

from nodes.agent.protocol import Action
from nodes.models import Device, Lease, TunnelPort
from nodes.states import LeaseState

NO_PORT = 1  # where nobody listens: of a tunnel not given a port yet
_RANK = {
    LeaseState.RUNNING: 0,
    # The portal not hearing from a device does not mean that clients cannot reach it.
    LeaseState.LOST: 1,
    LeaseState.UNHEALTHY: 2,
}


def serving(workload_id: UUID) -> list[Lease]:
    """Return the wanted leases of a workload that may answer clients, with their devices, best first."""
    return serving_of([workload_id])[workload_id]


def serving_of(workload_ids: Sequence[UUID]) -> dict[UUID, list[Lease]]:
    """Return `serving` of many workloads, in one query."""
    found: dict[UUID, list[Lease]] = {workload_id: [] for workload_id in workload_ids}
    rows = Lease.objects.filter(workload_id__in=list(found), action=Action.RUN.value).select_related("device")
    for lease in rows:
        found[lease.workload_id].append(lease)
    return {workload_id: in_order(leases) for workload_id, leases in found.items()}


def in_order(leases: Iterable[Lease]) -> list[Lease]:
    """Return those of a workload's wanted leases that may serve, best first: one for each slot.

    A lease that a newer one is about to replace goes on serving until that is healthy. While one is healthy, the others are left out.
    """
    best: dict[int, Lease] = {}
    for lease in leases:
        if lease.state in _RANK and lease.host_port and lease.action == Action.RUN.value:
            known = best.get(lease.slot)
            if known is None or _place(lease) < _place(known):
                best[lease.slot] = lease
    found = sorted(best.values(), key=lambda lease: (_RANK[LeaseState(lease.state)], lease.slot))
    healthy = [lease for lease in found if lease.state == LeaseState.RUNNING]
    return healthy or found


def _place(lease: Lease) -> tuple[int, bool]:
    return _RANK[LeaseState(lease.state)], not lease.is_newest


def endpoint_of(lease: Lease) -> str:
    """Return `host:port` at which gateways reach a lease that serves."""
    if lease.device.tunnelled:
        return f"{settings.TUNNEL_UPSTREAM_HOST}:{_tunnel_port(lease) or NO_PORT}"
    return f"{bracketed(lease.device)}:{lease.host_port}"


def client_endpoint_of(lease: Lease) -> str:
    """Return `host:port` at which clients of the directory reach a lease that serves; "" where only gateways do.

    What is behind NAT is reached at the tunnel server, if its ports are open to clients (TUNNEL_CLIENT_HOST).
    """
    if not lease.device.tunnelled:
        return endpoint_of(lease)
    port = _tunnel_port(lease) if settings.TUNNEL_CLIENT_HOST else None
    return f"{settings.TUNNEL_CLIENT_HOST}:{port}" if port else ""


def _tunnel_port(lease: Lease) -> int | None:
    return TunnelPort.objects.filter(lease=lease).values_list("port", flat=True).first()


def bracketed(device: Device) -> str:
    host = device.endpoint_host
    return f"[{host}]" if ":" in host else host
