"""Cashing out: an owner sells free earnings to the desk at the desk's rate, for dollars in their bank account.

Ask (the price is locked) → confirm with a code → the NTC are set aside → `cash_out_steps` sends the dollars. Only matured earnings
(`earnings_available`) can be cashed out: NTC bought by card cannot, or a stolen card would become money in a bank.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from billing import money, queries
from billing.errors import BankMissing, QuoteExpired
from billing.models import CashOut, Confirmation
from billing.services import cash_out_rules, cash_out_steps, confirmations, connect_accounts
from billing.services.desk import Price
from billing.states import CASH_OUT_MOVES, CashOutState, check_move
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, Invalid, NotFound
from interchain_site.core.models import User

ASKED_AT_MOST = 5  # at once, unconfirmed


def price(*, user: User, now: datetime, cents: int | None = None, units: int | None = None) -> Price:
    """Return what an amount, given in cents or in base units, is worth at the rate in force. Locks nothing.

    Raises:
        NoRate: staff have set none.
        CashOutRefused, BankMissing, DeskOutOfDollars: see `cash_out_rules`.
        Invalid: neither or both amounts given, or outside the limits; field `amount`.
    """
    cash_out_rules.check_open()
    cash_out_rules.check_person(user, connect_accounts.of(user))
    rate = queries.rate_in_force(now)
    if (cents is None) == (units is None):
        raise Invalid("Say either how many dollars to get or how many NTC to sell.", fields={"amount": "One amount."})
    if cents is not None:
        found = Price(money.ntc_units_for_cents(cents, rate), cents, rate)
    else:
        sold = units or 0
        found = Price(sold, money.cents_for_ntc_units(sold, rate), rate)
    cash_out_rules.check_amount(user=user, units=found.units, cents=found.cents, now=now)
    return found


def ask(*, user: User, now: datetime, cents: int | None = None, units: int | None = None) -> CashOut:
    """Lock the price for `QUOTE_LOCK_SECONDS` and send the code that confirms it. Moves nothing yet.

    Raises:
        what `price` raises; and Conflict while several wait for their code already.
        MailNotSent, TooManyCodes: it is asked for, but the code is not there yet; ask for another.
    """
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        found = price(user=user, now=now, cents=cents, units=units)
        account = connect_accounts.of(user)
        if account is None:
            raise BankMissing
        waiting = CashOut.objects.filter(user=user, state=CashOutState.ASKED, expires_at__gt=now)
        if waiting.count() >= ASKED_AT_MOST:
            raise Conflict("Several cash-outs wait for your code. Confirm or cancel those first.")
        cash_out = CashOut.objects.create(
            user=user,
            account=account,
            rate=found.rate,
            units=found.units,
            cents=found.cents,
            bank=account.bank,
            created_at=now,
            expires_at=now + timedelta(seconds=settings.QUOTE_LOCK_SECONDS),
        )
        audit.record("cash_out_asked", subject=cash_out.subject, by=user, units=found.units, cents=found.cents)
    send_code(cash_out=cash_out, now=now)
    return cash_out


def send_code(*, cash_out: CashOut, now: datetime) -> Confirmation:
    """Send the code that confirms a cash-out, where the person has no authenticator.

    Raises:
        MailNotSent, TooManyCodes: try again later.
    """
    dollars, ntc = money.format_usd_cents(cash_out.cents), money.format_ntc(cash_out.units)
    what = f"{dollars} to {cash_out.bank} for {ntc}"
    return confirmations.ask(subject=cash_out.subject, what=what, user=cash_out.user, now=now)


def confirm(*, cash_out_id: UUID, user: User, code: str, now: datetime) -> CashOut:
    """Confirm with the code from the authenticator or the e-mail, and go on. Never call it in a transaction.

    Raises:
        NotFound: not this person's.
        QuoteExpired: the lock is over.
        WrongCode, CodeExpired, TooManyCodes: see `confirmations`.
    """
    cash_out = _locked_price(cash_out_id=cash_out_id, user=user, now=now)
    if cash_out.state == CashOutState.ASKED:
        confirmations.check(subject=cash_out.subject, user=user, code=code, now=now)
    return go_on(cash_out_id=cash_out_id, user=user, now=now)


def go_on(*, cash_out_id: UUID, user: User, now: datetime) -> CashOut:
    """Set NTC and dollars aside for what the person confirmed, or say for good why not; the rest follows by itself.

    1. Write down that it is confirmed.
    2. Set aside (`reserved`) or refuse (`refused`, with the reason).
    3. Have the worker send the dollars.

    Raises:
        NotFound: not this person's.
        Conflict: the person has not confirmed it.
        QuoteExpired: the lock is over.
    """
    cash_out = _locked_price(cash_out_id=cash_out_id, user=user, now=now)
    if cash_out.state == CashOutState.ASKED:
        if not confirmations.confirmed(subject=cash_out.subject):
            raise Conflict("Confirm this cash-out with the code first.")
        cash_out = _move(cash_out_id, CashOutState.ASKED, CashOutState.CONFIRMED, by=user)
    if cash_out.state == CashOutState.CONFIRMED:
        cash_out = cash_out_steps.reserve(cash_out_id=cash_out.pk, now=now)
    if cash_out.state == CashOutState.RESERVED:
        from billing.tasks import money as tasks

        tasks.start(tasks.advance_cash_out, str(cash_out.pk))
    return cash_out


def cancel(*, cash_out_id: UUID, user: User, now: datetime) -> CashOut:
    """Give up a cash-out that moved nothing yet.

    Raises:
        NotFound: not this person's.
        Conflict: the dollars are on their way.
    """
    cash_out = of_person(cash_out_id=cash_out_id, user=user)
    if cash_out.state == CashOutState.CANCELLED:
        return cash_out
    if cash_out.state not in (CashOutState.ASKED, CashOutState.CONFIRMED):
        raise Conflict("This cash-out is under way and cannot be cancelled any more.")
    return _move(cash_out_id, cash_out.state, CashOutState.CANCELLED, by=user, closed_at=now)


def expire(*, cash_out_id: UUID, now: datetime) -> None:
    """Close a cash-out whose price lock ended before anything moved; one that moved meanwhile is left alone."""
    cash_out = CashOut.objects.get(pk=cash_out_id)
    if cash_out.state in (CashOutState.ASKED, CashOutState.CONFIRMED) and now >= cash_out.expires_at:
        _move(cash_out_id, cash_out.state, CashOutState.EXPIRED, closed_at=now)


def of_person(*, cash_out_id: UUID, user: User) -> CashOut:
    """Return one of a person's cash-outs.

    Raises:
        NotFound: it is not theirs.
    """
    cash_out = CashOut.objects.select_related("user", "account").filter(pk=cash_out_id, user=user).first()
    if cash_out is None:
        raise NotFound("There is no such cash-out of yours.")
    return cash_out


def _locked_price(*, cash_out_id: UUID, user: User, now: datetime) -> CashOut:
    cash_out = of_person(cash_out_id=cash_out_id, user=user)
    if cash_out.state == CashOutState.ASKED and now >= cash_out.expires_at:
        expire(cash_out_id=cash_out.pk, now=now)
        raise QuoteExpired
    return cash_out


@transaction.atomic
def _move(cash_out_id: UUID, seen: str, to: str, *, by: User | None = None, **changes: object) -> CashOut:
    """Move a row that is still as the caller saw it; one somebody else moved meanwhile is returned as it is."""
    cash_out = CashOut.objects.select_for_update(of=("self",)).select_related("user", "account").get(pk=cash_out_id)
    if cash_out.state != seen:
        return cash_out
    check_move(CASH_OUT_MOVES, seen, to)
    cash_out.state = to
    for name, value in changes.items():
        setattr(cash_out, name, value)
    cash_out.save()
    audit.record(f"cash_out_{to}", subject=cash_out.subject, by=by)
    return cash_out
