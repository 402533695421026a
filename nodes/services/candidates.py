"""Which devices a batch of placements looks at, and if none can take a workload, why in words. Promises nothing.

The number of queries depends on the kinds of request in the batch, not on how many it is, and neither on how many apps run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.expressions import Combinable
from redis import RedisError

from interchain_site.core import redis
from nodes.agent import protocol
from nodes.errors import NoDevice
from nodes.models import Device, Lease
from nodes.services import data_home, failures, reservations, willingness
from nodes.services.fleet import Candidate, Fleet, Kind
from nodes.services.vacancies import Vacancy
from nodes.states import DeviceState

PAGE = 50
LOAD_KEY = "nodes:load"
LOOKED_AT = (
    *("owner_id", "region", "state", "endpoint_host", "capacity", "has_gvisor", "reliability", "checks"),
    *("cpu_millis", "memory_bytes", "disk_bytes"),
    *("reserved_cpu_millis", "reserved_memory_bytes", "reserved_disk_bytes"),
    *("limits", "local_limits", "local_mode", "local_reason", "transfer_month", "transfer_bytes"),
)


def survey(vacancies: Sequence[Vacancy], *, now: datetime) -> Fleet:
    """Find out what matters of the past of these workloads, and return the devices to choose from."""
    fleet = Fleet(_Pages(vacancies))
    known = [vacancy for vacancy in vacancies if not vacancy.first]
    read_held(known)
    failed = failures.of_workloads([vacancy.workload_id for vacancy in known], now=now)
    for vacancy in known:
        vacancy.failures = failed.get(vacancy.workload_id, {})
        vacancy.resting = failures.resting(vacancy.failures, now=now, forgiving=vacancy.forgiving)
    warm = _warm({image_key(vacancy.workload) for vacancy in vacancies})
    for vacancy in vacancies:
        vacancy.warm = warm.get(image_key(vacancy.workload), set())
    special = {pk for vacancy in vacancies for pk in (*vacancy.warm, *vacancy.held)}
    _know(fleet, _online().filter(pk__in=special) if special else ())
    for vacancy in known:
        _find_home(fleet, vacancy)
    return fleet


def read_held(vacancies: Iterable[Vacancy]) -> None:
    """Bring up to date what the workloads hold; those that never were anywhere hold nothing."""
    known = [vacancy for vacancy in vacancies if not vacancy.first]
    held = reservations.held_by_workloads([vacancy.workload_id for vacancy in known])
    for vacancy in known:
        vacancy.held = held.get(vacancy.workload_id, {})


def image_key(workload: protocol.Workload) -> str:
    return workload.image.archive_sha256 or workload.image.reference


def why_none(vacancy: Vacancy) -> str:
    """Return why no device takes the workload now, in words."""
    if vacancy.refused:
        return vacancy.refused
    workload, need = vacancy.workload, reservations.need_of(vacancy.workload)
    kind = Kind.of(workload, vacancy.region)
    online = _with_runtime(_online(), kind)
    devices = list(online.order_by(F("reserved_memory_bytes") - F("memory_bytes"))[:PAGE])
    if not devices and kind.needs_gvisor:
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
    rooms = [_room(vacancy, device) for device in devices]
    if any(device.pk in vacancy.resting and room.fits(need) for device, room in zip(devices, rooms, strict=True)):
        return "The devices that have room could not run this a moment ago. They are asked again in a while."
    return _lacking(need, rooms)


def _lacking(need: reservations.Room, rooms: list[reservations.Room]) -> str:
    parts = []
    if need.memory_bytes > (most := max(room.memory_bytes for room in rooms)):
        parts.append(f"memory (at most {most // 10**6} MB free on one device)")
    if need.cpu_millis > (most := max(room.cpu_millis for room in rooms)):
        parts.append(f"processor (at most {most / 1000:g} cores free on one device)")
    if need.disk_bytes > (most := max(room.disk_bytes for room in rooms)):
        parts.append(f"disk (at most {most // 10**6} MB free on one device)")
    lacking = " and ".join(parts) or "memory, processor and disk together"
    return f"No device that is online has enough {lacking}. Ask for less, or try again later."


def _room(vacancy: Vacancy, device: Device) -> reservations.Room:
    """Return what a device could give the workload if nothing of it went on there."""
    stopping = [lease.pk for lease in vacancy.held.get(device.pk, ())]
    return reservations.free_room(device) + vacancy.claim(device.pk, reservations.Room(), stopping).before


class _Pages:
    """The devices that may have room for a kind of request, those in its region first, then those with most room."""

    def __init__(self, vacancies: Sequence[Vacancy]) -> None:
        self._slots: Counter[Kind] = Counter()
        self._largest: Counter[Kind] = Counter()
        for vacancy in vacancies:
            kind, slots = Kind.of(vacancy.workload, vacancy.region), len(vacancy.slots)
            self._slots[kind] += slots
            self._largest[kind] = max(self._largest[kind], slots)

    def __call__(self, fleet: Fleet, kind: Kind) -> Iterator[list[Candidate]]:
        order: list[str | Combinable] = [
            *(["-has_gvisor"] if kind.wishes_gvisor else []),
            *([Case(When(region=kind.region, then=Value(0)), default=Value(1))] if kind.region else []),
            F("reserved_memory_bytes") - F("memory_bytes"),
            "pk",
        ]
        fitting = _with_runtime(_online(), kind).filter(
            cpu_millis__gte=F("reserved_cpu_millis") + kind.need.cpu_millis,
            memory_bytes__gte=F("reserved_memory_bytes") + kind.need.memory_bytes,
            disk_bytes__gte=F("reserved_disk_bytes") + kind.need.disk_bytes,
        )
        # Slots of one workload need a device each; those of several may share one.
        start, size = 0, PAGE + 2 * self._largest[kind] + self._slots[kind] // 2
        while True:
            found = list(fitting.order_by(*order)[start : start + size])
            yield _know(fleet, found)
            if len(found) < size:
                return
            start, size = start + size, size * 4


def _online() -> QuerySet[Device]:
    return Device.objects.filter(state=DeviceState.ONLINE, local_mode=protocol.Mode.OPEN.value).only(*LOOKED_AT)


def _with_runtime(devices: QuerySet[Device], kind: Kind) -> QuerySet[Device]:
    return devices.filter(has_gvisor=True) if kind.needs_gvisor else devices


def _know(fleet: Fleet, devices: Iterable[Device]) -> list[Candidate]:
    """Return the batch's candidate for each device; those it has already stay as they are."""
    found = list(devices)
    new = [device for device in found if device.pk not in fleet.known]
    loads = _loads([device.pk for device in new])
    for device in new:
        fleet.known[device.pk] = Candidate(device, loads.get(device.pk, 0))
    return [fleet.known[device.pk] for device in found]


