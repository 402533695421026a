"""How a confirmed cash-out becomes dollars in a bank, one step after the other. `advance` goes on from wherever it stopped.

1. `reserve`: NTC and dollars are set aside in the ledger.
2. `_transfer`: dollars go from our balance at Stripe to the person's.
3. `_pay_out`: from there to their bank.
4. `_look`: until the bank has them; the desk has the NTC then.
5. `_bring_back`: when a bank or Stripe refuses: the dollars come back first, then the NTC. Never the other way round.

Each step asks Stripe first whether it was done before (the answer may have been lost), writes down that it is about to do it (`in_doubt`), does
it under a key made of the cash-out and the number of Stripe's refusals so far, and writes down what happened, in one transaction that only counts
while the row is as it was. So a step may be repeated after a crash at any point and is done once. Only an answer that proves that nothing was done
leads to another key, or back. One worker at a time is at a cash-out, and while an answer is missing the claim stays until no call can be under way.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from billing import money
from billing.errors import BankMissing, CashOutRefused, DeskOutOfDollars, InsufficientFunds, QuoteExpired
from billing.models import CashOut
from billing.services import cash_out_postings, cash_out_rules, confirmations, reconcile
from billing.services import cash_out_rows as rows
from billing.services.cash_out_words import bank_said
from billing.states import CashOutState
from billing.stripe import connect
from billing.stripe.client import StripeRefused, StripeUnavailable
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.errors import Conflict, Invalid
from interchain_site.core.models import User

PATIENCE = timedelta(days=5)  # for our own balance at Stripe to be filled; then the NTC go back
SLACK = timedelta(days=1)  # between our clock and Stripe's, when looking for what was made
SHORT, STUCK = "stripe_balance_short", "cash_out_stuck"


def advance(*, cash_out_id: UUID, now: datetime) -> CashOut:
    """Take every step that can be taken now; returns the cash-out as it then is. Safe to repeat.

    Raises:
        StripeUnavailable: the outcome of the current step is not known; the same call finds out.
    """
    if (claimed := rows.claim(cash_out_id, now)) is None:
        return rows.read(cash_out_id)
    try:
        while True:
            cash_out = rows.read(cash_out_id)
            step = _STEPS.get(cash_out.state)
            if step is None or not step(cash_out, now):
                break
    except StripeUnavailable:
        rows.release(cash_out_id, claimed, answered=False)
        raise
    rows.release(cash_out_id, claimed, answered=True)
    return rows.read(cash_out_id)


@transaction.atomic
def reserve(*, cash_out_id: UUID, now: datetime) -> CashOut:
    """Set NTC and dollars aside for a confirmed cash-out; what cannot be for good becomes `refused`, with the reason.

    While payments out are paused it stays confirmed and is tried again until its price lock ends.

    Raises:
        LedgerBusy: try again.
    """
    cash_out = rows.locked(cash_out_id)
    if cash_out.state != CashOutState.CONFIRMED or not confirmations.confirmed(subject=cash_out.subject):
        return cash_out
    try:
        with transaction.atomic():
            _check(cash_out, now)
            cash_out_postings.reserve(cash_out, now=now)
        rows.move(cash_out, CashOutState.RESERVED, reserved_at=now, checked_at=now, reason="")
    except CashOutRefused as error:
        if error.code == "payouts_paused":
            return rows.note(cash_out, now, error.message)
        rows.move(cash_out, CashOutState.REFUSED, reason=error.message, closed_at=now)
    except (Invalid, BankMissing, DeskOutOfDollars, QuoteExpired) as error:
        rows.move(cash_out, CashOutState.REFUSED, reason=error.message, closed_at=now)
    except InsufficientFunds:
        rows.move(cash_out, CashOutState.REFUSED, reason="These earnings are not free any more.", closed_at=now)
    return cash_out


@transaction.atomic
def give_back(*, cash_out_id: UUID, by: User, now: datetime) -> CashOut:
    """Have staff stop a cash-out that waits for our balance at Stripe; the NTC go back with the next step.

    Raises:
        Conflict: the dollars are with the person's account already.
    """
    cash_out = rows.locked(cash_out_id)
    claimed = cash_out.claimed_until is not None and cash_out.claimed_until > now
    if cash_out.state != CashOutState.RESERVED or not cash_out.reason or cash_out.in_doubt or claimed:
        raise Conflict(
            "Only a cash-out whose transfer Stripe refused can be given back by hand. Try again in two minutes."
        )
    rows.move(cash_out, CashOutState.RETURNING, by=by, reason="Our staff stopped it.")
    return cash_out


def _check(cash_out: CashOut, now: datetime) -> None:
    User.objects.select_for_update().get(pk=cash_out.user_id)
    if now >= cash_out.expires_at:
        raise QuoteExpired
    cash_out_rules.check_open()
    cash_out_rules.check_person(cash_out.user, cash_out.account)
    _check_bank(cash_out)
    cash_out_postings.Counter(cash_out)  # the locks: nobody else looks at the desk's dollars now
    cash_out_rules.check_amount(user=cash_out.user, units=cash_out.units, cents=cash_out.cents, now=now)


def _check_bank(cash_out: CashOut) -> None:
    """The e-mail with the code named a bank; who holds only the session must not swap it before the dollars leave.

    Raises:
        CashOutRefused: it is another one now.
    """
    if cash_out.account.bank != cash_out.bank:
        raise CashOutRefused("Your bank account changed after you asked for this. Look at it, then ask again.")


def _reserve(cash_out: CashOut, now: datetime) -> bool:
    return reserve(cash_out_id=cash_out.pk, now=now).state != CashOutState.CONFIRMED


def _transfer(cash_out: CashOut, now: datetime) -> bool:
    sent = connect.find_transfer(cash_out.subject)
    if sent is None:
        if not cash_out.in_doubt:
            if blocked := reconcile.withdrawals_blocked():
                rows.written(cash_out, cash_out.state, now, reason=blocked)
                return False
            if problem := _no_longer(cash_out):
                return rows.written(cash_out, CashOutState.RETURNING, now, reason=problem)
        rows.doubt(cash_out)
        try:
            sent = connect.create_transfer(
                group=cash_out.subject,
                cents=cash_out.cents,
                destination=str(cash_out.account.stripe_id),
                idempotency_key=f"{cash_out.subject}:transfer:{cash_out.tries}",
            )
        except StripeRefused as error:
            return _transfer_refused(cash_out, error, now)
    if sent.cents != cash_out.cents or sent.destination != cash_out.account.stripe_id:
        raise Conflict(f"Stripe shows another transfer under {cash_out.subject}: {sent.id}. Nothing was written down.")
    clear_alert(code=SHORT)
    return rows.written(
        cash_out,
        CashOutState.TRANSFERRED,
        now,
        cash_out_postings.transferred,
        transfer_id=sent.id,
        transferred_at=now,
        in_doubt=False,
        reason="",
    )


def _transfer_refused(cash_out: CashOut, error: StripeRefused, now: datetime) -> bool:
    """Wait for dollars, or give up; `error` proves that nothing was sent under this try's key."""
    if not error.reason:
        raise error
    late = cash_out.reserved_at is not None and now > cash_out.reserved_at + PATIENCE
    if error.reason == "balance_insufficient" and not late:
        message = f"Stripe has not {money.format_usd_cents(cash_out.cents)} of ours available for a cash-out."
        raise_alert(
            code=SHORT,
            message=message,
            mend="Add dollars to the balance in Stripe's dashboard, or wait for card money.",
        )
        reason = "Waiting for dollars to become available at Stripe. It goes on by itself."
        rows.written(cash_out, cash_out.state, now, tries=cash_out.tries + 1, in_doubt=False, reason=reason)
        return False
    reason = "Stripe could not send the dollars. Look at your bank account at Stripe, then try again."
    return rows.written(cash_out, CashOutState.RETURNING, now, tries=cash_out.tries + 1, in_doubt=False, reason=reason)


