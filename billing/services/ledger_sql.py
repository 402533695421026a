"""The SQL under `post()`: whole batches per statement, in PostgreSQL's and in SQLite's words. Used by `ledger` only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from django.db import OperationalError, connection

from billing.errors import LedgerBusy

LOCK_TIMEOUT = "3s"
_INSERT_TRANSACTIONS_POSTGRESQL = """
    INSERT INTO billing_transaction (key, kind, effective_at, memo, reference, reverses_id, created_at, by_id)
    SELECT f0, f1, f2, f3, f4, f5, %s::timestamptz, %s::bigint
    FROM json_to_recordset(%s) AS batch (f0 text, f1 text, f2 timestamptz, f3 text, f4 text, f5 bigint)
    ON CONFLICT (key) DO NOTHING RETURNING key, id
"""
_INSERT_TRANSACTIONS_SQLITE = """
    INSERT INTO billing_transaction (key, kind, effective_at, memo, reference, reverses_id, created_at, by_id)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (key) DO NOTHING RETURNING id
"""
_INSERT_ENTRIES_POSTGRESQL = """
    INSERT INTO billing_entry (transaction_id, account_id, amount, balance_after)
    SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
"""
_INSERT_ENTRIES_SQLITE = """
    INSERT INTO billing_entry (transaction_id, account_id, amount, balance_after) VALUES (%s, %s, %s, %s)
"""
_BUSY_SQLSTATES = {"55P03", "40P01", "40001"}  # lock not available, deadlock detected, serialization failure


class LockedAccount(NamedTuple):
    """An account as it stands while this transaction holds its lock; `balance` in base units or cents."""

    id: int
    currency: str
    balance: int
    may_be_negative: bool
    kind: str
    user_id: int | None


class TransactionRow(NamedTuple):
    key: str
    kind: str
    effective_at: datetime
    memo: str
    reference: str
    reverses_id: int | None


class EntryRow(NamedTuple):
    transaction_id: int
    account_id: int
    amount: int
    balance_after: int


@contextmanager
def busy_as_error() -> Iterator[None]:
    """Turn "somebody else holds the lock" of either database into `LedgerBusy`."""
    try:
        yield
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) in _BUSY_SQLSTATES or "database is locked" in str(error):
            raise LedgerBusy from error
        raise


def lock_accounts(ids: Collection[int]) -> dict[int, LockedAccount]:
    """Lock the accounts in id order until the transaction ends and return them; waits three seconds at most.

    SQLite needs no row locks: its transactions begin IMMEDIATE, so there is one writer.
    """
    columns = "id, currency, balance, may_be_negative, kind, user_id"
    wanted = ",".join(str(int(account_id)) for account_id in sorted(ids)) or "NULL"
    select = f"SELECT {columns} FROM billing_account WHERE id IN ({wanted}) ORDER BY id"  # noqa: S608  (whole numbers)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # One round trip: psycopg sends a text without parameters as it is, so three statements may go together.
            cursor.execute(
                f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {select} FOR NO KEY UPDATE; SET LOCAL lock_timeout TO DEFAULT"
            )
            cursor.nextset()
        else:
            cursor.execute(select)
        return {row[0]: LockedAccount(row[0], row[1], row[2], bool(row[3]), row[4], row[5]) for row in cursor}


def insert_transactions(rows: Sequence[TransactionRow], *, by_id: int | None, created_at: datetime) -> dict[str, int]:
    """Insert those whose key is new; returns the ids of just these by key."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_INSERT_TRANSACTIONS_POSTGRESQL, [created_at, by_id, _as_json(rows)])
            return dict(cursor.fetchall())
        as_text = connection.ops.adapt_datetimefield_value
        found = {}
        for row in rows:
            moment = as_text(row.effective_at)
            values = [row.key, row.kind, moment, row.memo, row.reference, row.reverses_id, as_text(created_at), by_id]
            cursor.execute(_INSERT_TRANSACTIONS_SQLITE, values)
            if inserted := cursor.fetchone():
                found[row.key] = inserted[0]
        return found


def insert_entries(rows: Sequence[EntryRow]) -> None:
    """Insert the entries in order; the database's triggers move the balances."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            columns = zip(*rows, strict=True)
            cursor.execute(_INSERT_ENTRIES_POSTGRESQL, [f"{{{','.join(map(str, column))}}}" for column in columns])
        else:
            cursor.executemany(_INSERT_ENTRIES_SQLITE, rows)


def _as_json(rows: Sequence[TransactionRow]) -> str:
    """One parameter for a whole batch: psycopg quotes the items of an array one by one, which costs more than the INSERT."""
    return json.dumps(
        [
            {"f0": key, "f1": kind, "f2": effective_at.isoformat(), "f3": memo, "f4": reference, "f5": reverses_id}
            for key, kind, effective_at, memo, reference, reverses_id in rows
        ]
    )