def _warm(keys: set[str]) -> dict[str, set[UUID]]:
    """Return by image the devices that ran it. One query."""
    found: dict[str, set[UUID]] = {}
    for key, device_id in (
        Lease.objects.filter(image_key__in=keys).order_by().values_list("image_key", "device_id").distinct()
    ):
        found.setdefault(key, set()).add(device_id)
    return found


def _loads(device_ids: list[UUID]) -> dict[UUID, int]:
    """Return how busy each device said its processor is, in percent; without Redis nobody is."""
    try:
        told = redis.connection().hmget(LOAD_KEY, [str(pk) for pk in device_ids]) if device_ids else []
    except RedisError:
        return {}
    return {pk: int(json.loads(text).get("cpu_percent", 0)) for pk, text in zip(device_ids, told, strict=True) if text}


def _find_home(fleet: Fleet, vacancy: Vacancy) -> None:
    """Where its data is, a workload goes; what keeps it from going there is noted as the reason."""
    try:
        home = data_home.home_of(vacancy.workload)
        if home is None:
            return
        _know(fleet, [home])
        vacancy.home = home.pk
        _check_home(home, vacancy)
    except NoDevice as error:
        vacancy.refused = error.message


def _check_home(device: Device, vacancy: Vacancy) -> None:
    workload = vacancy.workload
    if device.state == DeviceState.OFFLINE:
        raise NoDevice("The device that keeps this data is offline. Start again when it is back, or delete the data.")
    if device.state != DeviceState.ONLINE:
        raise NoDevice("The owner of the device that keeps this data has paused it. Try again later.")
    if workload.encrypted and not device.encrypts_volumes:
        raise NoDevice("The device that keeps this data cannot encrypt it, as this release wants it.")
    if not willingness.willing(device, workload):
        raise NoDevice("The owner of the device that keeps this data does not take this now. Try again later.")
    if device.pk in vacancy.resting:
        raise NoDevice("The device that keeps this data could not run it a moment ago. Try again later.")
    if not _room(vacancy, device).fits(reservations.need_of(workload)):
        raise NoDevice("The device that keeps this data has no room for it now. Ask for less, or try again later.")
