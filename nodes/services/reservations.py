"""What a device has promised, counted per workload: a generation that is to stop shares its promise with the next one, two that
are wanted side by side (during a release) have one each, and a stopped one keeps only the disk of its volume.

Lock order everywhere in nodes: lease rows first, then one device row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q, QuerySet

from nodes.agent import protocol
from nodes.agent.limits import least
from nodes.models import Device, Lease
from nodes.states import HOLDS_MEMORY, WANTED, LeaseState

_HOLDS = Q(state__in=HOLDS_MEMORY) | Q(state=LeaseState.STOPPED, has_volume=True)


@dataclass(frozen=True)
class Room:
    """An amount of the three things a device lends."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0

    def fits(self, need: Room) -> bool:
        """Return whether `need` is no more than this in any of the three."""
        return (
            need.cpu_millis <= self.cpu_millis
            and need.memory_bytes <= self.memory_bytes
            and need.disk_bytes <= self.disk_bytes
        )


def need_of(workload: protocol.Workload) -> Room:
    return Room(workload.cpu_millis, workload.memory_bytes, workload.disk_bytes)


def free_rooms(devices: Sequence[Device], *, for_workload: UUID, beside: bool = False) -> list[Room]:
    """Return what each device can still promise to this workload, in one query; what it holds already counts as free for it.

    Args:
        beside: but what is wanted of the workload goes on.
    """
    holding: dict[UUID, list[Lease]] = {device.pk: [] for device in devices}
    for lease in _holding().filter(device__in=list(holding)):
        holding[lease.device_id].append(lease)
    return [room_beside(device, holding[device.pk], for_workload=for_workload, beside=beside) for device in devices]


def leases_on(device: Device) -> list[Lease]:
    """Return the leases that hold something of a device the caller has locked; only what reservations count is loaded."""
    return list(_holding().filter(device=device))


def room_beside(device: Device, leases: Iterable[Lease], *, for_workload: UUID, beside: bool = True) -> Room:
    """Return what the device can promise to this workload beside what these leases hold for others.

    Args:
        beside: leases of the workload itself that are wanted go on.
    """
    held = _held(lease for lease in leases if lease.workload_id != for_workload or (beside and lease.action in WANTED))
    return Room(
        device.cpu_millis - held.cpu_millis,
        device.memory_bytes - held.memory_bytes,
        device.disk_bytes - held.disk_bytes,
    )


def refresh(device_id: UUID) -> None:
    """Lock the device and bring its `reserved_*` columns up to its leases. Call inside a transaction, last of all locks."""
    lending = ("capacity", "limits", "local_limits")
    device = Device.objects.select_for_update().only("pk", *lending).get(pk=device_id)
    lent, held = lent_by(device), held_by(device)
    # An owner may lend less than is promised already: then nothing is free until that has moved away.
    Device.objects.filter(pk=device_id).update(
        reserved_cpu_millis=held.cpu_millis,
        reserved_memory_bytes=held.memory_bytes,
        reserved_disk_bytes=held.disk_bytes,
        cpu_millis=max(lent.cpu_millis, held.cpu_millis),
        memory_bytes=max(lent.memory_bytes, held.memory_bytes),
        disk_bytes=max(lent.disk_bytes, held.disk_bytes),
    )


def write(device: Device, leases: Iterable[Lease]) -> None:
    """Write down what these leases, all that hold something of it, take from a device the caller has locked."""
    held = _held(leases)
    Device.objects.filter(pk=device.pk).update(
        reserved_cpu_millis=held.cpu_millis,
        reserved_memory_bytes=held.memory_bytes,
        reserved_disk_bytes=held.disk_bytes,
    )


def held_by(device: Device) -> Room:
    """Return what the device's leases hold."""
    return _held(leases_on(device))


def lent_by(device: Device) -> Room:
    """Return what the owner lends: what the device has, within both sets of limits."""

    def lent(name: str) -> int:
        return least(int(device.capacity.get(name, 0)), *(getattr(limits, name) for limits in device.both_limits))

    return Room(lent("cpu_millis"), lent("memory_bytes"), lent("disk_bytes"))


def _holding() -> QuerySet[Lease]:
    counted = ("device_id", "workload_id", "state", "action", "cpu_millis", "memory_bytes", "disk_bytes")
    return Lease.objects.filter(_HOLDS).only(*counted).order_by()


def _held(leases: Iterable[Lease]) -> Room:
    per_workload: dict[tuple[UUID, UUID | None], Room] = {}
    leases = list(leases)
    wanted = {lease.workload_id: lease.pk for lease in leases if lease.action in WANTED}
    for lease in leases:
        runs = lease.state in HOLDS_MEMORY
        # What is to stop shares with one that is wanted.
        place = (lease.workload_id, lease.pk if lease.action in WANTED else wanted.get(lease.workload_id))
        known = per_workload.get(place, Room())
        per_workload[place] = Room(
            max(known.cpu_millis, lease.cpu_millis if runs else 0),
            max(known.memory_bytes, lease.memory_bytes if runs else 0),
            max(known.disk_bytes, lease.disk_bytes),
        )
    rooms = per_workload.values()
    return Room(
        sum(room.cpu_millis for room in rooms),
        sum(room.memory_bytes for room in rooms),
        sum(room.disk_bytes for room in rooms),
    )