def _no_longer(cash_out: CashOut) -> str:
    """Return why dollars not sent yet must not be sent any more, e.g. a dispute since."""
    try:
        cash_out_rules.check_person(cash_out.user, cash_out.account)
        _check_bank(cash_out)
    except BankMissing:
        return "Stripe does not pay your bank account at the moment. Look at it there, then try again."
    except CashOutRefused as error:
        return error.message
    return ""


def _pay_out(cash_out: CashOut, now: datetime) -> bool:
    account_id, since = str(cash_out.account.stripe_id), cash_out.created_at - SLACK
    payout = connect.find_payout(account_id=account_id, reference=cash_out.subject, since=since)
    if payout is None:
        rows.doubt(cash_out)
        try:
            payout = connect.create_payout(
                account_id=account_id,
                reference=cash_out.subject,
                cents=cash_out.cents,
                idempotency_key=f"{cash_out.subject}:payout:{cash_out.tries}",
            )
        except StripeRefused as error:
            if not error.reason:
                raise
            reason = "Stripe could not pay your bank. Look at your bank account at Stripe, then try again."
            return rows.written(
                cash_out, CashOutState.RETURNING, now, tries=cash_out.tries + 1, in_doubt=False, reason=reason
            )
    return rows.written(
        cash_out,
        CashOutState.ON_THE_WAY,
        now,
        payout_id=payout.id,
        arrives_on=payout.arrives_on,
        in_doubt=False,
    )


