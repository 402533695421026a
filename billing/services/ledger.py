"""The only writer of the ledger: `post` and `reverse`.

Postings are made in order, as if one by one, but with a handful of SQL statements for any number of them. Either all are
made or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from billing.errors import IdempotencyConflict, InsufficientFunds, Unbalanced
from billing.models import Entry, Transaction
from billing.services import ledger_sql
from billing.services.ledger_sql import EntryRow, LockedAccount, TransactionRow
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import User

MAX_AMOUNT = 2**62  # far above the whole supply; keeps any sum of two inside 64 bits


@dataclass(frozen=True, slots=True)
class Line:
    """One side of a posting: `amount` in base units of NTC or in cents; above zero raises the account's balance."""

    account_id: int
    amount: int


@dataclass(frozen=True, slots=True)
class Posting:
    """A transaction to write. `key` makes it happen once; `effective_at` is when it happened in the world."""

    key: str
    kind: str
    lines: tuple[Line, ...]
    effective_at: datetime
    memo: str = ""
    reference: str = ""
    reverses_id: int | None = None


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
    with ledger_sql.busy_as_error(), transaction.atomic():
        accounts = lock_accounts({line.account_id for posting in by_key.values() for line in posting.lines})
        _check_balanced(by_key.values(), accounts)
        written = ledger_sql.insert_transactions(
            [
                TransactionRow(p.key, p.kind, p.effective_at, p.memo, p.reference, p.reverses_id)
                for p in by_key.values()
            ],
            by_id=by.pk if by else None,
            created_at=now or timezone.now(),
        )
        if written:
            ledger_sql.insert_entries(_entries(by_key, written, accounts))
        known = [posting for key, posting in by_key.items() if key not in written]
        ids = {**written, **_existing(known)} if known else written
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
        if earlier is not posting and _signature(earlier.lines) != _signature(posting.lines):
            raise IdempotencyConflict(f"The key {posting.key} stands twice in one call, with different lines.")
    return by_key


def _check_balanced(postings: Iterable[Posting], accounts: dict[int, LockedAccount]) -> None:
    for posting in postings:
        sums: dict[str, int] = {}
        for line in posting.lines:
            account = accounts.get(line.account_id)
            if account is None:
                raise Unbalanced(f"Posting {posting.key} names account {line.account_id}, which does not exist.")
            amount = line.amount
            if type(amount) is not int or amount == 0 or not -MAX_AMOUNT < amount < MAX_AMOUNT:
                raise Unbalanced(f"Posting {posting.key} has a line of {amount!r}; whole units, not zero, are needed.")
            sums[account.currency] = sums.get(account.currency, 0) + amount
        if not sums or any(sums.values()):
            raise Unbalanced(f"Posting {posting.key} does not sum to zero: {sums}.")


def _entries(by_key: dict[str, Posting], written: dict[str, int], accounts: dict[int, LockedAccount]) -> list[EntryRow]:
    balances = {account.id: account.balance for account in accounts.values()}
    rows: list[EntryRow] = []
    for key, posting in by_key.items():
        transaction_id = written.get(key)
        if transaction_id is None:
            continue
        # Credits first: SQLite checks the balance after each entry, and only the end of a posting counts.
        for line in sorted(posting.lines, key=_credits_first):
            account_id = line.account_id
            balance = balances[account_id] = balances[account_id] + line.amount
            if balance < 0 and not accounts[account_id].may_be_negative:
                raise InsufficientFunds(account_id=account_id, key=key)
            rows.append(EntryRow(transaction_id, account_id, line.amount, balance))
    return rows


def _existing(postings: Sequence[Posting]) -> dict[str, int]:
    keys = [posting.key for posting in postings]
    ids = dict(Transaction.objects.filter(key__in=keys).values_list("key", "id"))
    stored: dict[int, Counter[tuple[int, int]]] = {}
    for row in Entry.objects.filter(transaction__key__in=keys).values_list("transaction_id", "account_id", "amount"):
        stored.setdefault(row[0], Counter())[row[1], row[2]] += 1
    for posting in postings:
        if stored.get(ids[posting.key]) != _signature(posting.lines):
            raise IdempotencyConflict(f"The key {posting.key} was already used for other amounts. Use a new key.")
    return ids


def _signature(lines: tuple[Line, ...]) -> Counter[tuple[int, int]]:
    return Counter((line.account_id, line.amount) for line in lines)


def _credits_first(line: Line) -> int:
    return -line.amount
