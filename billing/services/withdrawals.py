"""Withdraw NTC to an address of one's own: ask, confirm, wait if the address is new, change one's mind.

The NTC leave with the next epoch's payouts (`billing.services.withdrawal_epochs`), so a withdrawal costs no transaction of
its own. `available` → `withdrawing` when it is confirmed; → `settled` when an epoch commits to it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Sum

from billing import money
from billing.chain.states import WITHDRAWAL_MOVES, WithdrawalState, transition
from billing.models import Account, Payment, Wallet, Withdrawal
from billing.services import accounts, confirmations, debts, ledger, reconcile
from billing.services.ledger import Line, Posting
from billing.signals import balance_credited
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, DomainError, NotFound
from interchain_site.core.models import User
from interchain_site.core.templatetags.ui import duration

CANCELLABLE = (WithdrawalState.ASKED, WithdrawalState.HELD, WithdrawalState.CONFIRMED)
RESERVED = (WithdrawalState.HELD, WithdrawalState.CONFIRMED)
ASKED_AT_MOST = 5  # at once, unconfirmed
FORGOTTEN = timedelta(days=1)
DAY = timedelta(days=1)


class WithdrawalRefused(Conflict):
    code = "withdrawal_refused"
    message = "This cannot be withdrawn now."


class PayoutsPaused(DomainError):
    code, status, permanent = "payouts_paused", 503, False
    message = "Payments out are paused while our books are checked. Nothing is lost; try again later."


def ask(*, wallet_id: int, units: int, by: User, now: datetime) -> Withdrawal:
    """Ask for `units` (base units) to leave to one of one's addresses, and send a code where one is needed.

    Raises:
        PayoutsPaused: a check of the books found a difference.
        NotFound: not an address of this person.
        WithdrawalRefused: under the minimum, over a limit or over what is there; says how much is possible.
        MailNotSent, TooManyCodes: it is asked for, but the code is not there yet; ask for another.
    """
    with transaction.atomic():
        User.objects.select_for_update().get(pk=by.pk)
        wallet = Wallet.objects.filter(pk=wallet_id, user=by, stopped_at=None).first()
        if wallet is None:
            raise NotFound("This is not an address of yours. Enter it again.")
        if Withdrawal.objects.filter(user=by, state=WithdrawalState.ASKED).count() >= ASKED_AT_MOST:
            raise WithdrawalRefused("Several withdrawals wait for your confirmation. Confirm or cancel those first.")
        _check(user_id=by.pk, units=units, now=now)
        withdrawal = Withdrawal.objects.create(user=by, wallet=wallet, units=units, asked_at=now)
        audit.record("withdrawal_asked", subject=subject(withdrawal), by=by, units=units, address=wallet.address)
    send_code(withdrawal=withdrawal, now=now)
    return withdrawal


def send_code(*, withdrawal: Withdrawal, now: datetime) -> None:
    """Send the code that confirms a withdrawal, where the person has no authenticator.

    Raises:
        MailNotSent, TooManyCodes: try again later.
    """
    what = f"{money.format_ntc(withdrawal.units)} to {withdrawal.wallet.address}"
    confirmations.ask(subject=subject(withdrawal), what=what, user=withdrawal.user, now=now)


def confirm(*, withdrawal_id: UUID, code: str, by: User, now: datetime) -> Withdrawal:
    """Confirm with the code from the authenticator or the e-mail; the NTC are set aside. Never call it in a transaction.

    Raises:
        NotFound: not this person's.
        WrongCode, CodeExpired, TooManyCodes: see `confirmations`.
        PayoutsPaused, WithdrawalRefused: see `ask`; it can be confirmed later.
    """
    withdrawal = of_person(withdrawal_id=withdrawal_id, user=by)
    if withdrawal.state != WithdrawalState.ASKED:
        return withdrawal
    confirmations.check(subject=subject(withdrawal), user=by, code=code, now=now)
    return reserve(withdrawal_id=withdrawal_id, by=by, now=now)


@transaction.atomic
def reserve(*, withdrawal_id: UUID, by: User, now: datetime) -> Withdrawal:
    """Set a confirmed withdrawal's NTC aside; a new address makes it wait.

    Raises:
        Conflict: the person has not confirmed it.
        PayoutsPaused, WithdrawalRefused: see `ask`.
    """
    User.objects.select_for_update().get(pk=by.pk)
    withdrawal = _locked(withdrawal_id)
    if withdrawal.state != WithdrawalState.ASKED:
        return withdrawal
    if not confirmations.confirmed(subject=subject(withdrawal)):
        raise Conflict("Confirm this withdrawal with the code first.")
    if withdrawal.wallet.stopped_at is not None or withdrawal.wallet.user_id != withdrawal.user_id:
        raise WithdrawalRefused("This address was stopped. Cancel this and withdraw to another one.")
    found = accounts.user_accounts([(by.pk, kind) for kind in (accounts.AVAILABLE, accounts.WITHDRAWING)])
    ledger.lock_accounts(found.values())
    _check(user_id=by.pk, units=withdrawal.units, now=now)
    lines = (
        Line(found[by.pk, accounts.AVAILABLE], -withdrawal.units),
        Line(found[by.pk, accounts.WITHDRAWING], withdrawal.units),
    )
    memo = f"Withdrawal to {withdrawal.wallet.address}"
    key = f"withdrawal:{withdrawal.pk}:reserve"
    ledger.post(postings=[Posting(key, "withdrawal", lines, now, memo, subject(withdrawal))], by=by, now=now)
    waits = withdrawal.wallet.trusted_from if withdrawal.wallet.trusted_from > now else None
    state = WithdrawalState.HELD if waits else WithdrawalState.CONFIRMED
    transition(withdrawal, WITHDRAWAL_MOVES, state, confirmed_at=now, held_until=waits)
    audit.record("withdrawal_confirmed", subject=subject(withdrawal), by=by, held=waits is not None)
    return withdrawal


def cancel(*, withdrawal_id: UUID, by: User, now: datetime) -> Withdrawal:
    """Take a withdrawal back that no epoch has committed to; its NTC can be spent again.

    Raises:
        NotFound: not this person's.
        Conflict: too late.
    """
    of_person(withdrawal_id=withdrawal_id, user=by)
    with transaction.atomic():
        withdrawal = _locked(withdrawal_id)
        if withdrawal.state == WithdrawalState.CANCELLED:
            return withdrawal
        if withdrawal.state not in CANCELLABLE:
            raise Conflict("This withdrawal is already in an epoch and cannot be cancelled any more.")
        _cancel(withdrawal, by=by, reason="You cancelled it.", now=now)
    return withdrawal


def cancel_all_to(*, wallet: Wallet, reason: str, now: datetime) -> int:
    """Cancel what is on its way to an address and in no epoch yet; returns how many. The caller's transaction."""
    found = Withdrawal.objects.select_for_update(of=("self",)).select_related("wallet", "user")
    rows = list(found.filter(wallet=wallet, state__in=CANCELLABLE).order_by("pk"))
    for withdrawal in rows:
        _cancel(withdrawal, by=None, reason=reason, now=now)
    return len(rows)