def _look(cash_out: CashOut, now: datetime) -> bool:
    payout = connect.read_payout(account_id=str(cash_out.account.stripe_id), payout_id=str(cash_out.payout_id))
    if payout.status in ("failed", "canceled"):
        reason = bank_said(payout.failure_code)
        return rows.written(cash_out, CashOutState.RETURNING, now, reason=reason, failure_code=payout.failure_code[:60])
    if payout.status == "paid" and cash_out.state == CashOutState.ON_THE_WAY:
        closed = {"paid_at": now, "closed_at": now}
        return rows.written(
            cash_out, CashOutState.PAID, now, cash_out_postings.paid, arrives_on=payout.arrives_on, **closed
        )
    rows.written(cash_out, cash_out.state, now, arrives_on=payout.arrives_on)
    return False


def _bring_back(cash_out: CashOut, now: datetime) -> bool:
    """Take the dollars back from the person's account at Stripe, then give the NTC back."""
    if cash_out.dollars_back_at is None:
        return _dollars_back(cash_out, now)
    try:
        done = rows.written(cash_out, CashOutState.FAILED, now, cash_out_postings.ntc_back, closed_at=now)
    except InsufficientFunds:
        mend = "Deposit NTC for the desk; they are given back by themselves then."
        message = "A bank sent a cash-out back and the desk has sold the NTC meanwhile."
        raise_alert(code=STUCK, subject=cash_out.subject, message=message, mend=mend)
        rows.written(cash_out, cash_out.state, now)
        return False
    clear_alert(code=STUCK, subject=cash_out.subject)
    return done


def _dollars_back(cash_out: CashOut, now: datetime) -> bool:
    if cash_out.transfer_id and cash_out.payout_id is None and (made := _payout_after_all(cash_out)):
        return rows.written(
            cash_out, CashOutState.ON_THE_WAY, now, payout_id=made.id, arrives_on=made.arrives_on, reason=""
        )
    sent = connect.find_transfer(cash_out.subject)
    if sent is not None and sent.reversed_cents < sent.cents and not _reversed(cash_out, sent, now):
        return False
    return rows.written(cash_out, cash_out.state, now, cash_out_postings.dollars_back, dollars_back_at=now)


def _payout_after_all(cash_out: CashOut) -> connect.PayoutNews | None:
    account_id = str(cash_out.account.stripe_id)
    since = cash_out.created_at - SLACK
    made = connect.find_payout(account_id=account_id, reference=cash_out.subject, since=since)
    return made if made and made.status not in ("failed", "canceled") else None


def _reversed(cash_out: CashOut, sent: connect.TransferNews, now: datetime) -> bool:
    left = sent.cents - sent.reversed_cents
    key = f"{cash_out.subject}:reversal:{cash_out.tries}"
    try:
        connect.reverse_transfer(transfer_id=sent.id, cents=left, idempotency_key=key)
    except StripeRefused as error:
        if not error.reason:
            raise
        mend = "Look at the transfer in Stripe's dashboard; it is tried again by itself."
        message = f"The dollars of a cash-out do not come back. {error.message}"
        raise_alert(code=STUCK, subject=cash_out.subject, message=message, mend=mend)
        rows.written(cash_out, cash_out.state, now, tries=cash_out.tries + 1)
        return False
    return True


_STEPS: dict[str, Callable[[CashOut, datetime], bool]] = {
    CashOutState.CONFIRMED: _reserve,
    CashOutState.RESERVED: _transfer,
    CashOutState.TRANSFERRED: _pay_out,
    CashOutState.ON_THE_WAY: _look,
    CashOutState.PAID: _look,
    CashOutState.RETURNING: _bring_back,
}
