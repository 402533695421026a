"""Write batches and totals, set by set: the number of statements never depends on the number of readings.

A batch is stored once, by its device and id, for ever. A total only ever grows, and each change of it gets a place in the order of
all changes (`ReadingSequence`). On PostgreSQL all of it is one statement, so that the lock on that order, which every process needs, is
held for no more than one round trip to the disk. SQLite knows no statement that writes two tables; there it is three.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, models, transaction

from nodes.agent.protocol import Meter
from nodes.models import MeterTotal, ReadingBatch, ReadingSequence


@dataclass(frozen=True)
class Total:
    """What one meter of one lease stands at, ready to store."""

    lease_id: UUID
    meter: Meter
    total: int
    method: str
    at: datetime
    capped: bool = False


@dataclass(frozen=True)
class Batch:
    """A signed batch, ready to store."""

    device_id: UUID
    batch_id: UUID
    jws: str
    created_at: datetime
    received_at: datetime


_BATCH = "device_id, batch_id, jws, created_at, received_at"
_TOTAL = "lease_id, meter, total, method, at, capped, sequence, batch_id"


def _table(model: type[models.Model]) -> str:
    return str(model._meta.db_table)


def store(batch: Batch, totals: Collection[Total]) -> bool:
    """Store a batch and raise the totals it proves to these where these are higher.

    Returns:
        False, and nothing was changed, when the device sent a batch of this id before.
    """
    rows = _in_order(totals)
    if connection.vendor == "postgresql" and rows:
        return _store_at_once(batch, rows)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_table(ReadingBatch)} ({_BATCH}) VALUES (%s, %s, %s, %s, %s)"  # noqa: S608  (names of our own tables)
            " ON CONFLICT (device_id, batch_id) DO NOTHING RETURNING id",
            _adapted(
                ReadingBatch, _BATCH, (batch.device_id, batch.batch_id, batch.jws, batch.created_at, batch.received_at)
            ),
        )
        stored = cursor.fetchone()
        if stored is None:
            return False
        _raise(cursor, rows, batch_key=stored[0])
    return True


def raise_totals(totals: Collection[Total]) -> None:
    """Raise totals that no signed batch proves (the gateway's) to these where these are higher."""
    with transaction.atomic(), connection.cursor() as cursor:
        _raise(cursor, _in_order(totals), batch_key=None)


def _raise(cursor: Any, rows: Sequence[Total], *, batch_key: int | None) -> None:
    if not rows:
        return
    places = _places(rows)
    # The last lock before the write it orders: whoever has it commits before anybody gets a higher place.
    cursor.execute(f"{_take('VALUES (1, %s)')} RETURNING value", [len(places)])
    before = cursor.fetchone()[0] - len(places)
    parameters = [
        value
        for row in rows
        for value in _adapted(
            MeterTotal,
            _TOTAL,
            (*_columns(row), before + places[row.lease_id], batch_key),
        )
    ]
    marks = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * len(rows))
    cursor.execute(_upsert(f"VALUES {marks}"), parameters)


def _store_at_once(batch: Batch, rows: Sequence[Total]) -> bool:
    places = _places(rows)
    found = "SELECT lease_id, meter, total, method, at, capped, taken.before + place, stored.id"
    kinds = "lease_id uuid, meter varchar, total bigint, method varchar, at timestamptz, capped boolean, place bigint"
    # As one JSON text: seven arrays, adapted value by value, took longer than everything else in this module.
    given = f"jsonb_to_recordset(%s::jsonb) AS given({kinds})"
    statement = (
        f"WITH stored AS (INSERT INTO {_table(ReadingBatch)} ({_BATCH}) VALUES (%s, %s, %s, %s, %s)"  # noqa: S608
        " ON CONFLICT (device_id, batch_id) DO NOTHING RETURNING id),"
        f" taken AS ({_take('SELECT 1, %s FROM stored')} RETURNING value - %s AS before),"
        f" raised AS ({_upsert(f'{found} FROM stored, taken, {given} ORDER BY lease_id, meter')})"
        " SELECT id FROM stored"
    )
    in_batch = (batch.device_id, batch.batch_id, batch.jws, batch.created_at, batch.received_at)
    names = [name for name in _TOTAL.split(", ") if name not in ("sequence", "batch_id")]
    records = [dict(zip(names, _columns(row), strict=True)) | {"place": places[row.lease_id]} for row in rows]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*in_batch, len(places), len(places), json.dumps(records, default=str)])
        return cursor.fetchone() is not None


def _take(source: str) -> str:
    """SQL that moves the order of changes on by the number `source` gives, and locks it until the transaction ends."""
    table = _table(ReadingSequence)
    return (
        f"INSERT INTO {table} (id, value) {source}"
        f" ON CONFLICT (id) DO UPDATE SET value = {table}.value + excluded.value"
    )


def _upsert(source: str) -> str:
    """SQL that writes totals from `source` where they are higher than what stands."""
    table = _table(MeterTotal)
    raised = ", ".join(f"{column} = excluded.{column}" for column in _TOTAL.split(", ")[2:])
    return (
        f"INSERT INTO {table} ({_TOTAL}) {source}"
        f" ON CONFLICT (lease_id, meter) DO UPDATE SET {raised} WHERE excluded.total > {table}.total"
    )


def _in_order(totals: Collection[Total]) -> list[Total]:
    """Return the highest of each lease and meter, sorted, so that two writers lock rows in the same order."""
    highest: dict[tuple[UUID, str], Total] = {}
    for total in totals:
        key = (total.lease_id, total.meter.value)
        if key not in highest or total.total > highest[key].total:
            highest[key] = total
    return [highest[key] for key in sorted(highest)]


def _places(rows: Sequence[Total]) -> dict[UUID, int]:
    """Return one place per lease, counted from 1."""
    return {lease_id: place for place, lease_id in enumerate(dict.fromkeys(row.lease_id for row in rows), start=1)}


def _columns(row: Total) -> tuple[UUID, str, int, str, datetime, bool]:
    return row.lease_id, row.meter.value, row.total, row.method, row.at, row.capped


def _adapted(model: type[models.Model], columns: str, values: Sequence[Any]) -> list[Any]:
    """Return values as the database keeps them (SQLite has neither UUIDs nor times)."""
    if connection.vendor == "postgresql":
        return list(values)
    fields = (_FIELDS[model, name] for name in columns.split(", "))
    return [field.get_db_prep_save(value, connection) for field, value in zip(fields, values, strict=True)]


_WRITTEN: tuple[type[models.Model], ...] = (ReadingBatch, MeterTotal)
_FIELDS: dict[tuple[type[models.Model], str], Any] = {
    (model, str(field.column)): field for model in _WRITTEN for field in model._meta.concrete_fields
}
