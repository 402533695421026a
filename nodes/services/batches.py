"""Read a batch of readings as a device signed it, and hold it to the agreed form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.utils.dateparse import parse_datetime

from nodes.agent.protocol import (
    CLOCK_SKEW_SECONDS,
    MAX_READINGS_PER_BATCH,
    Meter,
    Method,
    ProtocolError,
    Reading,
    ReadingBatch,
    from_json,
)
from nodes.errors import Malformed
from nodes.models import Device
from nodes.services import plausibility
from nodes.services.signatures import json_object


@dataclass(frozen=True)
class Claim:
    """One reading of a batch: a lease's total, as the device says."""

    lease_id: UUID
    generation: int
    meter: Meter
    method: Method
    total: int
    at: datetime


@dataclass(frozen=True)
class Claims:
    """A batch in the agreed form."""

    id: UUID
    created_at: datetime
    claims: tuple[Claim, ...]


def parse(device: Device, payload: bytes, *, now: datetime) -> Claims:
    """Return what a device's signed batch claims.

    Raises:
        Malformed: not the agreed form; the message names the field.
    """
    try:
        batch = from_json(ReadingBatch, json_object(payload))
    except ProtocolError as error:
        raise Malformed(str(error)) from None
    except ValueError as error:
        raise Malformed(f"ReadingBatch: {error}") from None
    batch_id = _uuid(batch.id)
    if batch.device_id != str(device.pk):
        raise Malformed("ReadingBatch.device_id: not the device that signed.")
    if len(batch.readings) > MAX_READINGS_PER_BATCH:
        raise Malformed(f"ReadingBatch.readings: more than {MAX_READINGS_PER_BATCH}.")
    latest = now + timedelta(seconds=CLOCK_SKEW_SECONDS)
    created_at = _moment(batch.created_at, "ReadingBatch.created_at", latest)
    claims = tuple(
        _claim(reading, f"ReadingBatch.readings[{index}]", latest) for index, reading in enumerate(batch.readings)
    )
    return Claims(batch_id, created_at, claims)


def _claim(reading: Reading, where: str, latest: datetime) -> Claim:
    if not 0 <= reading.total < 2**63:
        raise Malformed(f"{where}.total: not from 0 to 2^63.")
    if reading.meter not in plausibility.METHODS:
        raise Malformed(f"{where}.meter: {reading.meter.value} is counted at the gateway, not by a device.")
    if reading.method not in plausibility.METHODS[reading.meter]:
        raise Malformed(f"{where}.method: {reading.meter.value} is not measured by {reading.method.value}.")
    at = _moment(reading.at, f"{where}.at", latest)
    return Claim(_uuid(reading.lease_id), reading.generation, reading.meter, reading.method, reading.total, at)


def _uuid(text: str) -> UUID:
    """Whoever checks a bill compares what was signed letter by letter, so an id has one spelling."""
    try:
        found = UUID(text)
    except ValueError as error:
        raise Malformed(str(error)) from None
    if str(found) != text:
        raise Malformed(f"{text[:60]!r} is not a UUID in its usual spelling.")
    return found


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
