"""Which devices could take a workload now, and if none can, why in words. Promises nothing."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import F, QuerySet
from django.db.models.expressions import Combinable
from redis import RedisError

from interchain_site.core import redis
from nodes.agent import protocol
from nodes.errors import NoDevice
from nodes.models import Device, Lease
from nodes.scoring import Offer, network_of
from nodes.services import data_home, failures, reservations, willingness
from nodes.services.reservations import Room
from nodes.states import DeviceState

MOST_CANDIDATES = 50
LOAD_KEY = "nodes:load"


def offers(
    workload: protocol.Workload,
    *,
    holding: Iterable[Device] = (),
    avoid: Collection[UUID] = (),
    count: int = 1,
    first: bool = False,
    forgiving: bool = True,
    beside: bool = False,
    now: datetime,
) -> list[Offer]:
    """Return the devices that could take one more replica of it each, unordered.

    Args:
        holding: devices that hold an earlier generation of it, whose room counts as free for the next.
        avoid: devices it is not to go to.
        count: how many replicas are to be placed, so that enough devices are looked at.
        first: whether it never was anywhere, so that nothing need be looked up of its past.
        beside: whether what is wanted of it now goes on, and so holds its room.
        forgiving: whether a person asks, who may try a device that failed it a moment ago.

    Raises:
        NoDevice: there is none; the message says why.
    """
    home = data_home.home_of(workload)
    known_failures = {} if first else failures.of_workload(UUID(workload.id), now=now)
    resting = failures.resting(known_failures, now=now, forgiving=forgiving)
    if home is not None:
        _check_home(home, workload, resting)
        return [] if home.pk in avoid else [offer_of(home, has_volume=True)]
    need = reservations.need_of(workload)
    online = _with_runtime(_online(), workload)
    fitting = online.filter(
        cpu_millis__gte=F("reserved_cpu_millis") + need.cpu_millis,
        memory_bytes__gte=F("reserved_memory_bytes") + need.memory_bytes,
        disk_bytes__gte=F("reserved_disk_bytes") + need.disk_bytes,
    ).exclude(pk__in={*resting, *avoid})
    wished: list[str | Combinable] = ["-has_gvisor"] if workload.runtime is protocol.Runtime.GVISOR else []
    by_room: list[str | Combinable] = [*wished, F("reserved_memory_bytes") - F("memory_bytes")]
    looked_at = fitting.order_by(*by_room)[: MOST_CANDIDATES + 2 * count]
    free = [one for one in holding if one.state == DeviceState.ONLINE and one.pk not in {*resting, *avoid}]
    devices = {device.pk: device for device in [*looked_at, *free]}
    found = _fitting(devices, workload, need, known_failures, beside=beside)
    if not found:
        raise NoDevice(_why_none(online, workload, need, resting))
    with_gvisor = [offer for offer in found if offer.has_gvisor]
    return with_gvisor if wished and len(with_gvisor) >= count else found


def offer_of(device: Device, **known: object) -> Offer:
    """Return what is known of a device as the ranking takes it."""
    facts = {
        "device_id": device.pk,
        "owner_id": device.owner_id,
        "network": network_of(device.endpoint_host),
        "region": device.region,
        "has_gvisor": device.has_gvisor,
        "reliability": device.reliability,
    }
    return Offer(**(facts | known))  # type: ignore[arg-type]


def willing(device: Device, workload: protocol.Workload) -> bool:
    """Return whether the device offers the workload's sandbox and its owner takes it now."""
    offered = workload.profile.value in device.capacity.get("profiles", [])
    if workload.encrypted and not device.encrypts_volumes:
        return False
    offered = offered and (device.has_gvisor or not _needs_gvisor(workload))
    return offered and willingness.takes(device) and not willingness.refusal(device, workload)


def image_key(workload: protocol.Workload) -> str:
    return workload.image.archive_sha256 or workload.image.reference


def _online() -> QuerySet[Device]:
    return Device.objects.filter(state=DeviceState.ONLINE, local_mode=protocol.Mode.OPEN.value)


def _needs_gvisor(workload: protocol.Workload) -> bool:
    return workload.runtime is protocol.Runtime.GVISOR and not workload.runtime_optional


