"""Find a device for a workload and promise it the room, under the device's lock, so that none is ever over-committed."""

from __future__ import annotations

import dataclasses
import json
import re
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from interchain_site.core import audit, secrets
from interchain_site.core.models import User
from nodes.agent import protocol
from nodes.errors import Conflict, Invalid, MovedMeanwhile, NoDevice
from nodes.models import Device, Lease
from nodes.scoring import Offer, rank
from nodes.services import leases, reservations, routes, willingness
from nodes.services.reservations import Room
from nodes.services.wake import wake
from nodes.signals import lease_changed
from nodes.states import DeviceState, LeaseState

MOST_CANDIDATES = 50
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


def open_lease(*, workload: protocol.Workload, owner_filter: None = None, by: User | None) -> Lease:
    """Place a workload that does not run now: pick a device, reserve its room, wake it on commit.

    An earlier generation that is lost or still stopping is superseded.

    Raises:
        Invalid: it is not a workload, e.g. its name is no host label.
        NoDevice: none can take it; the message says why in words.
        Conflict: it runs already (use `replace_workload`), its data is being deleted, or its name is taken.
    """
    _check(workload)
    with transaction.atomic():
        last = _last_of(workload)
        if last is not None and last.action == protocol.Action.RUN.value and last.state != LeaseState.LOST:
            raise Conflict("This already runs. Redeploy it to change what runs.")
        if last is not None and last.action == protocol.Action.WIPE.value and last.state != LeaseState.WIPED:
            raise Conflict("Its data is being deleted. Wait until that is done, then start it again.")
        return _place(workload, last, by=by)


def replace_workload(
    *, lease_id: UUID, workload: protocol.Workload, by: User | None, avoid: UUID | None = None
) -> Lease:
    """Lease a changed workload in place of a running one: the next generation, where its data is if it has any.

    Args:
        avoid: a device it is to leave.

    Raises:
        NotFound: there is no such lease.
        NoDevice: none can take the changed workload; the old one goes on.
        Conflict: the lease is not the newest of this workload.
    """
    _check(workload)
    with transaction.atomic():
        lease = leases.get(lease_id)
        if str(lease.workload_id) != str(UUID(workload.id)) or not lease.is_newest:
            raise Conflict("This was redeployed meanwhile. Reload and try again.")
        return _place(workload, lease, by=by, avoid=avoid)


def can_place(*, workload: protocol.Workload) -> str:
    """Return "" when a device could take it now, or the reason in words. Promises nothing.

    Raises:
        Invalid: it is not a workload.
    """
    _check(workload)
    try:
        _offers(workload, None)
    except NoDevice as error:
        return error.message
    return ""


def _check(workload: protocol.Workload) -> None:
    fields = {}
    try:
        UUID(workload.id)
    except ValueError:
        fields["id"] = "Not a UUID."
    if not _LABEL.match(workload.name):
        fields["name"] = "Not a label of a host name: a–z, 0–9 and - inside, at most 63."
    if not 1 <= workload.port <= 65535:
        fields["port"] = "Not a port from 1 to 65535."
    for name, least in (("cpu_millis", 1), ("memory_bytes", 1), ("disk_bytes", 0)):
        if not least <= getattr(workload, name) < 2**62:
            fields[name] = "Out of range."
    if not 1 <= len(_image_key(workload)) <= 300:
        fields["image"] = "Neither a reference nor an archive."
    if fields:
        raise Invalid(fields=fields)


def _place(workload: protocol.Workload, last: Lease | None, *, by: User | None, avoid: UUID | None = None) -> Lease:
    """1. Rank the devices. 2. Supersede the last generation. 3. Lock the best that still has room and lease it."""
    offers = rank(offer for offer in _offers(workload, last) if offer.device_id != avoid)
    if not offers:
        raise NoDevice
    if last is not None:
        Lease.objects.filter(pk=last.pk).update(is_newest=False)
        last.is_newest = False
        if last.action == protocol.Action.RUN.value:
            leases.close_locked(last, reason="")
    for offer in offers:
        lease = _try(offer.device_id, workload, generation=last.generation + 1 if last else 1)
        if lease is not None:
            audit.record(
                "lease_opened",
                subject=f"lease:{lease.pk}",
                by=by,
                workload=str(lease.workload_id),
                generation=lease.generation,
                device=str(lease.device_id),
            )
            wake(lease.device_id)
            routes.publish(lease)
            lease_changed.send(
                sender=Lease, lease_id=lease.pk, workload_id=lease.workload_id, state=lease.state, reason=""
            )
            return lease
    raise NoDevice("Every device that fits was taken a moment ago. Try again.")


def _try(device_id: UUID, workload: protocol.Workload, *, generation: int) -> Lease | None:
    """Lease it on this device if it still has room. The savepoint lets go of the device's lock when it has not."""
    try:
        with transaction.atomic():
            device = Device.objects.select_for_update().get(pk=device_id)
            held = reservations.leases_on(device)
            room = reservations.room_beside(device, held, for_workload=UUID(workload.id))
            if not room.fits(reservations.need_of(workload)) or not _willing(device, workload):
                raise NoDevice
            lease = _create(device, workload, generation)
            reservations.write(device, [*held, lease])
            return lease
    except NoDevice:
        return None
    except IntegrityError as error:
        if Lease.objects.filter(name=workload.name, action="run").exclude(workload_id=UUID(workload.id)).exists():
            raise Conflict(f"The name {workload.name} is taken by something that runs now.") from error
        raise MovedMeanwhile from error


