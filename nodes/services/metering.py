"""Turn signed batches of cumulative readings into totals, so that any number of resends, in any order, bills the same.

1. The JWS is the device's. 2. The batch has the agreed form. 3. Its id is new, else it is a duplicate.
4. Each reading is held to what is possible (nodes/services/plausibility.py). 5. One upsert raises the totals that grew.
A total only grows, so late, repeated and reordered batches change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from nodes.agent.protocol import (
    CLOCK_SKEW_SECONDS,
    MAX_READINGS_PER_BATCH,
    Accepted,
    Meter,
    ProtocolError,
    Reading,
    from_json,
)
from nodes.agent.protocol import ReadingBatch as BatchMessage
from nodes.errors import Malformed
from nodes.models import Device, Lease, MeterTotal, ReadingBatch
from nodes.services import plausibility, refusals, sequence
from nodes.services.signatures import payload_of


@dataclass(frozen=True)
class Total:
    """What one meter of one lease stands at, ready to store."""

    lease_id: UUID
    meter: Meter
    total: int
    method: str
    at: datetime
    capped: bool


def ingest(*, device: Device, jws: str) -> Accepted:
    """Store a batch of readings once and raise the totals it proves.

    Raises:
        BadSignature: not signed by this device.
        Malformed: not the agreed form; nothing of it is stored.
    """
    batch = _parse(device, payload_of(device, jws))
    now = timezone.now()
    with transaction.atomic():
        stored = _store_once(device, batch, jws, now)
        if stored is None:
            return Accepted(batch.id, duplicate=True)
        leases = {
            str(lease.pk): lease
            for lease in Lease.objects.filter(
                device=device, pk__in={UUID(reading.lease_id) for reading in batch.readings}
            )
        }
        own = [
            reading
            for reading in batch.readings
            if (lease := leases.get(str(UUID(reading.lease_id)))) and lease.generation == reading.generation
        ]
        raise_totals(_held_to_the_possible(device, own, leases, now), batch=stored, device=device)
    own_ids = {reading.lease_id for reading in own}
    refused = sorted({reading.lease_id for reading in batch.readings} - own_ids)
    if refused:
        refusals.note("readings_refused", device=device, batch=batch.id, leases=refused)
    return Accepted(batch.id, refused=tuple(refused))


def raise_totals(totals: Iterable[Total], *, batch: ReadingBatch | None, device: Device | None) -> None:
    """Raise the stored totals to these where these are higher; one statement, whatever the number. In a transaction."""
    highest: dict[tuple[UUID, Meter], Total] = {}
    for total in totals:
        key = (total.lease_id, total.meter)
        if key not in highest or total.total > highest[key].total:
            highest[key] = total
    known = {
        (row.lease_id, Meter(row.meter)): row
        for row in MeterTotal.objects.filter(lease_id__in={lease_id for lease_id, _ in highest})
    }
    grown = []
    for key, total in highest.items():
        row = known.get(key)
        if row is None or total.total > row.total:
            grown.append(total)
        elif total.total < row.total and total.at > row.at:
            refusals.note(
                "total_fell", device=device, lease=str(key[0]), meter=key[1].value, was=row.total, now=total.total
            )
    if grown:
        _upsert(grown, batch)


def _upsert(totals: list[Total], batch: ReadingBatch | None) -> None:
    # One place in the order of changes per lease; sorted, so that two upserts lock rows in the same order.
    lease_ids = sorted({total.lease_id for total in totals}, key=str)
    first = sequence.allocate(len(lease_ids))
    places = {lease_id: first + offset for offset, lease_id in enumerate(lease_ids)}
    names = ("lease", "meter", "total", "method", "at", "capped", "sequence", "batch")
    fields: list[Any] = [MeterTotal._meta.get_field(name) for name in names]
    rows = [
        (total.lease_id, total.meter.value, total.total, total.method, total.at, total.capped, places[total.lease_id])
        for total in sorted(totals, key=lambda total: (str(total.lease_id), total.meter.value))
    ]
    values = [
        field.get_db_prep_save(value, connection)
        for row in rows
        for field, value in zip(fields, (*row, batch.pk if batch else None), strict=True)
    ]
    columns = [connection.ops.quote_name(str(field.column)) for field in fields]
    table = connection.ops.quote_name(MeterTotal._meta.db_table)
    row_marks = f"({', '.join(['%s'] * len(columns))})"
    raised = ", ".join(f"{column} = excluded.{column}" for column in columns[2:])
    statement = (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row_marks] * len(rows))} "  # noqa: S608  (names of our own columns)
        f"ON CONFLICT ({columns[0]}, {columns[1]}) DO UPDATE SET {raised} WHERE excluded.total > {table}.total"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def _parse(device: Device, payload: bytes) -> BatchMessage:
    try:
        batch = from_json(BatchMessage, payload)
        for text in (batch.id, *(reading.lease_id for reading in batch.readings)):
            if str(UUID(text)) != text:  # whoever checks a bill compares what was signed letter by letter
                raise ValueError(f"{text[:60]!r} is not a UUID in its usual spelling.")
    except (ProtocolError, ValueError) as error:
        raise Malformed(str(error)) from None
    if batch.device_id != str(device.pk):
        raise Malformed("ReadingBatch.device_id: not the device that signed.")
    if len(batch.readings) > MAX_READINGS_PER_BATCH:
        raise Malformed(f"ReadingBatch.readings: more than {MAX_READINGS_PER_BATCH}.")
    latest = timezone.now() + timedelta(seconds=CLOCK_SKEW_SECONDS)
    _moment(batch.created_at, "ReadingBatch.created_at", latest)
    for index, reading in enumerate(batch.readings):
        _check_reading(reading, f"ReadingBatch.readings[{index}]", latest)
    return batch


def _check_reading(reading: Reading, where: str, latest: datetime) -> None:
    if not 0 <= reading.total < 2**63:
        raise Malformed(f"{where}.total: not from 0 to 2^63.")
    if reading.meter not in plausibility.METHODS:
        raise Malformed(f"{where}.meter: {reading.meter.value} is counted at the gateway, not by a device.")
    if reading.method not in plausibility.METHODS[reading.meter]:
        raise Malformed(f"{where}.method: {reading.meter.value} is not measured by {reading.method.value}.")
    _moment(reading.at, f"{where}.at", latest)


def _moment(text: str, where: str, latest: datetime) -> datetime:
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Malformed(f"{where}: not a time with its zone (ISO 8601).")
    if moment > latest:
        raise Malformed(f"{where}: in the future. Check the device's clock.")
    return moment


def _store_once(device: Device, batch: BatchMessage, jws: str, now: datetime) -> ReadingBatch | None:
    """Return the stored batch, or None when it was stored before."""
    if ReadingBatch.objects.filter(device=device, batch_id=batch.id).exists():
        return None
    try:
        with transaction.atomic():
            return ReadingBatch.objects.create(
                device=device,
                batch_id=UUID(batch.id),
                jws=jws,
                created_at=_moment(batch.created_at, "", now + timedelta(days=1)),
                received_at=now,
            )
    except IntegrityError:
        return None


def _held_to_the_possible(
    device: Device, readings: list[Reading], leases: dict[str, Lease], now: datetime
) -> list[Total]:
    totals = []
    for reading in readings:
        lease = leases[str(UUID(reading.lease_id))]
        most = plausibility.most_possible(reading, lease=lease, device=device, now=now)
        if reading.total > most:
            refusals.note(
                "reading_capped",
                device=device,
                lease=reading.lease_id,
                meter=reading.meter.value,
                claimed=reading.total,
                capped_to=most,
            )
        totals.append(
            Total(
                lease_id=lease.pk,
                meter=reading.meter,
                total=min(reading.total, most),
                method=reading.method.value,
                at=_moment(reading.at, "", now + timedelta(days=1)),
                capped=reading.total > most,
            )
        )
    return totals
