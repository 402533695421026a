"""What a device has promised, counted per workload: a generation that is to stop shares its promise with the next one, two that
are wanted side by side (during a release) have one each, and a stopped one keeps only the disk of its volume. Of the disk a workload
is promised what the device lets it write (limits.held_disk_bytes): its volume, and what it may write beside that.

Lock order everywhere in nodes: lease rows first, then one device row.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from nodes.agent import protocol
from nodes.agent.limits import held_disk_bytes, least
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
    disk = held_disk_bytes(workload.disk_bytes, workload.profile.value, has_volume=bool(workload.volume_path))
    return Room(workload.cpu_millis, workload.memory_bytes, disk)


def room_of(lease: Lease) -> Room:
    """Return what one lease holds by itself, as it is now."""
    runs = lease.state in HOLDS_MEMORY
    profile = str(lease.workload_public.get("profile", ""))
    disk = held_disk_bytes(lease.disk_bytes, profile, has_volume=lease.has_volume, runs=runs)
    return Room(lease.cpu_millis if runs else 0, lease.memory_bytes if runs else 0, disk)


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
    now = [_promise(lease) for lease in own]
    after = [replace(each, wanted=each.wanted and each.lease_id not in stopping) for each in now]
    new = _Promise(own[0].workload_id, uuid.uuid4(), wanted=True, room=need)
    return _held(now), _held([*after, new]), _held(each for each in after if each.wanted)


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
    return _held(_promise(lease) for lease in _holding().filter(device=device))


def lent_by(device: Device) -> Room:
    """Return what the owner lends: what the device has, within both sets of limits."""

    def lent(name: str) -> int:
        return least(int(device.capacity.get(name, 0)), *(getattr(limits, name) for limits in device.both_limits))

    return Room(lent("cpu_millis"), lent("memory_bytes"), lent("disk_bytes"))


def _holding() -> QuerySet[Lease]:
    amounts = ("cpu_millis", "memory_bytes", "disk_bytes", "has_volume", "workload_public")
    return Lease.objects.filter(_HOLDS).only("device_id", "workload_id", "state", "action", *amounts).order_by()


@dataclass(frozen=True)
class _Promise:
    """What one lease holds, and whether it is to go on."""

    workload_id: UUID
    lease_id: UUID
    wanted: bool
    room: Room


def _promise(lease: Lease) -> _Promise:
    return _Promise(lease.workload_id, lease.pk, lease.action in WANTED, room_of(lease))


def _held(promises: Iterable[_Promise]) -> Room:
    per_workload: dict[tuple[UUID, UUID | None], Room] = {}
    promises = list(promises)
    wanted = {each.workload_id: each.lease_id for each in promises if each.wanted}
    for each in promises:
        # What is to stop shares with one that is wanted.
        place = (each.workload_id, each.lease_id if each.wanted else wanted.get(each.workload_id))
        known = per_workload.get(place, Room())
        per_workload[place] = Room(
            max(known.cpu_millis, each.room.cpu_millis),
            max(known.memory_bytes, each.room.memory_bytes),
            max(known.disk_bytes, each.room.disk_bytes),
        )
    return sum(per_workload.values(), Room())
