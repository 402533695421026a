"""Who may cash out, how much, and whether the desk has the dollars. Services call `check_…`, pages read the figures."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from billing import money, queries
from billing.errors import BankMissing, CashOutRefused, DeskOutOfDollars
from billing.models import CashOut, CashOutRules, ConnectAccount, Dispute
from billing.services import reconcile
from billing.states import CashOutState, DisputeState
from interchain_site.core import audit
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User

DAY = timedelta(days=1)
# What counts for the daily limit: dollars that went out, or may still.
COUNTED = (
    CashOutState.RESERVED,
    CashOutState.TRANSFERRED,
    CashOutState.ON_THE_WAY,
    CashOutState.PAID,
    CashOutState.RETURNING,
)


def rules() -> CashOutRules:
    """Return staff's newest rules; before there are any, those of the settings."""
    newest = CashOutRules.objects.first()
    return newest or CashOutRules(least_cents=settings.CASH_OUT_MIN_CENTS, daily_cents=settings.CASH_OUT_DAILY_CENTS)


@transaction.atomic
def set_rules(
    *, paused: bool, least_cents: int, daily_cents: int, reserve_cents: int, by: User, now: datetime
) -> CashOutRules:
    """Set what is allowed from now on; what is on its way is not touched.

    Raises:
        Invalid: the least is zero or above the most.
    """
    if not 1 <= least_cents <= daily_cents:
        message = "The least is one cent or more, and not above the most of a day."
        raise Invalid(message, fields={"least_cents": message})
    row = CashOutRules.objects.create(
        paused=paused,
        least_cents=least_cents,
        daily_cents=daily_cents,
        reserve_cents=reserve_cents,
        set_by=by,
        created_at=now,
    )
    audit.record("cash_out_rules_set", subject=f"cash_out_rules:{row.pk}", by=by, paused=paused, daily=daily_cents)
    return row


def desk_cash_cents() -> int:
    """Return the dollars the desk can still pay out, in cents: what Stripe holds for us, less what is not the desk's.

    Not the desk's are dollars promised to others (`payout_clearing`), the token sale's proceeds the company has not
    taken out yet, and what staff keep back for refunds.
    """
    at_stripe = -queries.platform_balance("stripe_clearing", "USD")
    promised = queries.platform_balance("payout_clearing", "USD")
    taken_out = min(0, queries.platform_balance("company_usd", "USD"))
    proceeds = max(0, queries.platform_balance("sale_proceeds_usd", "USD") + taken_out)
    return max(0, at_stripe - promised - proceeds - rules().reserve_cents)


def left_today_cents(user: User, now: datetime) -> int:
    """Return how much more this person can cash out now, in cents, by the limit of 24 hours."""
    lately = CashOut.objects.filter(user=user, state__in=COUNTED, reserved_at__gt=now - DAY)
    used = lately.aggregate(total=Sum("cents"))["total"] or 0
    return max(0, rules().daily_cents - used)


def check_open() -> None:
    """Say no while nobody may cash out.

    Raises:
        CashOutRefused: staff paused it, or the check of all books found a difference.
    """
    if blocked := reconcile.withdrawals_blocked():
        raise CashOutRefused(blocked, code="payouts_paused")
    if rules().paused:
        raise CashOutRefused("Cashing out is paused. Your NTC stay with you; try again later.", code="payouts_paused")


def check_person(user: User, account: ConnectAccount | None) -> None:
    """Say no to a person who owes, whose card payment is disputed, or who has no bank account yet.

    Raises:
        CashOutRefused: debts or disputed funds.
        BankMissing: no bank, or Stripe does not pay it.
    """
    if account is None or not account.payable:
        raise BankMissing
    balances = queries.balances(user.pk)
    if balances.owed:
        raise CashOutRefused(
            f"You owe {money.format_ntc(balances.owed)}. Buy NTC or earn them to repay, then cash out."
        )
    disputed = Dispute.objects.filter(payment__user=user, state=DisputeState.OPEN).exists()
    if balances.frozen or disputed:
        raise CashOutRefused(
            "A card payment of yours is disputed by your bank. You can cash out once the bank has decided."
        )


def check_amount(*, user: User, units: int, cents: int, now: datetime) -> None:
    """Say no to an amount under the least, over a limit, over the free earnings, or over the desk's dollars.

    Raises:
        Invalid: with the field `amount`.
        DeskOutOfDollars: says how much there is.
    """
    least, left = rules().least_cents, left_today_cents(user, now)
    free = queries.balances(user.pk).earnings_available
    message = ""
    if cents < least:
        message = f"Cash out {money.format_usd_cents(least)} or more at a time."
    elif units > free:
        message = f"You have {money.format_ntc(free)} of earnings free to cash out."
    elif cents > left:
        message = f"You can cash out {money.format_usd_cents(left)} more within 24 hours."
    if message:
        raise Invalid(message, fields={"amount": message})
    check_dollars(cents)


def check_dollars(cents: int) -> None:
    """Say no when the desk has not as many dollars.

    Raises:
        DeskOutOfDollars: says how much there is.
    """
    cash = desk_cash_cents()
    if cash < rules().least_cents:
        raise DeskOutOfDollars
    if cents > cash:
        raise DeskOutOfDollars(
            f"The desk can pay out {money.format_usd_cents(cash)} now. Ask for less, or come back later."
        )
