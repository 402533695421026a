"""What the periodic task picks up about cash-outs when a message, a webhook or a process got lost. Each row in its own try."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import F, Q

from billing.models import CashOut, ConnectAccount
from billing.services import cash_out_mails, cash_out_steps, cash_outs, connect_accounts
from billing.services.sweeps import BATCH, attempt
from billing.states import CashOutState

SOON = timedelta(seconds=30)
ON_THE_WAY_EVERY = timedelta(minutes=30)
PAID_EVERY = timedelta(days=1)
LATE_RETURN = timedelta(days=14)  # a bank may send money back for some days
ACCOUNT_EVERY = timedelta(hours=1)
MAIL_WITHIN = timedelta(days=2)


def sweep(*, now: datetime) -> int:
    """Do everything about cash-outs that is overdue; returns how many rows were handled without an error."""
    return sum(attempt(job) for job in [*_expired(now), *_steps(now), *_mails(now), *_accounts(now)])


def _expired(now: datetime) -> Iterable[Callable[[], object]]:
    for pk in _ids(Q(state__in=[CashOutState.ASKED, CashOutState.CONFIRMED], expires_at__lte=now)):
        yield partial(cash_outs.expire, cash_out_id=pk, now=now)


def _steps(now: datetime) -> Iterable[Callable[[], object]]:
    under_way = [CashOutState.CONFIRMED, CashOutState.RESERVED, CashOutState.TRANSFERRED, CashOutState.RETURNING]
    paid = Q(state=CashOutState.PAID, paid_at__gt=now - LATE_RETURN)
    due = Q(state__in=under_way) & _checked_before(now - SOON)
    due |= Q(state=CashOutState.ON_THE_WAY) & _checked_before(now - ON_THE_WAY_EVERY)
    due |= paid & _checked_before(now - PAID_EVERY)
    for pk in _ids(due & (Q(claimed_until=None) | Q(claimed_until__lte=now))):
        yield partial(cash_out_steps.advance, cash_out_id=pk, now=now)


def _mails(now: datetime) -> Iterable[Callable[[], object]]:
    for pk in _ids(Q(state__in=cash_out_mails.TOLD, checked_at__gt=now - MAIL_WITHIN) & ~Q(told=F("state"))):
        yield partial(cash_out_mails.tell, cash_out_id=pk, now=now)


def _accounts(now: datetime) -> Iterable[Callable[[], object]]:
    waiting = ConnectAccount.objects.exclude(stripe_id=None).filter(payable=False, submitted=True)
    due = waiting.filter(Q(checked_at=None) | Q(checked_at__lte=now - ACCOUNT_EVERY))
    for pk in due.values_list("pk", flat=True)[:BATCH]:
        yield partial(connect_accounts.sync, account_id=pk, now=now)


def _checked_before(moment: datetime) -> Q:
    return Q(checked_at=None) | Q(checked_at__lte=moment)


def _ids(query: Q) -> Iterable[UUID]:
    return list(CashOut.objects.filter(query).order_by("created_at").values_list("pk", flat=True)[:BATCH])
