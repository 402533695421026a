"""Writes postings on SQLite: the steps of `billing/post_function.py`, one statement after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from billing.errors import IdempotencyConflict, InsufficientFunds, Unbalanced
from billing.models import Entry, Transaction
from billing.services.ledger_sql import LockedAccount, lock_accounts
from billing.services.postings import Posting, credits_first, signature

_INSERT_TRANSACTION = """
    INSERT INTO billing_transaction (key, kind, effective_at, memo, reference, reverses_id, created_at, by_id)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (key) DO NOTHING RETURNING id
"""
_INSERT_ENTRY = """
    INSERT INTO billing_entry (transaction_id, account_id, amount, balance_after) VALUES (%s, %s, %s, %s)
"""


def write(postings: Sequence[Posting], *, by_id: int | None, created_at: datetime) -> dict[str, int]:
    """Write postings with distinct keys; returns the ids by key, of those that were known too.

    Raises:
        IdempotencyConflict, InsufficientFunds, Unbalanced: as `ledger.post` says.
    """
    with transaction.atomic():
        accounts = lock_accounts({line.account_id for posting in postings for line in posting.lines})
        for posting in postings:
            _check_balanced(posting, accounts)
        written = _insert_transactions(postings, by_id, created_at)
        rows = _entries(postings, written, accounts)
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT_ENTRY, rows)
        known = [posting for posting in postings if posting.key not in written]
        return {**written, **_existing(known)} if known else written


def _check_balanced(posting: Posting, accounts: dict[int, LockedAccount]) -> None:
    sums: Counter[str] = Counter()
    for line in posting.lines:
        if line.account_id not in accounts:
            raise Unbalanced("A posting names an account that does not exist.")
        sums[accounts[line.account_id].currency] += line.amount
    if any(sums.values()):
        raise Unbalanced("The entries of a transaction must sum to zero in each currency.")


def _insert_transactions(postings: Sequence[Posting], by_id: int | None, created_at: datetime) -> dict[str, int]:
    as_text = connection.ops.adapt_datetimefield_value
    written = {}
    with connection.cursor() as cursor:
        for p in postings:
            values = [
                p.key,
                p.kind,
                as_text(p.effective_at),
                p.memo,
                p.reference,
                p.reverses_id,
                as_text(created_at),
                by_id,
            ]
            cursor.execute(_INSERT_TRANSACTION, values)
            if row := cursor.fetchone():
                written[p.key] = row[0]
    return written


def _entries(
    postings: Sequence[Posting], written: dict[str, int], accounts: dict[int, LockedAccount]
) -> list[tuple[int, int, int, int]]:
    balances = {account.id: account.balance for account in accounts.values()}
    rows = []
    for posting in postings:
        if posting.key not in written:
            continue
        for line in credits_first(posting.lines):
            balances[line.account_id] += line.amount
            if balances[line.account_id] < 0 and not accounts[line.account_id].may_be_negative:
                raise InsufficientFunds(account_id=line.account_id, key=posting.key)
            rows.append((written[posting.key], line.account_id, line.amount, balances[line.account_id]))
    return rows


def _existing(postings: Sequence[Posting]) -> dict[str, int]:
    keys = [posting.key for posting in postings]
    ids = dict(Transaction.objects.filter(key__in=keys).values_list("key", "id"))
    stored: dict[int, Counter[tuple[int, int]]] = {}
    for row in Entry.objects.filter(transaction__key__in=keys).values_list("transaction_id", "account_id", "amount"):
        stored.setdefault(row[0], Counter())[row[1], row[2]] += 1
    for posting in postings:
        if stored.get(ids[posting.key]) != signature(posting.lines):
            raise IdempotencyConflict(f"The key {posting.key} was already used for other amounts. Use a new key.")
    return ids
