"""The row of a cash-out: one worker at a time is at it, and what a step did is written only while the row is as it was seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from billing.models import CashOut
from billing.states import CASH_OUT_MOVES, check_move
from interchain_site.core import audit
from interchain_site.core.models import User

CLAIM = timedelta(seconds=120)  # three tries of ten seconds and the pauses between them fit in easily


def claim(cash_out_id: UUID, now: datetime) -> datetime | None:
    """Return until when this worker alone may be at it, or None while another one is."""
    free, until = Q(claimed_until=None) | Q(claimed_until__lte=now), now + CLAIM
    return until if CashOut.objects.filter(free, pk=cash_out_id).update(claimed_until=until) else None


def release(cash_out_id: UUID, claimed: datetime, *, answered: bool) -> None:
    """Let the next worker on; where Stripe's answer is missing, only once no call can be under way any more."""
    mine = CashOut.objects.filter(pk=cash_out_id, claimed_until=claimed)
    (mine if answered else mine.filter(in_doubt=False)).update(claimed_until=None)


def doubt(cash_out: CashOut) -> None:
    """Remember, before Stripe is asked, that it was asked."""
    CashOut.objects.filter(pk=cash_out.pk).update(in_doubt=True)


def read(cash_out_id: UUID) -> CashOut:
    """Return the row with its person and account."""
    return CashOut.objects.select_related("user", "account").get(pk=cash_out_id)


def locked(cash_out_id: UUID) -> CashOut:
    """Return the same, locked for the rest of the transaction."""
    return CashOut.objects.select_for_update(of=("self",)).select_related("user", "account").get(pk=cash_out_id)


@transaction.atomic
def written(
    seen: CashOut,
    to: str,
    now: datetime,
    posting: Callable[..., None] | None = None,
    **changes: object,
) -> bool:
    """Write down what a step did, with what the ledger makes of it; false when somebody else moved the row meanwhile."""
    cash_out = locked(seen.pk)
    if (cash_out.state, cash_out.tries) != (seen.state, seen.tries):
        return False
    for name, value in changes.items():
        setattr(cash_out, name, value)
    if posting is not None:
        posting(cash_out, now=now)
    if to == cash_out.state:
        cash_out.checked_at = now
        cash_out.save()
    else:
        move(cash_out, to, checked_at=now)
    return True


def move(cash_out: CashOut, to: str, *, by: User | None = None, **changes: object) -> None:
    """Move a locked row to another state, write it down, and have the person told."""
    was = cash_out.state
    check_move(CASH_OUT_MOVES, was, to)
    cash_out.state = to
    for name, value in changes.items():
        setattr(cash_out, name, value)
    cash_out.save()
    audit.record(f"cash_out_{to}", subject=cash_out.subject, by=by, was=was, reason=cash_out.reason)
    from billing.tasks import money as tasks

    tasks.start(tasks.tell_of_cash_out, str(cash_out.pk))


def note(cash_out: CashOut, now: datetime, reason: str) -> CashOut:
    """Write down why a locked row waits."""
    cash_out.checked_at, cash_out.reason = now, reason
    cash_out.save()
    return cash_out
