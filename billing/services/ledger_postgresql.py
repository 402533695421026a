"""Writes postings on PostgreSQL: one call of `billing_post` (see `billing/post_function.py`), whatever their number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import datetime

from django.db import DatabaseError, connection, transaction

from billing.errors import IdempotencyConflict, InsufficientFunds, Unbalanced
from billing.post_function import CONFLICT, INSUFFICIENT, UNBALANCED
from billing.services.postings import Posting, credits_first
from interchain_site.core.errors import DomainError

_CALL = """
    SELECT billing_post(%s, %s, %s, %s, %s, %s, %s::bigint[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint, %s::timestamptz)
"""


def write(postings: Sequence[Posting], *, by_id: int | None, created_at: datetime) -> dict[str, int]:
    """Write postings with distinct keys; returns the ids by key, of those that were known too.

    Raises:
        IdempotencyConflict, InsufficientFunds, Unbalanced: as `ledger.post` says.
    """
    places, accounts, amounts = [], [], []
    for place, posting in enumerate(postings, start=1):
        for line in credits_first(posting.lines):
            places.append(place)
            accounts.append(line.account_id)
            amounts.append(line.amount)
    # Texts, not lists: psycopg quotes a list item by item, which costs more than the posting.
    arrays = [_array(values) for values in (sorted(set(accounts)), places, accounts, amounts)]
    # A statement of its own is a transaction of its own; inside one, a savepoint lets the caller go on after a refusal.
    with transaction.atomic() if connection.in_atomic_block else nullcontext(), connection.cursor() as cursor:
        try:
            cursor.execute(_CALL, [*_fields(postings), *arrays, by_id, created_at])
        except DatabaseError as error:
            if refusal := _refusal(error):
                raise refusal from error
            raise
        [ids] = cursor.fetchone()
    return {posting.key: transaction_id for posting, transaction_id in zip(postings, ids, strict=True)}


def _fields(postings: Sequence[Posting]) -> list[str]:
    fields: list[list[object]] = [
        [p.key for p in postings],
        [p.kind for p in postings],
        [p.effective_at.isoformat() for p in postings],
        [p.memo for p in postings],
        [p.reference for p in postings],
        [p.reverses_id for p in postings],
    ]
    return [json.dumps(field) for field in fields]


def _array(values: Iterable[int]) -> str:
    return f"{{{','.join(map(str, values))}}}"


def _refusal(error: DatabaseError) -> DomainError | None:
    cause = error.__cause__
    state, diagnosis = getattr(cause, "sqlstate", None), getattr(cause, "diag", None)
    detail = str(getattr(diagnosis, "message_detail", "") or "")
    if state == INSUFFICIENT:
        account_id, _, key = detail.partition(" ")
        return InsufficientFunds(account_id=int(account_id), key=key)
    if state == CONFLICT:
        return IdempotencyConflict(f"The key {detail} was already used for other amounts. Use a new key.")
    if state == UNBALANCED:
        return Unbalanced(str(getattr(diagnosis, "message_primary", "")))
    return None