@transaction.atomic
def cancel_because(*, withdrawal_id: UUID, reason: str, now: datetime) -> bool:
    """Cancel a withdrawal the person did not cancel; false when it is too late for it."""
    withdrawal = _locked(withdrawal_id)
    if withdrawal.state not in CANCELLABLE:
        return False
    _cancel(withdrawal, by=None, reason=reason, now=now)
    return True


def sweep(*, now: datetime) -> int:
    """Let go of what has waited long enough, and of what nobody confirmed; returns how many moved. Safe to repeat."""
    moved = Withdrawal.objects.filter(state=WithdrawalState.HELD, held_until__lte=now).update(
        state=WithdrawalState.CONFIRMED
    )
    forgotten = Withdrawal.objects.filter(state=WithdrawalState.ASKED, asked_at__lte=now - FORGOTTEN)
    for pk in list(forgotten.values_list("pk", flat=True)):
        moved += cancel_because(withdrawal_id=pk, reason="Not confirmed within a day.", now=now)
    return moved


def subject(withdrawal: Withdrawal) -> str:
    """Return what confirmations, audit and ledger call it."""
    return f"withdrawal:{withdrawal.pk}"


def of_person(*, withdrawal_id: UUID, user: User) -> Withdrawal:
    """Return a person's withdrawal.

    Raises:
        NotFound: there is none of theirs by this id.
    """
    found = Withdrawal.objects.select_related("wallet", "epoch", "user").filter(pk=withdrawal_id, user=user).first()
    if found is None:
        raise NotFound("There is no such withdrawal of yours.")
    return found


