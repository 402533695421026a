"""More or fewer replicas of a workload that runs."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from interchain_site.core.models import User
from nodes.errors import Conflict, NotFound
from nodes.models import Lease
from nodes.services import failovers, handovers, leases, placement, replica_sets
from nodes.services.replica_sets import STANDBY_SLOT
from nodes.states import ALIVE, WANTED


def scale(*, workload_id: UUID, replicas: int, standby: bool, by: User | None) -> list[Lease]:
    """Want so many replicas of a workload; the highest slots stop first. Returns the leases that were opened.

    Raises:
        NotFound: it was never leased. Conflict: it is not wanted now.
        Invalid: so many cannot be. NoDevice: too few devices can take it; nothing changes.
    """
    with transaction.atomic():
        known = replica_sets.lock(workload_id)
        if known is None:
            raise NotFound("There is no such workload.")
        if not known.wanted:
            raise Conflict("This does not run now. Start it first.")
        grown = max(0, replicas - known.replicas)
        wanted = replica_sets.want(
            known,
            known.workload,
            replicas=replicas,
            standby=standby,
            region=known.region,
            version=known.version,
        )
        newest = replica_sets.newest_leases(workload_id)
        for slot, last in newest.items():
            beyond = slot >= replicas if slot != STANDBY_SLOT else not standby
            if beyond and last.action in WANTED:
                leases.close_locked(last, reason="")
        failovers.called_off(workload_id, from_slot=replicas)
        handovers.close_others(workload_id, [slot for slot in newest if slot >= replicas and slot != STANDBY_SLOT])
        missing = [slot for slot in range(replicas) if slot not in newest or newest[slot].state not in ALIVE]
        filled = placement.fill(wanted, newest, missing, by=by)
        placement.require(filled, min(grown, len(missing)))
        ready = newest.get(STANDBY_SLOT)
        if standby and (ready is None or ready.action not in WANTED):
            placement.fill(wanted, newest, [STANDBY_SLOT], by=by)
        # Looked at again at once: a release may be under way, and a slot may lack a device.
        replica_sets.note_due(wanted, timezone.now(), tries=0)
        return filled.opened
