"""What a device has promised, counted per workload: a generation that is to stop shares its promise with the next one, two that
are wanted side by side (during a release) have one each, and a stopped one keeps only the disk of its volume.

Lock order everywhere in nodes: lease rows first, then one device row.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
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

    def __add__(self, other: Room) -> Room:
        return Room(
            self.cpu_millis + other.cpu_millis,
            self.memory_bytes + other.memory_bytes,
            self.disk_bytes + other.disk_bytes,
        )

    def __sub__(self, other: Room) -> Room:
        return Room(
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
            self.disk_bytes - other.disk_bytes,
        )

    def fits(self, need: Room) -> bool:
        """Return whether `need` is no more than this in any of the three."""
        return (
            need.cpu_millis <= self.cpu_millis
            and need.memory_bytes <= self.memory_bytes
            and need.disk_bytes <= self.disk_bytes
        )


def need_of(workload: protocol.Workload) -> Room:
    return Room(workload.cpu_millis, workload.memory_bytes, workload.disk_bytes)


def free_room(device: Device) -> Room:
    """Return what the device's columns say it can still promise."""
    return Room(
        device.cpu_millis - device.reserved_cpu_millis,
        device.memory_bytes - device.reserved_memory_bytes,
        device.disk_bytes - device.reserved_disk_bytes,
    )


def held_by_workloads(workload_ids: Collection[UUID]) -> dict[UUID, dict[UUID, list[Lease]]]:
    """Return the leases by which these workloads hold something, by workload and device. One query."""
    found: dict[UUID, dict[UUID, list[Lease]]] = {}
    for lease in _holding().filter(workload_id__in=workload_ids) if workload_ids else ():
        found.setdefault(lease.workload_id, {}).setdefault(lease.device_id, []).append(lease)
    return found


def held_with(own: Sequence[Lease], need: Room, *, stopping: Collection[UUID]) -> tuple[Room, Room, Room]:
    """Return what one workload's leases hold of a device now; what they hold with one lease more; and what of them goes on beside it.

    Args:
        stopping: leases of it that are asked to stop when the new one is opened.
    """
    after = [copy.copy(lease) for lease in own]
    for lease in after:
        if lease.pk in stopping:
            lease.action = protocol.Action.STOP.value
    new = Lease(workload_id=own[0].workload_id, **dataclasses.asdict(need))
    return _held(own), _held([*after, new]), _held(lease for lease in after if lease.action in WANTED)


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


def write(held: Mapping[UUID, Room]) -> None:
    """Write down what is held of devices the caller has locked, in one statement."""
    if not held:
        return
    table, key = Device._meta.db_table, Device._meta.pk
    rows = [
        (key.get_db_prep_save(pk, connection), room.cpu_millis, room.memory_bytes, room.disk_bytes)
        for pk, room in held.items()
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET reserved_cpu_millis = held.column2, reserved_memory_bytes = held.column3,"  # noqa: S608  (our own table)
            f" reserved_disk_bytes = held.column4 FROM (VALUES {', '.join(['(%s, %s, %s, %s)'] * len(rows))}) AS held"
            f" WHERE {table}.id = held.column1",
            [value for row in rows for value in row],
        )


def held_by(device: Device) -> Room:
    """Return what the device's leases hold."""
    return _held(_holding().filter(device=device))


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
