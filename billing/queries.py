"""What screens and other apps read about money. Nothing here changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import QuerySet, Sum

from billing.errors import NoRate
from billing.models import Account, CashOut, DeskRate, EarningsDay, Entry, HeldEarning, Payment
from billing.services import accounts

PAGE = 50


@dataclass(frozen=True)
class Balances:
    """A person's accounts in base units of NTC. `owed` is what the person owes the platform, above zero."""

    available: int = 0
    frozen: int = 0
    owed: int = 0
    earnings_held: int = 0
    earnings_available: int = 0
    settled: int = 0
    withdrawing: int = 0
    cashing_out: int = 0


def balances(user_id: int) -> Balances:
    """Return all of a person's NTC balances with one query."""
    rows = Account.objects.filter(user_id=user_id, currency="NTC").values_list("kind", "balance")
    found = dict(rows)
    return Balances(
        available=found.get(accounts.AVAILABLE, 0),
        frozen=found.get(accounts.FROZEN, 0),
        owed=-found.get(accounts.SHORTFALL, 0),
        earnings_held=found.get(accounts.EARNINGS_HELD, 0),
        earnings_available=found.get(accounts.EARNINGS_AVAILABLE, 0),
        settled=found.get(accounts.SETTLED, 0),
        withdrawing=found.get(accounts.WITHDRAWING, 0),
        cashing_out=found.get(accounts.CASHING_OUT, 0),
    )


def available_units(user_id: int) -> int:
    """Return what a person can spend now, in base units of NTC."""
    return balances(user_id).available


def available_of_many(user_ids: list[int]) -> dict[int, int]:
    """Return what each of these people can spend now, in base units, with one query."""
    rows = Account.objects.filter(user_id__in=user_ids, kind=accounts.AVAILABLE, currency="NTC")
    found = {user_id: balance for user_id, balance in rows.values_list("user_id", "balance") if user_id is not None}
    return {user_id: found.get(user_id, 0) for user_id in user_ids}


def platform_balance(kind: str, currency: str = "NTC") -> int:
    """Return the balance of one of the platform's accounts; zero if it was never used."""
    row = Account.objects.filter(user=None, kind=kind, currency=currency).values_list("balance", flat=True).first()
    return row or 0


def rate_in_force(now: datetime) -> Decimal:
    """Return the desk's rate, USD per NTC: the newest whose start has come.

    Raises:
        NoRate: staff have not set one that has started.
    """
    rate = DeskRate.objects.filter(starts_at__lte=now).order_by("-starts_at", "-id").first()
    if rate is None:
        raise NoRate
    return rate.rate


@dataclass(frozen=True)
class StatementPage:
    """Entries of one account, newest first; `next_before` asks for the following page, None at the end."""

    entries: list[Entry]
    next_before: int | None


def statement(user_id: int, kind: str, *, before: int | None = None, size: int = PAGE) -> StatementPage:
    """Return a page of one of a person's accounts with two queries, however long the statement is.

    Args:
        before: only entries with a smaller id: the last page's `next_before`.
    """
    account_id = Account.objects.filter(user_id=user_id, kind=kind, currency="NTC").values_list("id", flat=True).first()
    found = Entry.objects.filter(account_id=account_id or 0).select_related("transaction").order_by("-id")
    if before is not None:
        found = found.filter(id__lt=before)
    rows = list(found[: size + 1])
    return StatementPage(rows[:size], rows[size - 1].pk if len(rows) > size else None)


def earnings_by_day(user_id: int, *, days: int = 30) -> list[EarningsDay]:
    """Return the last days on which a person earned something, newest first."""
    return list(EarningsDay.objects.filter(user_id=user_id).order_by("-day")[:days])


def unpaid_units(user_id: int) -> int:
    """Return how much of a person's held earnings waits for publishers whose balance did not cover it, in base units."""
    held = HeldEarning.objects.filter(account__user_id=user_id, unpaid=True)
    return int(held.aggregate(total=Sum("units"))["total"] or 0)


def next_release(user_id: int) -> datetime | None:
    """Return when the oldest paid earnings in hold become free, if there are any."""
    held = HeldEarning.objects.filter(account__user_id=user_id, unpaid=False).order_by("effective_at").first()
    return held.effective_at + timedelta(seconds=settings.EARNINGS_HOLD_SECONDS) if held else None


def cash_outs_of(user_id: int) -> QuerySet[CashOut]:
    """Return a person's cash-outs, newest first."""
    return CashOut.objects.filter(user_id=user_id).select_related("account")


def payments_of(user_id: int) -> QuerySet[Payment]:
    """Return a person's payments, newest first."""
    found = Payment.objects.filter(user_id=user_id).select_related("quote", "sale_purchase")
    return found.prefetch_related("disputes")
