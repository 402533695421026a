"""The ledger against itself: what its triggers hold must be so, even if somebody went around them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import connection

from billing import money, settlement_queries
from billing.models import Epoch
from billing.services import accounts
from billing.services.reconcile_findings import MOST_NAMED, Check

_UNBALANCED = """
    SELECT entry.transaction_id, account.currency, SUM(entry.amount)
    FROM billing_entry entry JOIN billing_account account ON account.id = entry.account_id
    GROUP BY entry.transaction_id, account.currency HAVING SUM(entry.amount) <> 0 ORDER BY 1 LIMIT %s"""
_EMPTY = """
    SELECT id, key FROM billing_transaction
    WHERE NOT EXISTS (SELECT 1 FROM billing_entry WHERE transaction_id = billing_transaction.id) ORDER BY 1 LIMIT %s"""
_WRONG_BALANCES = """
    SELECT account.id, account.kind, account.currency, account.user_id, account.balance, COALESCE(SUM(entry.amount), 0)
    FROM billing_account account LEFT JOIN billing_entry entry ON entry.account_id = account.id
    GROUP BY account.id, account.kind, account.currency, account.user_id, account.balance
    HAVING account.balance <> COALESCE(SUM(entry.amount), 0) ORDER BY 1 LIMIT %s"""
_NEGATIVE = """
    SELECT id, kind, currency, user_id, balance FROM billing_account
    WHERE balance < 0 ORDER BY 1"""
_WRONG_HOLDS = """
    SELECT account.id, account.kind, account.currency, account.user_id, account.balance, COALESCE(SUM(held.units), 0)
    FROM billing_account account LEFT JOIN billing_heldearning held ON held.account_id = account.id
    WHERE account.kind = 'earnings_held' AND account.currency = 'NTC'
    GROUP BY account.id, account.kind, account.currency, account.user_id, account.balance
    HAVING account.balance <> COALESCE(SUM(held.units), 0) ORDER BY 1 LIMIT %s"""


def entries() -> Check:
    """Every transaction's entries sum to zero in each currency, and none is without entries."""
    check = Check("entries sum to zero")
    for transaction_id, currency, amount in _rows(_UNBALANCED):
        check.differ(f"Transaction {transaction_id} does not balance: {money_of(amount, currency)} too much.")
    for transaction_id, key in _rows(_EMPTY):
        check.differ(f"Transaction {transaction_id} ({key}) has no entries.")
    [(count,)] = _rows("SELECT COUNT(*) FROM billing_transaction LIMIT %s")
    check.facts.append(f"{count:,} transactions")
    return check


def balances() -> Check:
    """Every stored balance is the sum of its entries, allowed to be what it is, and held earnings are listed in full."""
    check = Check("balances are the sums of their entries")
    for pk, kind, currency, user_id, balance, entered in _rows(_WRONG_BALANCES):
        check.differ(
            f"{_account(pk, kind, user_id)} says {money_of(balance, currency)}, its entries sum to {money_of(entered, currency)}."
        )
    for pk, kind, currency, user_id, balance in _rows(_NEGATIVE, most=None):
        if kind in accounts.MAY_BE_NEGATIVE:
            continue
        check.differ(f"{_account(pk, kind, user_id)} is below zero: {money_of(balance, currency)}.")
    for pk, kind, currency, user_id, balance, listed in _rows(_WRONG_HOLDS):
        check.differ(
            f"{_account(pk, kind, user_id)} holds {money_of(balance, currency)}, its list of held earnings {money_of(listed, currency)}."
        )
    [(count,)] = _rows("SELECT COUNT(*) FROM billing_account LIMIT %s")
    check.facts.append(f"{count:,} accounts")
    return check


def promises() -> Check:
    """What the newest payout tree promises is what the ledger has settled, paid claims included."""
    check = Check("the payout tree promises what the ledger settled")
    newest = Epoch.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
    promised = sum(settlement_queries.cumulative_by_wallet(newest).values())
    settled = settlement_queries.settled_units()
    if promised != settled:
        check.differ(
            f"The payout tree promises {money.format_ntc(promised)}, the ledger settled {money.format_ntc(settled)}."
        )
    check.facts.append(f"{money.format_ntc(settled)} settled since the beginning")
    return check


def money_of(amount: int | Decimal, currency: str) -> str:
    """Return an amount in its currency, for people. PostgreSQL's sums are decimals."""
    return money.format_ntc(int(amount)) if currency == "NTC" else money.format_usd_cents(int(amount))


def _account(pk: int, kind: str, user_id: int | None) -> str:
    return f"Account {pk} ({kind}, {f'person {user_id}' if user_id else 'platform'})"


def _rows(sql: str, most: int | None = MOST_NAMED + 1) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, [most] if most else [])
        return list(cursor.fetchall())
