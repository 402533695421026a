"""The desk sells NTC at one rate, set by staff, and only what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from billing import money, queries
from billing.errors import DeskOut
from billing.models import DeskRate, Payment, Quote
from billing.states import PaymentState
from interchain_site.core import audit
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User


@dataclass(frozen=True)
class Price:
    """What a purchase would be now: base units of NTC, US cents, and the rate (USD per NTC)."""

    units: int
    cents: int
    rate: Decimal


def set_rate(*, rate: Decimal, by: User | None, now: datetime, starts_at: datetime | None = None) -> DeskRate:
    """Set the rate from a moment on (now, if not said). What was in force before stays on record unchanged.

    Raises:
        Invalid: the rate is not above zero, has more than nine decimals, or starts in the past.
    """
    starts_at = starts_at or now
    try:
        money.rate_nano(rate)
    except ValueError as error:
        raise Invalid(str(error), fields={"rate": str(error)}) from None
    if starts_at < now:
        message = "A rate cannot start in the past: quotes were made with the one in force then."
        raise Invalid(message, fields={"starts_at": message})
    with transaction.atomic():
        row = DeskRate.objects.create(rate=rate, starts_at=starts_at, set_by=by, created_at=now)
        audit.record("desk_rate_set", subject=f"desk_rate:{row.pk}", by=by, rate=str(rate), starts_at=str(starts_at))
    return row


def price(*, now: datetime, cents: int | None = None, units: int | None = None) -> Price:
    """Return the price of an amount, given in cents or in base units, at the rate in force. Locks nothing.

    Raises:
        NoRate: staff have set none.
        Invalid: neither or both amounts given, or outside what the desk sells at once.
        DeskOut: more than the desk holds.
    """
    rate = queries.rate_in_force(now)
    if (cents is None) == (units is None):
        raise Invalid("Say either how many dollars to spend or how many NTC to buy.", fields={"amount": "One amount."})
    if cents is not None:
        check_limits(cents)
        units = money.ntc_units_for_cents(cents, rate)
    else:
        assert units is not None  # noqa: S101  (for the type checker: exactly one is given)
        cents = money.cents_for_ntc_units(units, rate)
        check_limits(cents)
    _check_stock(units)
    return Price(units, cents, rate)


def quote(*, user: User, now: datetime, cents: int | None = None, units: int | None = None) -> Quote:
    """Lock a price for a buyer for `QUOTE_LOCK_SECONDS`; raises what `price` raises."""
    found = price(now=now, cents=cents, units=units)
    return Quote.objects.create(
        user=user,
        rate=found.rate,
        units=found.units,
        cents=found.cents,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.QUOTE_LOCK_SECONDS),
    )


def stock_units() -> int:
    """Return the base units the desk can still sell: what it holds less what open checkouts keep for their buyers."""
    waiting = Payment.objects.filter(state__in=[PaymentState.CREATED, PaymentState.OPEN])
    waiting |= Payment.objects.filter(state=PaymentState.PAID, credited_at=None)
    promised = waiting.filter(quote__sale_round=None).aggregate(units=Sum("units"))["units"] or 0
    return max(0, queries.platform_balance("desk_inventory") - promised)


def check_limits(cents: int) -> None:
    """Refuse an amount that is too little or too much for one card payment; raises `Invalid`."""
    least, most = settings.DESK_MIN_CENTS, settings.DESK_MAX_CENTS
    if not least <= cents <= most:
        message = f"Buy for {money.format_usd_cents(least)} to {money.format_usd_cents(most)} at a time."
        raise Invalid(message, fields={"amount": message})


def _check_stock(units: int) -> None:
    left = stock_units()
    if left == 0:
        raise DeskOut
    if units > left:
        raise DeskOut(f"The desk has {money.format_ntc(left)} left to sell. Ask for less, or come back later.")
