"""A person's own account at Stripe: opened, filled in by the person at Stripe, and kept in line with what Stripe says.

Stripe asks for name, identity and bank, and keeps them: none of that is stored here but the bank's name and last four digits.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from billing.errors import BankMissing
from billing.models import ConnectAccount
from billing.stripe import connect
from billing.stripe.connect import AccountNews
from interchain_site.core import audit
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User


def of(user: User) -> ConnectAccount | None:
    """Return the person's account at Stripe, if one was begun."""
    return ConnectAccount.objects.filter(user=user).first()


def start_onboarding(*, user: User, country: str, now: datetime) -> str:
    """Return the address where the person gives Stripe their details; opens the account at the first time.

    1. Our row, so that nothing at Stripe is unknown here.
    2. The account at Stripe, under a key made of the row: repeating it gives the same one.
    3. A fresh link, which works once.

    Raises:
        Invalid: a country we do not pay out to.
        StripeRefused, StripeUnavailable, StripeNotSetUp: nothing is lost; the same call may be repeated.
    """
    if country not in settings.CASH_OUT_COUNTRIES:
        message = "We do not pay out to banks in this country yet."
        raise Invalid(message, fields={"country": message})
    account = _row(user=user, country=country, now=now)
    if account.stripe_id is None:
        reference = f"{account.pk}:{account.country}"
        news = connect.create_account(reference=reference, email=user.email, country=account.country)
        account = _write(account.pk, news, now)
        audit.record("connect_account_opened", subject=f"connect_account:{account.pk}", by=user, stripe_id=news.id)
    page = settings.PORTAL_URL + reverse("cash_out")
    return connect.onboarding_url(
        account_id=str(account.stripe_id),
        return_url=f"{page}?back=stripe",
        refresh_url=settings.PORTAL_URL + reverse("cash_out_bank"),
    )


def dashboard_url(*, user: User) -> str:
    """Return the address of the person's own pages at Stripe, where the bank account can be changed.

    Raises:
        BankMissing: they have none yet.
        StripeUnavailable: try again in a moment.
    """
    account = of(user)
    if account is None or account.stripe_id is None or not account.submitted:
        raise BankMissing
    return connect.dashboard_url(account.stripe_id)


def sync(*, account_id: UUID, now: datetime) -> ConnectAccount:
    """Read an account from Stripe again and write what changed. Safe to repeat.

    Raises:
        StripeUnavailable: try again later.
    """
    account = ConnectAccount.objects.get(pk=account_id)
    if account.stripe_id is None:
        return account
    return _write(account.pk, connect.read_account(account.stripe_id), now)


def sync_by_stripe_id(*, stripe_id: str, now: datetime) -> ConnectAccount | None:
    """Do the same for Stripe's id; None when it is nobody's here."""
    account = ConnectAccount.objects.filter(stripe_id=stripe_id).first()
    return sync(account_id=account.pk, now=now) if account else None


@transaction.atomic
def _row(*, user: User, country: str, now: datetime) -> ConnectAccount:
    User.objects.select_for_update().get(pk=user.pk)
    account = of(user)
    if account is None:
        return ConnectAccount.objects.create(user=user, country=country, created_at=now)
    if account.stripe_id is None and account.country != country:
        account.country = country
        account.save(update_fields=["country"])
    return account


@transaction.atomic
def _write(account_id: UUID, news: AccountNews, now: datetime) -> ConnectAccount:
    account = ConnectAccount.objects.select_for_update().get(pk=account_id)
    was = (account.payable, account.bank)
    account.stripe_id, account.country, account.currency = news.id, news.country, news.currency
    account.bank, account.bank_failed = news.bank, news.bank_failed
    account.submitted, account.wanted, account.pending = news.submitted, list(news.due), bool(news.pending)
    account.disabled_reason, account.problem = news.disabled_reason[:80], news.problem[:300]
    account.payable = news.transfers_active and news.payouts_enabled and news.currency == "usd"
    account.checked_at = now
    account.save()
    if was != (account.payable, account.bank):
        audit.record(
            "connect_account_changed",
            subject=f"connect_account:{account.pk}",
            actor="stripe",
            payable=account.payable,
            bank=account.bank,
            wanted=account.wanted,
        )
    return account
