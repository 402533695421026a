"""People who withdraw, for tests: NTC to spend, and the code from the newest e-mail."""

from __future__ import annotations

import re
from datetime import datetime

from django.core import mail

from billing.models import Withdrawal
from billing.services import accounts, ledger, wallets, withdrawals
from billing.tests.settling import NTC, World, new_address
from interchain_site.core.models import User


def fund(world: World, person: User, ntc: int) -> None:
    """Give a person NTC to spend, from the desk."""
    world.made += 1
    lines = (
        ledger.Line(accounts.platform_account("desk_inventory"), -ntc * NTC),
        ledger.Line(accounts.user_account(person.pk, accounts.AVAILABLE), ntc * NTC),
    )
    ledger.post(postings=[ledger.Posting(f"funded:{world.made}", "test", lines, world.now)], now=world.now)


def ask(world: World, person: User, ntc: int, address: str = "") -> Withdrawal:
    """Ask for a withdrawal to an address, a new one by default."""
    wallet = wallets.remember(address=address or new_address(), by=person, now=world.now)
    return withdrawals.ask(wallet_id=wallet.pk, units=ntc * NTC, by=person, now=world.now)


def confirm(world: World, withdrawal: Withdrawal, *, now: datetime | None = None) -> Withdrawal:
    """Confirm with the code from the newest e-mail."""
    moment = now or world.now
    return withdrawals.confirm(withdrawal_id=withdrawal.pk, code=newest_code(), by=withdrawal.user, now=moment)


def withdraw(world: World, person: User, ntc: int, address: str = "") -> Withdrawal:
    """Ask and confirm."""
    return confirm(world, ask(world, person, ntc, address))


def newest_code(about: str = "") -> str:
    """Return the code of the newest e-mail that has one and names `about`."""
    for message in reversed(mail.outbox):
        found = re.search(r"^\s+(\d{6})$", message.body, re.MULTILINE)
        if found and about in message.body:
            return found.group(1)
    raise AssertionError("No code was sent.")
