"""A world for tests of cash-outs: an owner with free earnings and a bank, a desk with dollars, a Stripe that may stumble."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from django.core import mail

from billing import queries
from billing.models import CashOut, ConnectAccount
from billing.services import accounts, cash_out_steps, cash_outs, connect_accounts, ledger
from billing.services.ledger import Line, Posting
from billing.stripe import connect
from billing.stripe.client import StripeUnavailable
from interchain_site.core.models import User
from interchain_site.testing.stripe import GOOD_BANK, StandIn

NTC = 10**9


def earn(person: User, units: int, now: datetime, key: str = "earn") -> None:
    """Give a person matured earnings, paid by the commission account's counterpart."""
    lines = (
        Line(accounts.platform_account("escrow"), -units),
        Line(accounts.user_account(person.pk, "earnings_available"), units),
    )
    ledger.post(postings=[Posting(f"{key}:{person.pk}", "test", lines, now)], now=now)


def fund(stripe: StandIn, cents: int, now: datetime, key: str = "fund") -> None:
    """Put dollars into our balance at Stripe, in its books and in ours."""
    stripe.act("top-up", "platform", amount=f"{cents / 100:.2f}")
    lines = (
        Line(accounts.platform_account("stripe_clearing", "USD"), -cents),
        Line(accounts.platform_account("company_usd", "USD"), cents),
    )
    ledger.post(postings=[Posting(key, "test", lines, now)], now=now)


def link_bank(stripe: StandIn, person: User, now: datetime, number: str = GOOD_BANK, **fields: str) -> ConnectAccount:
    """Go through Stripe's onboarding as a person does; returns the account as it is then."""
    url = connect_accounts.start_onboarding(user=person, country="US", now=now)
    assert stripe.onboard(url, number, **fields).status_code == 303
    return connect_accounts.sync(account_id=ConnectAccount.objects.get(user=person).pk, now=now)


def mailed_code() -> str:
    """Return the code of the newest confirmation mail."""
    subjects = [message.subject for message in mail.outbox if "code is" in message.subject]
    found = re.search(r"code is (\d{6})", subjects[-1])
    assert found
    return found[1]


def confirmed(person: User, now: datetime, **amount: int) -> CashOut:
    """Ask for a cash-out and confirm it with the mailed code; returns it reserved."""
    asked = cash_outs.ask(user=person, now=now, **amount)
    return cash_outs.confirm(cash_out_id=asked.pk, user=person, code=mailed_code(), now=now)


def advance(cash_out: CashOut, now: datetime) -> CashOut:
    """Take the steps that can be taken."""
    return cash_out_steps.advance(cash_out_id=cash_out.pk, now=now)


@dataclass(frozen=True)
class Money:
    """Where everything is: NTC in whole coins, dollars in cents."""

    earned: int
    cashing_out: int
    owed: int
    desk_ntc: int
    sales: int
    promised: int
    at_stripe: int


def money_of(person: User) -> Money:
    """Return a person's NTC and the desk's side."""
    found = queries.balances(person.pk)
    return Money(
        earned=found.earnings_available // NTC,
        cashing_out=found.cashing_out // NTC,
        owed=found.owed // NTC,
        desk_ntc=queries.platform_balance("desk_inventory") // NTC,
        sales=queries.platform_balance("desk_sales_usd", "USD"),
        promised=queries.platform_balance("payout_clearing", "USD"),
        at_stripe=-queries.platform_balance("stripe_clearing", "USD"),
    )


def stripe_balance(stripe: StandIn, account: str = "") -> int:
    """Return the cents a balance at Stripe holds now."""
    return int(stripe.get("balance", account)["available"][0]["amount"])


def change_bank(account: ConnectAccount, number: str = GOOD_BANK) -> None:
    """Have the person give Stripe another bank account."""
    page = connect.dashboard_url(str(account.stripe_id))
    assert httpx.post(page, data={"routing": "110000000", "number": number}).status_code == 200


MOVES = ("create_transfer", "create_payout", "reverse_transfer")
READS = ("find_transfer", "find_payout", "read_payout")


def stumble(monkeypatch: Any, name: str, *, after: bool, error: Callable[[], Exception] = StripeUnavailable) -> None:
    """Let the next call of one of Stripe's functions fail once: before Stripe heard it, or after Stripe did it."""
    real, calls = getattr(connect, name), []

    def once(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) > 1:
            return real(*args, **kwargs)
        if after:
            real(*args, **kwargs)
        raise error()

    monkeypatch.setattr(connect, name, once)
