"""Find devices for a workload's replicas and promise each its room, under the device's lock, so that none is over-committed.

Lock order: the workload's row (`ReplicaSet`), its leases, one device at a time.

Longer than 300 lines because every way to fill a slot goes through the same few steps, read as one page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent.protocol import Action, Workload
from nodes.errors import Conflict, MovedMeanwhile, NoDevice
from nodes.models import Device, Lease, ReplicaSet, Rollout
from nodes.scoring import Offer, rank
from nodes.services import candidates, data_home, handovers, leases, replica_sets, reservations, routes, volume_keys
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.services.wake import wake
from nodes.services.workload_rules import check_workload
from nodes.signals import lease_changed
from nodes.states import WANTED, LeaseState, RolloutState


def open_lease(
    *,
    workload: Workload,
    replicas: int = 1,
    standby: bool = False,
    region: str = "",
    least: int = 1,
    by: User | None,
) -> Lease:
    """Place a workload that does not run now: a device for each replica, its room reserved; woken on commit.

    Earlier generations that are lost or still stopping are superseded. Where fewer devices than replicas can be found, the sweep goes
    on looking (nodes/services/election.py).

    Args:
        standby: one more device keeps it ready to start.
        least: how many replicas must be placed now.

    Returns:
        the first replica's lease.

    Raises:
        Invalid: it is not a workload, e.g. its name is no host label.
        NoDevice: too few can take it; the message says why in words.
        Conflict: it runs already (use `replace_workload`), its data is being deleted, or its name is taken.
    """
    check_workload(workload)
    with transaction.atomic():
        known = replica_sets.lock(UUID(workload.id))
        newest = replica_sets.newest_leases(UUID(workload.id))
        if any(last.action == Action.RUN.value and last.state != LeaseState.LOST for last in newest.values()):
            raise Conflict("This already runs. Redeploy it to change what runs.")
        if any(last.action == Action.WIPE.value and last.state != LeaseState.WIPED for last in newest.values()):
            raise Conflict("Its data is being deleted. Wait until that is done, then start it again.")
        wanted = replica_sets.want(known, workload, replicas=replicas, standby=standby, region=region)
        if known is not None:
            _drop_rollout(wanted)
            handovers.close_others(wanted.pk, list(newest))
        filled = fill(wanted, newest, range(replicas), by=by, forgiving=by is not None)
        require(filled, least)
        if standby:
            fill(wanted, newest, [STANDBY_SLOT], by=by)
        return filled.opened[0]


def replace_workload(*, lease_id: UUID, workload: Workload, by: User | None, avoid: UUID | None = None) -> Lease:
    """Lease a changed workload in place of a running one, in every slot: the next generations, where its data is if it has any.

    Args:
        avoid: a device it is to leave.

    Raises:
        NotFound: there is no such lease.
        NoDevice: none can take the changed workload; the old one goes on.
        Conflict: the lease is not the newest of its slot.
    """
    check_workload(workload)
    with transaction.atomic():
        wanted = replica_sets.lock(UUID(workload.id))
        lease = leases.get(lease_id)
        if wanted is None or lease.workload_id != wanted.pk or not lease.is_newest:
            raise Conflict("This was redeployed meanwhile. Reload and try again.")
        wanted = replica_sets.want(
            wanted, workload, replicas=wanted.replicas, standby=wanted.standby, region=wanted.region
        )
        _drop_rollout(wanted)
        newest = replica_sets.newest_leases(wanted.pk)
        others = [slot for slot, last in newest.items() if slot != lease.slot and last.action == Action.RUN.value]
        slots = [lease.slot, *others]
        filled = fill(wanted, newest, slots, by=by, avoid=[avoid] if avoid else [])
        require(filled, len(slots))
        if STANDBY_SLOT in newest and wanted.standby:
            fill(wanted, newest, [STANDBY_SLOT], by=by)
        return filled.opened[0]


def relocate(*, lease_id: UUID) -> Lease:
    """Lease the workload's slot on another device than now; the old lease goes on until the new one is ready.

    Raises:
        NoDevice: no other can take it; the old one goes on. Conflict: it is not wanted any more.
    """
    with transaction.atomic():
        workload_id = Lease.objects.values_list("workload_id", flat=True).get(pk=lease_id)
        wanted = replica_sets.lock(workload_id)
        newest = replica_sets.newest_leases(workload_id)
        lease = next((one for one in newest.values() if one.pk == lease_id), None)
        if wanted is None or not wanted.wanted or lease is None:
            raise Conflict("This was redeployed meanwhile. Reload and try again.")
        filled = fill(wanted, newest, [lease.slot], by=None, avoid=[lease.device_id], forgiving=False, beside=True)
        require(filled, 1)
        return filled.opened[0]


def can_place(*, workload: Workload, replicas: int = 1) -> str:
    """Return "" when devices could take so many replicas now, or the reason in words. Promises nothing.

    Raises:
        Invalid: it is not a workload.
    """
    check_workload(workload)
    try:
        found = candidates.offers(workload, count=replicas, now=timezone.now())
    except NoDevice as error:
        return error.message
    return too_few(len(found), replicas) if len(found) < replicas else ""


def too_few(found: int, wanted: int) -> str:
    """Return why so many replicas cannot be, in words."""
    return (
        f"Only {found} device{'s' if found > 1 else ''} can take this now, and each replica needs one of its own: "
        f"ask for {found} instead of {wanted}, or try again later."
    )


@dataclass
class Filled:
    """What an attempt to fill slots came to."""

    opened: list[Lease] = field(default_factory=list)
    lacking: int = 0
    why: str = ""


def require(filled: Filled, least: int) -> None:
    """Raise when fewer slots than that were filled.

    Raises:
        NoDevice.
    """
    if len(filled.opened) < least:
        raise NoDevice(too_few(len(filled.opened), least) if filled.opened else filled.why)


def fill(
    wanted: ReplicaSet,
    newest: dict[int, Lease],
    slots: Iterable[int],
    *,
    by: User | None,
    avoid: Collection[UUID] = (),
    forgiving: bool = True,
    beside: bool = False,
) -> Filled:
    """Lease a device for each of these slots of a workload the caller has locked; `newest` is kept up to date.

    A slot that finds none stays as it was. The devices are looked for once, however many slots there are.

    Args:
        beside: what serves in these slots goes on until the new lease is ready (nodes/services/handovers.py).
    """
    slots, workload, now = list(slots), wanted.workload, timezone.now()
    filled = Filled()
    holding = [last.device for slot, last in newest.items() if slot in slots]
    try:
        found = candidates.offers(
            workload,
            holding=holding,
            avoid=avoid,
            count=len(slots),
            first=not newest,
            forgiving=forgiving,
            beside=beside,
            now=now,
        )
    except NoDevice as error:
        return Filled(lacking=len(slots), why=error.message)
    for number, slot in enumerate(slots):
        try:
            with transaction.atomic() if slot in newest else nullcontext():
                newest[slot] = _fill_slot(wanted, workload, newest, slot, found, by=by, beside=beside, now=now)
                filled.opened.append(newest[slot])
        except NoDevice as error:
            wanted.refresh_from_db(fields=["generation"])  # what was taken was given back
            if slot in newest:
                newest[slot].refresh_from_db()
            return Filled(filled.opened, len(slots) - number, error.message)
    return filled


def _fill_slot(
    wanted: ReplicaSet,
    workload: Workload,
    newest: dict[int, Lease],
    slot: int,
    found: list[Offer],
    *,
    by: User | None,
    beside: bool,
    now: datetime,
) -> Lease:
    """1. Rank the devices that hold no other replica. 2. Supersede the slot's lease, or let it go on until this one is ready.
    3. Lock the best with room, lease it."""
    others = [last.device for other, last in newest.items() if other != slot and last.action in WANTED]
    taken = {device.pk for device in others}
    neighbours = [candidates.offer_of(device) for device in others]
    offers = rank((offer for offer in found if offer.device_id not in taken), beside=neighbours, region=wanted.region)
    if not offers:
        raise NoDevice
    replaces = _make_way(newest[slot], beside=beside, now=now) if slot in newest else None
    action = Action.STANDBY if slot == STANDBY_SLOT else Action.RUN
    for offer in offers:
        lease = _try(offer.device_id, wanted, workload, slot=slot, action=action, replaces=replaces, now=now)
        if lease is not None:
            announce(lease, by=by)
            return lease
    raise NoDevice("Every device that fits was taken a moment ago. Try again.")


def _drop_rollout(wanted: ReplicaSet) -> None:
    """End a rollout that something else took the place of."""
    going = Rollout.objects.filter(workload_id=wanted.pk, state=RolloutState.ROLLING)
    going.update(state=RolloutState.DROPPED, ended_at=timezone.now(), from_environment_encrypted="")


def _make_way(last: Lease, *, beside: bool, now: datetime) -> UUID | None:
    """Make a locked lease the newest of its slot no more; returns which lease goes on until the next is ready, if one does."""
    if beside and handovers.serves(last) and not last.is_pending:
        Lease.objects.filter(pk=last.pk).update(is_newest=False, due_at=None)
        last.is_newest, last.due_at = False, None
        return last.pk
    pending = last.replaces_id if last.is_pending else None
    supersede(last, now=now)
    return pending


def supersede(last: Lease, *, now: datetime) -> None:
    """Take a locked lease's place away: it is asked to stop. One that may go on unseen is fenced: later use never counts."""
    changes = {"is_newest": False} | ({"fenced_at": now} if last.state == LeaseState.LOST else {})
    if last.action in WANTED:  # first, because two of a slot that are not its newest may not both be wanted
        leases.close_locked(last, reason="")
    Lease.objects.filter(pk=last.pk).update(**changes)
    for name, value in changes.items():
        setattr(last, name, value)


