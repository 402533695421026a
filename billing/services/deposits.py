"""NTC that arrived in the Settlement contract for a person, the desk, or a reference nobody has.

A handler of `Settlement.Deposited` (`billing.services.chain_events`): `escrow`, which mirrors what the contract holds, goes
further below zero, and whoever the NTC are for is credited.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.db import transaction

from billing.models import ChainAccount, ChainEvent
from billing.services import accounts, chain_accounts, debts, ledger
from billing.services.ledger import Line, Posting
from billing.signals import balance_credited
from interchain_site.core import audit


def book(event: ChainEvent, *, now: datetime) -> None:
    """Credit a deposit that is final.

    A person who owes the platform repays that first. What carries a reference nobody has waits for staff.
    """
    units = int(event.values["amount"])
    if units == 0:
        return  # the contract refuses it; the ledger could not write it
    account = chain_accounts.owner_of(event.values["account"])
    escrow = accounts.platform_account("escrow")
    lines = [Line(escrow, -units), *_credit(account, units, escrow)]
    _post(event, "deposited", lines, now)
    audit.record("deposit_booked", subject=f"chain_event:{event.pk}", units=units, transaction=event.transaction_hash)
    if account is not None and account.user_id is not None:
        told = partial(balance_credited.send, sender=ChainEvent, user_id=account.user_id)
        transaction.on_commit(told, robust=True)


def unbook(event: ChainEvent, *, now: datetime) -> None:
    """Take a deposit back whose block vanished after all. What was spent meanwhile becomes a debt."""
    units = int(event.values["amount"])
    if units == 0:
        return
    account = chain_accounts.owner_of(event.values["account"])
    escrow = accounts.platform_account("escrow")
    lines = [Line(escrow, units), *_debit(account, units, escrow)]
    _post(event, "deposit_vanished", lines, now)
    audit.record("deposit_unbooked", subject=f"chain_event:{event.pk}", units=units, transaction=event.transaction_hash)


def _credit(account: ChainAccount | None, units: int, escrow: int) -> list[Line]:
    if account is not None and account.user_id is not None:
        return debts.Purse(account.user_id, {escrow}).give(units)
    return [Line(accounts.platform_account(_kind(account)), units)]


def _debit(account: ChainAccount | None, units: int, escrow: int) -> list[Line]:
    if account is not None and account.user_id is not None:
        return debts.Purse(account.user_id, {escrow}).take(units)
    holder, missing = accounts.platform_account(_kind(account)), accounts.platform_account("shortfall")
    there = min(units, ledger.lock_accounts({escrow, holder, missing})[holder].balance)
    return [Line(holder, -there), Line(missing, there - units)]


def _kind(account: ChainAccount | None) -> str:
    return "desk_inventory" if account is not None else "unassigned_deposits"


def _post(event: ChainEvent, kind: str, lines: list[Line], now: datetime) -> None:
    posting = Posting(
        key=f"{kind}:{event.key}",
        kind=kind,
        lines=tuple(line for line in lines if line.amount),
        effective_at=event.block_time,
        memo="NTC deposited on Ethereum" if kind == "deposited" else "A deposit's block vanished from Ethereum",
        reference=f"transaction:{event.transaction_hash}",
    )
    ledger.post(postings=[posting], now=now)
