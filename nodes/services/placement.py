"""Find devices for workloads' replicas and promise each its room, under the devices' locks, so that none is over-committed.

Everything is placed in batches, of one or of hundreds, by `fill_many`: the devices are looked at without a lock, one is chosen for each slot, those
chosen are locked and looked at again, and all leases are written at once.

Lock order: the workloads' rows (`ReplicaSet`), their leases, the devices, each in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from interchain_site.core.models import User
from nodes.agent.protocol import Action, Workload
from nodes.errors import Conflict, NoDevice
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import candidates, fleet, handovers, leases, openings, replica_sets, rollout_ends
from nodes.services.fleet import Fleet
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.services.vacancies import Choice, Filled, Vacancy
from nodes.services.workload_rules import check_workload
from nodes.states import LeaseState

ROUNDS_AS_SEEN = 2
"""So often the devices chosen may have changed by the time they are locked; then all that were looked at are locked first."""


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
            rollout_ends.drop(wanted.pk)
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
        rollout_ends.drop(wanted.pk)
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
    vacancy = Vacancy(workload=workload, slots=list(range(replicas)), newest={})
    choices = candidates.survey([vacancy], now=timezone.now()).choose([vacancy])
    if not choices:
        return candidates.why_none(vacancy)
    return too_few(len(choices), replicas) if len(choices) < replicas else ""


def too_few(found: int, wanted: int) -> str:
    """Return why so many replicas cannot be, in words."""
    return (
        f"Only {found} device{'s' if found > 1 else ''} can take this now, and each replica needs one of its own: "
        f"ask for {found} instead of {wanted}, or try again later."
    )


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
    """Lease a device for each of these slots of one workload: `fill_many` with a batch of one.

    Args:
        beside: what serves in these slots goes on until the new lease is ready (nodes/services/handovers.py).
    """
    vacancy = Vacancy.of(wanted, newest, slots, by=by, avoid=avoid, forgiving=forgiving, beside=beside)
    (filled,) = fill_many([vacancy])
    return filled


def fill_many(vacancies: Sequence[Vacancy]) -> list[Filled]:
    """Lease a device for each of these slots, earlier vacancies first; the caller has locked their workloads. A slot that finds none stays as it was.

    1. Look at the devices, and choose. 2. Lock those chosen, in the order of their ids; where one has less room than was seen, let go of all and
    choose again. 3. The leases before give way, the new ones are written (nodes/services/openings.py); `newest` of each is kept up to date.
    """
    waiting = [vacancy for vacancy in vacancies if vacancy.slots]
    opened = _fill(waiting, now=timezone.now()) if waiting else {}
    return [_filled(vacancy, opened) for vacancy in vacancies]


def _fill(vacancies: Sequence[Vacancy], *, now: datetime) -> dict[tuple[UUID, int], Lease]:
    found = candidates.survey(vacancies, now=now)
    for number in range(ROUNDS_AS_SEEN + 1):
        locks_all = number == ROUNDS_AS_SEEN
        choices = [] if locks_all else found.choose(vacancies)
        try:
            with transaction.atomic():  # lets go of the devices' locks
                if locks_all:
                    _lock(found, vacancies, list(found.known))
                    choices = found.choose(vacancies, look_further=False)
                    devices = {choice.device_id: found.known[choice.device_id].device for choice in choices}
                else:
                    devices = _lock_as_seen(found, vacancies, choices)
                return openings.write(choices, devices, found, now=now)
        except _Outdated:
            continue
    raise AssertionError  # what is locked is not outdated


class _Outdated(Exception):
    """A device has less room than was seen."""


def _lock(found: Fleet, vacancies: Sequence[Vacancy], device_ids: Collection[UUID]) -> dict[UUID, Device]:
    """Lock devices, and take them and what the workloads hold of them as they are now."""
    rows = Device.objects.select_for_update().filter(pk__in=device_ids).order_by("pk") if device_ids else ()
    devices = {device.pk: device for device in rows}
    for pk, device in devices.items():
        found.known[pk].see(device)
    candidates.read_held(vacancies)
    return devices


def _lock_as_seen(found: Fleet, vacancies: Sequence[Vacancy], choices: list[Choice]) -> dict[UUID, Device]:
    """Lock the devices chosen.

    Raises:
        _Outdated: one cannot take what was chosen for it any more.
    """
    devices = _lock(found, vacancies, {choice.device_id for choice in choices})
    if not all(fleet.still_holds(choice, found.known[choice.device_id]) for choice in choices):
        raise _Outdated
    return devices


def _filled(vacancy: Vacancy, opened: dict[tuple[UUID, int], Lease]) -> Filled:
    leased = [opened[key] for slot in vacancy.slots if (key := (vacancy.workload_id, slot)) in opened]
    lacking = len(vacancy.slots) - len(leased)
    return Filled(leased, lacking, partial(candidates.why_none, vacancy) if lacking else str)