def _create(device: Device, workload: protocol.Workload, generation: int) -> Lease:
    now = timezone.now()
    public = json.loads(protocol.to_json(dataclasses.replace(workload, environment={})))
    return Lease.objects.create(
        workload_id=UUID(workload.id),
        generation=generation,
        device=device,
        name=workload.name,
        workload_public=public,
        environment_encrypted=secrets.encrypt(json.dumps(workload.environment)),
        image_key=_image_key(workload),
        cpu_millis=workload.cpu_millis,
        memory_bytes=workload.memory_bytes,
        disk_bytes=workload.disk_bytes,
        has_volume=bool(workload.volume_path),
        opened_at=now,
        state_changed_at=now,
    )


def _last_of(workload: protocol.Workload) -> Lease | None:
    newest = Lease.objects.filter(workload_id=UUID(workload.id), is_newest=True).select_related("device")
    return newest.select_for_update(of=("self",)).first()


def _offers(workload: protocol.Workload, last: Lease | None) -> list[Offer]:
    """Return the devices that could take it, or raise `NoDevice` with the reason in words. `last` is its newest lease."""
    holder = _holder(workload)
    if holder is not None:
        _check_holder(holder, workload, last)
        return [Offer(holder.pk, True, True, 0)]
    need = reservations.need_of(workload)
    online = Device.objects.filter(state=DeviceState.ONLINE, local_mode=protocol.Mode.OPEN.value)
    fitting = online.filter(
        cpu_millis__gte=F("reserved_cpu_millis") + need.cpu_millis,
        memory_bytes__gte=F("reserved_memory_bytes") + need.memory_bytes,
        disk_bytes__gte=F("reserved_disk_bytes") + need.disk_bytes,
    )
    # A device that runs an earlier generation counts that one's room as free for the next.
    holding = [last.device] if last is not None and last.device.state == DeviceState.ONLINE else []
    candidates = [*fitting.order_by(F("reserved_memory_bytes") - F("memory_bytes"))[:MOST_CANDIDATES], *holding]
    declined = willingness.declined(last)
    offers = _fit_offers([device for device in candidates if device.pk not in declined], workload, need)
    if not offers:
        raise NoDevice(_why_none(online, workload, need))
    return offers


def _fit_offers(candidates: list[Device], workload: protocol.Workload, need: Room) -> list[Offer]:
    warm = Lease.objects.filter(image_key=_image_key(workload), device__in=[device.pk for device in candidates])
    warm_ids = set(warm.values_list("device_id", flat=True))
    offers = {}
    for device, room in zip(
        candidates, reservations.free_rooms(candidates, for_workload=UUID(workload.id)), strict=True
    ):
        if room.fits(need) and _willing(device, workload):
            offers[device.pk] = Offer(device.pk, False, device.pk in warm_ids, room.memory_bytes)
    return list(offers.values())


def _willing(device: Device, workload: protocol.Workload) -> bool:
    offered = workload.profile.value in device.capacity.get("profiles", [])
    return offered and willingness.takes(device) and not willingness.refusal(device, workload)


def _holder(workload: protocol.Workload) -> Device | None:
    """Return the device that keeps the workload's data. Starting elsewhere would start with none, so it must be there."""
    if not workload.volume_path:
        return None
    kept = Lease.objects.filter(workload_id=UUID(workload.id), has_volume=True).exclude(state=LeaseState.WIPED)
    last = kept.exclude(device__state=DeviceState.REVOKED).select_related("device").order_by("-generation").first()
    return last.device if last else None


def _check_holder(device: Device, workload: protocol.Workload, last: Lease | None) -> None:
    if device.state == DeviceState.OFFLINE:
        raise NoDevice("The device that keeps this data is offline. Start again when it is back, or delete the data.")
    if device.state != DeviceState.ONLINE:
        raise NoDevice("The owner of the device that keeps this data has paused it. Try again later.")
    if not _willing(device, workload) or device.pk in willingness.declined(last):
        raise NoDevice("The owner of the device that keeps this data does not take this now. Try again later.")
    (room,) = reservations.free_rooms([device], for_workload=UUID(workload.id))
    if not room.fits(reservations.need_of(workload)):
        raise NoDevice("The device that keeps this data has no room for it now. Ask for less, or try again later.")


def _why_none(online: QuerySet[Device], workload: protocol.Workload, need: Room) -> str:
    devices = list(online.order_by(F("reserved_memory_bytes") - F("memory_bytes"))[:MOST_CANDIDATES])
    if not devices:
        return "No device is online. Try again when one is, or enrol one on the devices page."
    if not any(workload.profile.value in device.capacity.get("profiles", []) for device in devices):
        return f"No device that is online offers the {workload.profile.value} sandbox."
    refusals = [willingness.refusal(device, workload) or willingness.standing(device).reason for device in devices]
    if all(refusals):
        return f"No device that is online takes this now. {refusals[0]}"
    rooms = reservations.free_rooms(devices, for_workload=UUID(workload.id))
    parts = []
    if need.memory_bytes > (most := max(room.memory_bytes for room in rooms)):
        parts.append(f"memory (at most {most // 10**6} MB free on one device)")
    if need.cpu_millis > (most := max(room.cpu_millis for room in rooms)):
        parts.append(f"processor (at most {most / 1000:g} cores free on one device)")
    if need.disk_bytes > (most := max(room.disk_bytes for room in rooms)):
        parts.append(f"disk (at most {most // 10**6} MB free on one device)")
    lacking = " and ".join(parts) or "memory, processor and disk together"
    return f"No device that is online has enough {lacking}. Ask for less, or try again later."


def _image_key(workload: protocol.Workload) -> str:
    return workload.image.archive_sha256 or workload.image.reference
