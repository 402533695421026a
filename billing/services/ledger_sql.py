"""Locking accounts, and what it means when somebody else holds them. Used by `ledger` and the two writers only."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.db import OperationalError, connection

from billing.errors import LedgerBusy

LOCK_TIMEOUT = "3s"
_BUSY_SQLSTATES = {"55P03", "40P01", "40001"}  # lock not available, deadlock detected, serialization failure


class LockedAccount(NamedTuple):
    """An account as it stands while this transaction holds its lock; `balance` in base units or cents."""

    id: int
    currency: str
    balance: int
    may_be_negative: bool
    kind: str
    user_id: int | None


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
