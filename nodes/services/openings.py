"""Open leases for the devices chosen: all of a batch at once, in statements whose number does not depend on how many they are.

What a slot had before (a lost lease, a copy of another version) gives way slot by slot, and data is found and keyed workload by workload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent.protocol import Action
from nodes.errors import MovedMeanwhile
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import candidates, data_home, leases, replica_sets, reservations, routes, volume_keys, wake
from nodes.services.fleet import Fleet
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.services.vacancies import Choice, goes_on
from nodes.signals import leases_opened
from nodes.states import WANTED, LeaseState


def write(
    choices: Sequence[Choice], devices: Mapping[UUID, Device], fleet: Fleet, *, now: datetime
) -> dict[tuple[UUID, int], Lease]:
    """Open a lease for each choice on its device, which the caller has locked; returns them by workload and slot.

    1. What is in the slots gives way. 2. Each workload's counter moves on. 3. The leases are written. 4. The devices' promises are.

    Raises:
        MovedMeanwhile: somebody else moved one of the workloads.
    """
    if not choices:
        return {}
    replaces = [_make_way(choice, now=now) for choice in choices]
    generations = _next_generations(choices)
    opened = [
        _lease(choice, devices[choice.device_id], generation, replaced, now=now)
        for choice, generation, replaced in zip(choices, generations, replaces, strict=True)
    ]
    try:
        with transaction.atomic():
            Lease.objects.bulk_create(opened)
            reservations.write({pk: fleet.known[pk].promised for pk in devices})
    except IntegrityError as error:
        raise MovedMeanwhile from error
    for choice, lease in zip(choices, opened, strict=True):
        choice.vacancy.newest[choice.slot] = lease
        if lease.has_volume:
            volume_keys.ensure(device=lease.device, workload_id=lease.workload_id)
    announce(opened, by={choice.vacancy.workload_id: choice.vacancy.by for choice in choices})
    return {(lease.workload_id, lease.slot): lease for lease in opened}


def supersede(last: Lease, *, now: datetime) -> None:
    """Take a locked lease's place away: it is asked to stop. One that may go on unseen is fenced: later use never counts."""
    changes = {"is_newest": False} | ({"fenced_at": now} if last.state == LeaseState.LOST else {})
    if last.action in WANTED:  # first, because two of a slot that are not its newest may not both be wanted
        leases.close_locked(last, reason="")
    Lease.objects.filter(pk=last.pk).update(**changes)
    for name, value in changes.items():
        setattr(last, name, value)


def announce(opened: Sequence[Lease], *, by: Mapping[UUID, User | None]) -> None:
    """Tell the devices, the gateways and whoever listens that leases were opened, by whom for each workload."""
    audit.record_many(
        audit.event(
            "lease_opened",
            subject=f"lease:{lease.pk}",
            by=by.get(lease.workload_id),
            workload=str(lease.workload_id),
            slot=lease.slot,
            generation=lease.generation,
            device=str(lease.device_id),
        )
        for lease in opened
    )
    workload_ids = list(dict.fromkeys(lease.workload_id for lease in opened))
    wake.wake_many({lease.device_id for lease in opened})
    routes.publish_many(workload_ids)
    leases_opened.send(sender=Lease, workload_ids=workload_ids)


def _make_way(choice: Choice, *, now: datetime) -> UUID | None:
    """Make the slot's locked lease its newest no more; returns which lease goes on until the new one is ready, if one does."""
    last = choice.vacancy.newest.get(choice.slot)
    if last is None:
        return None
    if goes_on(last, beside=choice.vacancy.beside):
        Lease.objects.filter(pk=last.pk).update(is_newest=False, due_at=None)
        last.is_newest, last.due_at = False, None
        return last.pk
    pending = last.replaces_id if last.is_pending else None
    supersede(last, now=now)
    return pending


def _next_generations(choices: Sequence[Choice]) -> list[int]:
    """Return a generation for each choice, in order, taken from its workload's counter."""
    sets = {choice.vacancy.workload_id: _wanted(choice) for choice in choices}
    numbers = replica_sets.next_generations(
        list(sets.values()), Counter(choice.vacancy.workload_id for choice in choices)
    )
    return [next(numbers[choice.vacancy.workload_id]) for choice in choices]


def _wanted(choice: Choice) -> ReplicaSet:
    wanted = choice.vacancy.wanted
    assert wanted is not None  # noqa: S101  (only what somebody wants is leased)
    return wanted


def _lease(choice: Choice, device: Device, generation: int, replaces: UUID | None, *, now: datetime) -> Lease:
    wanted, workload = _wanted(choice), choice.vacancy.workload
    return Lease(
        workload_id=wanted.pk,
        generation=generation,
        slot=choice.slot,
        version=wanted.version,
        replaces_id=replaces,
        action=(Action.STANDBY if choice.slot == STANDBY_SLOT else Action.RUN).value,
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