def _with_runtime(devices: QuerySet[Device], workload: protocol.Workload) -> QuerySet[Device]:
    return devices.filter(has_gvisor=True) if _needs_gvisor(workload) else devices


def _fitting(
    devices: dict[UUID, Device],
    workload: protocol.Workload,
    need: Room,
    failed: dict[UUID, failures.Failures],
    *,
    beside: bool,
) -> list[Offer]:
    warm = Lease.objects.filter(image_key=image_key(workload), device__in=list(devices))
    warm_ids = set(warm.values_list("device_id", flat=True))
    ordered = list(devices.values())
    rooms = reservations.free_rooms(ordered, for_workload=UUID(workload.id), beside=beside)
    loads = _loads(list(devices))
    return [
        offer_of(
            device,
            has_image=device.pk in warm_ids,
            free_memory_bytes=room.memory_bytes,
            cpu_percent=loads.get(device.pk, 0),
            failures=failed[device.pk].count if device.pk in failed else 0,
        )
        for device, room in zip(ordered, rooms, strict=True)
        if room.fits(need) and willing(device, workload)
    ]


def _loads(device_ids: list[UUID]) -> dict[UUID, int]:
    """Return how busy each device said its processor is, in percent; without Redis nobody is."""
    try:
        told = redis.connection().hmget(LOAD_KEY, [str(pk) for pk in device_ids]) if device_ids else []
    except RedisError:
        return {}
    return {pk: int(json.loads(text).get("cpu_percent", 0)) for pk, text in zip(device_ids, told, strict=True) if text}


def _check_home(device: Device, workload: protocol.Workload, resting: Collection[UUID]) -> None:
    if device.state == DeviceState.OFFLINE:
        raise NoDevice("The device that keeps this data is offline. Start again when it is back, or delete the data.")
    if device.state != DeviceState.ONLINE:
        raise NoDevice("The owner of the device that keeps this data has paused it. Try again later.")
    if workload.encrypted and not device.encrypts_volumes:
        raise NoDevice("The device that keeps this data cannot encrypt it, as this release wants it.")
    if not willing(device, workload):
        raise NoDevice("The owner of the device that keeps this data does not take this now. Try again later.")
    if device.pk in resting:
        raise NoDevice("The device that keeps this data could not run it a moment ago. Try again later.")
    (room,) = reservations.free_rooms([device], for_workload=UUID(workload.id))
    if not room.fits(reservations.need_of(workload)):
        raise NoDevice("The device that keeps this data has no room for it now. Ask for less, or try again later.")


def _why_none(online: QuerySet[Device], workload: protocol.Workload, need: Room, resting: Collection[UUID]) -> str:
    devices = list(online.order_by(F("reserved_memory_bytes") - F("memory_bytes"))[:MOST_CANDIDATES])
    if not devices and _needs_gvisor(workload):
        return "No device that is online runs apps under gVisor. Let the release prefer it instead, or try again later."
    if not devices:
        return "No device is online. Try again when one is, or enrol one on the devices page."
    if not any(workload.profile.value in device.capacity.get("profiles", []) for device in devices):
        return f"No device that is online offers the {workload.profile.value} sandbox."
    if workload.encrypted and not any(device.encrypts_volumes for device in devices):
        return "No device that is online keeps apps' data encrypted on its disk, as this release wants it."
    refusals = [willingness.refusal(device, workload) or willingness.standing(device).reason for device in devices]
    if all(refusals):
        return f"No device that is online takes this now. {refusals[0]}"
    rooms = reservations.free_rooms(devices, for_workload=UUID(workload.id))
    if any(device.pk in resting and room.fits(need) for device, room in zip(devices, rooms, strict=True)):
        return "The devices that have room could not run this a moment ago. They are asked again in a while."
    parts = []
    if need.memory_bytes > (most := max(room.memory_bytes for room in rooms)):
        parts.append(f"memory (at most {most // 10**6} MB free on one device)")
    if need.cpu_millis > (most := max(room.cpu_millis for room in rooms)):
        parts.append(f"processor (at most {most / 1000:g} cores free on one device)")
    if need.disk_bytes > (most := max(room.disk_bytes for room in rooms)):
        parts.append(f"disk (at most {most // 10**6} MB free on one device)")
    lacking = " and ".join(parts) or "memory, processor and disk together"
    return f"No device that is online has enough {lacking}. Ask for less, or try again later."
