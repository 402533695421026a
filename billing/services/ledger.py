"""The only writer of the ledger: `post` and `reverse`.

Postings are made in order, as if one by one, but together: either all are made or none. On PostgreSQL any number of them is one
round trip (`ledger_postgresql`); SQLite takes the same steps one after the other (`ledger_sqlite`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone

from billing.errors import IdempotencyConflict, Unbalanced
from billing.models import Entry, Transaction
from billing.services import ledger_postgresql, ledger_sql, ledger_sqlite
from billing.services.ledger_sql import LockedAccount
from billing.services.postings import Line as Line
from billing.services.postings import Posting as Posting
from billing.services.postings import signature
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import User

MAX_AMOUNT = 2**62  # far above the whole supply; keeps any sum of two inside 64 bits


def post(*, postings: Sequence[Posting], by: User | None = None, now: datetime | None = None) -> list[int]:
    """Write the postings, in order and together; returns their transaction ids in the same order.

    A posting whose key exists with the same lines is not written again: its id is returned.

    Raises:
        IdempotencyConflict: the key exists with other lines.
        InsufficientFunds: an account that may not be negative would be.
        Unbalanced: the lines do not sum to zero per currency, or name an account that does not exist.
        LedgerBusy: another transaction held an account for three seconds.
    """
    by_key = _distinct(postings)
    if not by_key:
        return []
    _check_lines(by_key.values())
    write = ledger_postgresql.write if connection.vendor == "postgresql" else ledger_sqlite.write
    with ledger_sql.busy_as_error():
        ids = write([*by_key.values()], by_id=by.pk if by else None, created_at=now or timezone.now())
    return [ids[posting.key] for posting in postings]


def reverse(*, transaction_id: int, key: str, by: User | None, memo: str, now: datetime | None = None) -> int:
    """Write the mirror image of a transaction, once; returns the new transaction's id.

    Raises:
        NotFound: there is no such transaction.
        Conflict: it was reversed before, under another key; or it holds earnings (`charges.reverse_charge` does those).
        InsufficientFunds: what it paid has been spent meanwhile.
    """
    original = Transaction.objects.filter(pk=transaction_id).first()
    if original is None:
        raise NotFound("There is no such transaction.")
    entries = list(Entry.objects.filter(transaction_id=transaction_id).select_related("account").order_by("id"))
    if any(entry.account.kind == "earnings_held" for entry in entries):
        raise Conflict("This transaction pays earnings still watched by their hold. Use charges.reverse_charge.")
    return reverse_entries(original=original, entries=entries, key=key, by=by, memo=memo, now=now)


def reverse_entries(
    *,
    original: Transaction,
    entries: Sequence[Entry],
    key: str,
    by: User | None,
    memo: str,
    now: datetime | None = None,
) -> int:
    """The posting half of `reverse`, for callers that took care of the earnings' hold themselves."""
    now = now or timezone.now()
    with transaction.atomic():
        # The originals' locks come first, so that two reversals of one transaction meet here and not at the constraint.
        lock_accounts({entry.account_id for entry in entries})
        earlier = Transaction.objects.filter(reverses=original).first()
        if earlier is not None and earlier.key != key:
            raise Conflict(f"This transaction was already reversed by transaction {earlier.pk}.")
        lines = tuple(Line(entry.account_id, -entry.amount) for entry in entries)
        posting = Posting(key, f"{original.kind}_reversed", lines, now, memo, f"transaction:{original.pk}", original.pk)
        [reversal_id] = post(postings=[posting], by=by, now=now)
        if earlier is None:
            audit.record("transaction_reversed", subject=f"transaction:{original.pk}", by=by, reversal=reversal_id)
    return reversal_id


def lock_accounts(ids: Collection[int]) -> dict[int, LockedAccount]:
    """Lock accounts in id order for the rest of the caller's transaction, for services that must look before they post.

    Raises:
        LedgerBusy: not free within three seconds.
    """
    with ledger_sql.busy_as_error():
        return ledger_sql.lock_accounts(ids)


def _distinct(postings: Sequence[Posting]) -> dict[str, Posting]:
    by_key: dict[str, Posting] = {}
    for posting in postings:
        earlier = by_key.setdefault(posting.key, posting)
        if earlier is not posting and signature(earlier.lines) != signature(posting.lines):
            raise IdempotencyConflict(f"The key {posting.key} stands twice in one call, with different lines.")
    return by_key


def _check_lines(postings: Iterable[Posting]) -> None:
    """Refuse what no account could take; the sum per currency is checked where the accounts are known."""
    for posting in postings:
        total = 0
        for line in posting.lines:
            amount = line.amount
            if type(amount) is not int or amount == 0 or not -MAX_AMOUNT < amount < MAX_AMOUNT:
                raise Unbalanced(f"Posting {posting.key} has a line of {amount!r}; whole units, not zero, are needed.")
            total += amount
        if total or not posting.lines:
            raise Unbalanced(f"The lines of posting {posting.key} do not sum to zero.")
