"""Replace a copy that serves by another one without a gap: the new one is ready first, then the old one ends.

A slot that changes hands has two wanted leases: the newest, which is to serve, and the one it `replaces`, which goes on. Clients go to the
newest from the moment it is healthy (nodes/services/succession.py). The old one goes on for HANDOVER_SECONDS, so that its connections
can finish, and is there again at once if the new one fails in that time. Then it is closed. The uptime of a slot
counts for the old one until then and for the new one from then on (nodes/services/slot_time.py).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from interchain_site.core import audit
from nodes.models import Lease
from nodes.services import leases, routes
from nodes.signals import lease_changed
from nodes.states import WANTED, LeaseState


def outgoing(newest: dict[int, Lease]) -> dict[int, Lease]:
    """Return by slot the leases that go on until a newer one is ready, locked. No query while there is none."""
    pending = {last.replaces_id: slot for slot, last in newest.items() if last.is_pending}
    if not pending:
        return {}
    rows = Lease.objects.filter(pk__in=list(pending), is_newest=False, action__in=WANTED)
    found = rows.select_related("device").select_for_update(of=("self",)).order_by("slot", "generation")
    return {pending[lease.pk]: lease for lease in found}


def finish(newest: dict[int, Lease], going: dict[int, Lease], *, now: datetime) -> datetime | None:
    """Let every new copy that is ready take over, and close the one it replaces; `going` is kept up to date.

    Returns:
        when the next one may; None if nothing is to be waited for.
    """
    moments = []
    for slot, last in newest.items():
        if not last.is_pending:
            continue
        old = going.get(slot)
        if old is None:  # it ended by itself
            _count_from(last, now)
            continue
        if last.state != LeaseState.RUNNING:
            continue
        at = last.state_changed_at + timedelta(seconds=settings.HANDOVER_SECONDS)
        if old.state == LeaseState.RUNNING and at > now:
            moments.append(at)
            continue
        _take_over(last, going.pop(slot), now)
    return min(moments, default=None)


def reinstate(last: Lease, old: Lease, *, now: datetime) -> None:
    """Give up the newest lease of a slot: the one it was to replace, which went on all the time, is the newest again."""
    if last.action in WANTED:
        leases.close_locked(last, reason="")
    Lease.objects.filter(pk=last.pk).update(is_newest=False)
    last.is_newest = False
    lost = old.state == LeaseState.LOST
    changes = {
        "is_newest": True,
        "reinstated_at": now,
        "revision": old.revision + 1,
        "due_at": now if lost else None,
    }
    Lease.objects.filter(pk=old.pk).update(**changes)
    for name, value in changes.items():
        setattr(old, name, value)
    audit.record("lease_reinstated", subject=f"lease:{old.pk}", given_up=str(last.pk), slot=old.slot)
    routes.publish(old)
    lease_changed.send(sender=Lease, lease_id=old.pk, workload_id=old.workload_id, state=old.state, reason=old.reason)


def close_others(workload_id: UUID, slots: list[int]) -> None:
    """Close what goes on in slots that are not wanted any more."""
    rows = Lease.objects.filter(workload_id=workload_id, slot__in=slots, is_newest=False, action__in=WANTED)
    for lease in rows.select_related("device").select_for_update(of=("self",)):
        leases.close_locked(lease, reason="")


def serves(lease: Lease) -> bool:
    """Whether a lease is worth keeping until another one is ready."""
    return lease.action == "run" and lease.state in (LeaseState.RUNNING, LeaseState.UNHEALTHY)


def _take_over(last: Lease, old: Lease, now: datetime) -> None:
    _count_from(last, now)
    changes = {"uptime_until": now} | ({"fenced_at": now} if old.state == LeaseState.LOST else {})
    Lease.objects.filter(pk=old.pk).update(**changes)
    for name, value in changes.items():
        setattr(old, name, value)
    audit.record("lease_took_over", subject=f"lease:{last.pk}", replaced=str(old.pk), slot=last.slot)
    leases.close_locked(old, reason="")


def _count_from(last: Lease, now: datetime) -> None:
    Lease.objects.filter(pk=last.pk).update(uptime_from=now, due_at=None)
    last.uptime_from, last.due_at = now, None