def card_units(*, user_id: int, now: datetime) -> int:
    """Return the base units bought by card too recently to leave: the cardholder's bank may still take the money back."""
    since = now - timedelta(seconds=settings.WITHDRAWAL_CARD_HOLD_SECONDS)
    bought = Payment.objects.filter(user_id=user_id, credited_at__gt=since)
    sums = bought.aggregate(bought=Sum("units"), refunded=Sum("refunded_units"))
    return (sums["bought"] or 0) - (sums["refunded"] or 0)


def possible_units(*, user_id: int, now: datetime) -> int:
    """Return the most this person can withdraw now, in base units."""
    account = Account.objects.filter(user_id=user_id, kind=accounts.AVAILABLE, currency="NTC")
    balance = account.values_list("balance", flat=True).first() or 0
    return max(0, min(balance - card_units(user_id=user_id, now=now), _left_today(user_id, now)))


def _left_today(user_id: int, now: datetime) -> int:
    """Return what is left of the daily limit, in base units."""
    lately = Withdrawal.objects.filter(user_id=user_id, confirmed_at__gt=now - DAY).exclude(
        state=WithdrawalState.CANCELLED
    )
    used = lately.aggregate(sum=Sum("units"))["sum"] or 0
    return int(settings.WITHDRAWAL_DAILY_NTC * money.NANO - used)


def _check(*, user_id: int, units: int, now: datetime) -> None:
    blocked = reconcile.withdrawals_blocked()
    if blocked:
        raise PayoutsPaused(blocked)
    least = settings.WITHDRAWAL_MIN_NTC * money.NANO
    if units < least:
        message = f"Withdraw at least {money.format_ntc(least)}."
        raise WithdrawalRefused(message, fields={"amount": message})
    most = possible_units(user_id=user_id, now=now)
    if units > most:
        message = f"You can withdraw at most {money.format_ntc(most)} now.{_because(user_id, now)}"
        raise WithdrawalRefused(message, fields={"amount": message})


def _because(user_id: int, now: datetime) -> str:
    """Name the limits that are not simply the balance."""
    reasons = []
    recent = card_units(user_id=user_id, now=now)
    if recent > 0:
        wait = duration(settings.WITHDRAWAL_CARD_HOLD_SECONDS)
        reasons.append(f" NTC bought by card can leave after {wait} ({money.format_ntc(recent)} wait).")
    if _left_today(user_id, now) < settings.WITHDRAWAL_DAILY_NTC * money.NANO:
        limit = money.format_ntc(settings.WITHDRAWAL_DAILY_NTC * money.NANO)
        reasons.append(f" The limit is {limit} in 24 hours.")
    return "".join(reasons)


def _locked(withdrawal_id: UUID) -> Withdrawal:
    found = Withdrawal.objects.select_for_update(of=("self",)).select_related("wallet", "user")
    withdrawal = found.filter(pk=withdrawal_id).first()
    if withdrawal is None:
        raise NotFound
    return withdrawal


def _cancel(withdrawal: Withdrawal, *, by: User | None, reason: str, now: datetime) -> None:
    """Give back what was set aside; a debt that arose meanwhile is repaid from it first."""
    if withdrawal.state in RESERVED:
        source = accounts.user_account(withdrawal.user_id, accounts.WITHDRAWING)
        purse = debts.Purse(withdrawal.user_id, {source})
        lines = (Line(source, -withdrawal.units), *(line for line in purse.give(withdrawal.units) if line.amount))
        key = f"withdrawal:{withdrawal.pk}:cancel"
        memo = "Withdrawal cancelled"
        posting = Posting(key, "withdrawal_cancelled", lines, now, memo, subject(withdrawal))
        ledger.post(postings=[posting], by=by, now=now)
        told = partial(balance_credited.send, sender=Withdrawal, user_id=withdrawal.user_id)
        transaction.on_commit(told, robust=True)
    transition(withdrawal, WITHDRAWAL_MOVES, WithdrawalState.CANCELLED, cancelled_at=now, reason=reason)
    audit.record("withdrawal_cancelled", subject=subject(withdrawal), by=by, reason=reason)
