"""What proves a bill: the signed batches behind the totals, and the keys they were signed with. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from nodes.agent.protocol import Meter
from nodes.models import Device, DeviceKey, MeterTotal, ReadingBatch


@dataclass(frozen=True)
class MeterReading:
    """Where one meter of a lease stands, and what says so.

    Attributes:
        total: cumulative, in the meter's base unit.
        batch: id of the signed batch that raised it there; empty for what the portal's gateway counted.
        capped: the device signed more than was possible, and `total` is what was possible.
    """

    total: int
    method: str
    batch: str
    capped: bool


def usage_readings(*, lease_ids: Sequence[UUID]) -> dict[UUID, dict[Meter, MeterReading]]:
    """Return totals and evidence of these leases, in one query so that they belong together; a meter never read is absent."""
    found: dict[UUID, dict[Meter, MeterReading]] = {lease_id: {} for lease_id in lease_ids}
    rows = MeterTotal.objects.filter(lease_id__in=lease_ids)
    for lease_id, meter, total, method, batch, capped in rows.values_list(
        "lease_id", "meter", "total", "method", "batch__batch_id", "capped"
    ):
        found[lease_id][Meter(meter)] = MeterReading(total, method, str(batch or ""), capped)
    return found


def signed_batches(*, device_id: str, batch_ids: Collection[str]) -> dict[str, str]:
    """Return the JWS of these batches of a device, as they came, `{batch id: JWS}`."""
    rows = ReadingBatch.objects.filter(device_id=device_id, batch_id__in=[UUID(batch_id) for batch_id in batch_ids])
    return {str(batch_id): jws for batch_id, jws in rows.values_list("batch_id", "jws")}


def device_keys(device_ids: Collection[str]) -> dict[str, str]:
    """Return the Ed25519 public key (JWK member `x`) each device signs with now."""
    return {str(pk): key for pk, key in Device.objects.filter(pk__in=device_ids).values_list("pk", "public_key")}


def earlier_keys(*, device_id: str, key: str) -> list[dict[str, str]]:
    """Return the changes that led to a key of a device, oldest first: the old key, and its statement that names the next."""
    rows = list(DeviceKey.objects.filter(device_id=device_id).order_by("id").values_list("public_key", "statement"))
    places = [place for place, (public_key, _) in enumerate(rows) if public_key == key]
    until = places[0] if places else 0
    return [{"old_key": rows[place][0], "statement": rows[place + 1][1]} for place in range(until)]


def key_changes(device_id: str) -> list[str]:
    """Return the statements (JWS over protocol.KeyChange) by which each key of a device named the next, oldest first.

    With them whoever trusts any one of its keys can check what was signed with the others.
    """
    rows = DeviceKey.objects.filter(device_id=device_id).exclude(statement="")
    return list(rows.values_list("statement", flat=True))
