"""What a webhook about Connect sets going: an account, a transfer or a payout is read again, and our row follows."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import structlog

from billing.models import CashOut, ConnectAccount
from billing.services import cash_out_steps, connect_accounts, stripe_books
from billing.stripe import connect

log = structlog.get_logger(__name__)


def follow(*, object_type: str, object_id: str, account: str, now: datetime) -> None:
    """Look at the object of an event again. Safe to repeat; what is none of ours is left alone.

    Raises:
        StripeUnavailable: try again later.
    """
    if object_type in ("account", "bank_account", "card"):
        connect_accounts.sync_by_stripe_id(stripe_id=account or object_id, now=now)
    elif object_type == "transfer":
        _advance(connect.read_transfer(object_id).group, now)
    elif object_type == "payout" and account:
        if ConnectAccount.objects.filter(stripe_id=account).exists():
            _advance(connect.read_payout(account_id=account, payout_id=object_id).reference, now)
    else:  # the company moved dollars between its bank and Stripe
        stripe_books.read(now=now)


def _advance(subject: str, now: datetime) -> None:
    try:
        cash_out_id = UUID(subject.removeprefix("cash_out:"))
    except ValueError:
        return
    if CashOut.objects.filter(pk=cash_out_id).exists():
        cash_out_steps.advance(cash_out_id=cash_out_id, now=now)
    else:
        log.error("stripe_knows_a_cash_out_we_do_not", subject=subject)