def announce(lease: Lease, *, by: User | None) -> None:
    """Tell the device, the gateways and whoever listens that a lease was opened."""
    audit.record(
        "lease_opened",
        subject=f"lease:{lease.pk}",
        by=by,
        workload=str(lease.workload_id),
        slot=lease.slot,
        generation=lease.generation,
        device=str(lease.device_id),
    )
    wake(lease.device_id)
    routes.publish(lease)
    lease_changed.send(sender=Lease, lease_id=lease.pk, workload_id=lease.workload_id, state=lease.state, reason="")


def _try(
    device_id: UUID,
    wanted: ReplicaSet,
    workload: Workload,
    *,
    slot: int,
    action: Action,
    replaces: UUID | None,
    now: datetime,
) -> Lease | None:
    """Lease it on this device if it still has room. The savepoint lets go of the device's lock when it has not."""
    try:
        with transaction.atomic():
            device = Device.objects.select_for_update().get(pk=device_id)
            held = reservations.leases_on(device)
            room = reservations.room_beside(device, held, for_workload=wanted.pk)
            if not room.fits(reservations.need_of(workload)) or not candidates.willing(device, workload):
                raise NoDevice
            lease = Lease.objects.create(
                workload_id=wanted.pk,
                generation=replica_sets.next_generation(wanted),
                slot=slot,
                version=wanted.version,
                replaces_id=replaces,
                action=action.value,
                device=device,
                name=workload.name,
                workload_public=wanted.workload_public,
                environment_encrypted=wanted.environment_encrypted,
                image_key=candidates.image_key(workload),
                cpu_millis=workload.cpu_millis,
                memory_bytes=workload.memory_bytes,
                disk_bytes=workload.disk_bytes,
                has_volume=bool(workload.volume_path),
                restore_from=data_home.begins_with(workload, device),
                opened_at=now,
                state_changed_at=now,
            )
            if lease.has_volume:
                volume_keys.ensure(device=device, workload_id=wanted.pk)
            reservations.write(device, [*held, lease])
            return lease
    except NoDevice:
        return None
    except IntegrityError as error:
        raise MovedMeanwhile from error
