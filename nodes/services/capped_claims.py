"""Note that a device claimed more than was possible: one row per device, day and meter, whatever the number of claims."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from nodes.agent.protocol import Meter
from nodes.models import CappedClaim, Device
from nodes.services import refusals


@dataclass(frozen=True)
class Excess:
    """One reading above what was possible, in the meter's base unit."""

    lease_id: str
    meter: Meter
    claimed: int
    allowed: int


def note(device: Device, excesses: Collection[Excess], *, now: datetime) -> None:
    """Add to the day's rows, in one statement, and leave a trace of the worst of each meter in the audit. In a transaction."""
    by_meter: dict[Meter, list[Excess]] = {}
    for excess in excesses:
        by_meter.setdefault(excess.meter, []).append(excess)
    names = ("device", "day", "meter", "claims", "claimed", "allowed", "last_at")
    fields: list[Any] = [CappedClaim._meta.get_field(name) for name in names]
    parameters: list[Any] = []
    for meter, found in sorted(by_meter.items()):
        worst = max(found, key=lambda excess: excess.claimed - excess.allowed)
        row = (device.pk, now.date(), meter.value, len(found), worst.claimed, worst.allowed, now)
        parameters += [field.get_db_prep_save(value, connection) for field, value in zip(fields, row, strict=True)]
        refusals.note(
            "reading_capped",
            device=device,
            lease=worst.lease_id,
            meter=meter.value,
            claimed=worst.claimed,
            capped_to=worst.allowed,
        )
    table = CappedClaim._meta.db_table
    columns = ", ".join(str(field.column) for field in fields)
    worse = f"excluded.claimed - excluded.allowed > {table}.claimed - {table}.allowed"
    kept = (
        f"{name} = CASE WHEN {worse} THEN excluded.{name} ELSE {table}.{name} END" for name in ("claimed", "allowed")
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES {', '.join(['(%s, %s, %s, %s, %s, %s, %s)'] * len(by_meter))}"  # noqa: S608
            f" ON CONFLICT (device_id, day, meter) DO UPDATE SET claims = {table}.claims + excluded.claims,"
            f" {', '.join(kept)}, last_at = excluded.last_at",
            parameters,
        )
