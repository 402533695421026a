"""Turn signed batches of cumulative readings into totals, so that any number of resends, in any order, bills the same.

1. The JWS is the device's. 2. The batch has the agreed form (nodes/services/batches.py). 3. One query finds the device's leases and
where their totals stand. 4. Each reading is held to its copy's share of the slot's time
(nodes/services/slot_time.py) and to what is possible (nodes/services/plausibility.py). 5. One statement stores the
batch, unless its id was stored before, and raises the totals that grew (nodes/services/totals.py). 6. What was capped is noted.
A total only grows, so late, repeated and reordered batches change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from nodes.agent.protocol import Accepted, Meter
from nodes.models import Device, Lease, MeterTotal
from nodes.prepared import Given, Prepared
from nodes.services import batches, capped_claims, refusals, slot_time, totals
from nodes.services.batches import Claim
from nodes.services.capped_claims import Excess
from nodes.services.plausibility import Bounds, Counted
from nodes.services.signatures import payload_of
from nodes.services.totals import Total

ENDED_LONG_AGO = timedelta(days=1)
"""Leases that stopped before this leave the device's bound: without them it is a little wider, and short to compute."""


def ingest(*, device: Device, jws: str) -> Accepted:
    """Store a batch of readings once and raise the totals it proves.

    Raises:
        BadSignature: not signed by this device.
        Malformed: not the agreed form; nothing of it is stored.
    """
    now = timezone.now()
    batch = batches.parse(device, payload_of(device, jws), now=now)
    leases = _leases(device, {claim.lease_id for claim in batch.claims}, now=now)
    own = [claim for claim in batch.claims if _is_own(claim, leases)]
    counted = [claim for claim in own if not _is_fenced(claim, leases)]
    stood = {lease_id: dict(lease.totals) for lease_id, lease in leases.items()}
    held, excesses = _held_to_the_possible(device, counted, leases, now=now)
    grown = [total for total in held if total.total > stood[total.lease_id].get(total.meter, -1)]
    row = totals.Batch(device.pk, batch.id, jws, batch.created_at, now)
    # Notes come after the batch is committed, which keeps the order of changes locked as briefly as can be. If this process
    # dies in between, a note is lost, and the next reading, as cumulative as this one, makes it again.
    if not totals.store(row, grown):
        return Accepted(str(batch.id), duplicate=True)
    if excesses:
        capped_claims.note(device, excesses, now=now)
    _note_falls(device, [claim for claim in counted if claim.total < stood[claim.lease_id].get(claim.meter, 0)])
    refused = sorted({str(claim.lease_id) for claim in batch.claims} - {str(claim.lease_id) for claim in own})
    if refused:
        refusals.note("readings_refused", device=device, batch=str(batch.id), leases=refused)
    return Accepted(str(batch.id), refused=tuple(refused))


def _leases(device: Device, claimed: set[UUID], *, now: datetime) -> dict[UUID, Counted]:
    """Return the device's leases that count, or did of late, and those claimed for, with their totals; in one query, unless
    leases that ended long ago are claimed for, or leases that are not the device's."""
    known = _counted(_COUNTING.rows(device.pk, now - ENDED_LONG_AGO))
    if other := claimed - known.keys():
        known |= _counted(_with_totals(Q(device=device, pk__in=other)))
    return known


def _with_totals(which: Q) -> QuerySet[Lease, Any]:
    columns = ("pk", "generation", "cpu_millis", "disk_bytes", "has_volume")
    times = ("opened_at", "closed_at", "stopped_at", "wiped_at", "fenced_at")
    handover = ("replaces_id", "uptime_from", "uptime_until")
    names = (*columns, *times, *handover, "totals__meter", "totals__total")
    return Lease.objects.filter(which).order_by().values_list(*names)


def _counting() -> QuerySet[Lease, Any]:
    after = Given(1, Lease._meta.get_field("stopped_at"))
    device = Given(0, Device._meta.pk)
    return _with_totals((Q(stopped_at__isnull=True) | Q(stopped_at__gt=after)) & Q(device=device))


_COUNTING = Prepared(_counting)


def _counted(rows: Iterable[Any]) -> dict[UUID, Counted]:
    known: dict[UUID, Counted] = {}
    for row in rows:
        lease = known.get(row[0]) or known.setdefault(row[0], Counted(*row[:-2]))
        if row[-2] is not None:
            lease.totals[Meter(row[-2])] = row[-1]
    return known


def _is_own(claim: Claim, leases: dict[UUID, Counted]) -> bool:
    lease = leases.get(claim.lease_id)
    return lease is not None and lease.generation == claim.generation


def _is_fenced(claim: Claim, leases: dict[UUID, Counted]) -> bool:
    """Whether it was read after another lease had taken the place of this one: two copies are never both billed."""
    fenced_at = leases[claim.lease_id].fenced_at
    return fenced_at is not None and claim.at > fenced_at


def _held_to_the_possible(
    device: Device, claims: list[Claim], leases: dict[UUID, Counted], *, now: datetime
) -> tuple[list[Total], list[Excess]]:
    bounds = Bounds(device, leases.values(), now)
    held, excesses = [], []
    for claim in claims:
        due = slot_time.due(leases[claim.lease_id], claim.meter, claim.total, at=claim.at, now=now)
        granted = bounds.grant(claim.lease_id, claim.meter, claim.method, due)
        if granted < due:
            excesses.append(Excess(str(claim.lease_id), claim.meter, claim.total, granted))
        capped = granted < claim.total
        held.append(Total(claim.lease_id, claim.meter, granted, claim.method.value, claim.at, capped))
    return held, excesses


def _note_falls(device: Device, lower: list[Claim]) -> None:
    """Of claims below what stands: a counter that was read later and is lower is one the device lost, or one it made up."""
    if not lower:
        return
    rows = MeterTotal.objects.filter(lease_id__in={claim.lease_id for claim in lower})
    standing = {(row.lease_id, row.meter): row for row in rows}
    for claim in lower:
        row = standing[claim.lease_id, claim.meter.value]
        if claim.at > row.at:
            refusals.note(
                "total_fell",
                device=device,
                lease=str(claim.lease_id),
                meter=claim.meter.value,
                was=row.total,
                now=claim.total,
            )
