"""NTC that arrived in the Settlement contract for a person, the desk, or a reference nobody has.

A handler of `Settlement.Deposited` (`billing.services.chain_events`): `escrow`, which mirrors what the contract holds, goes
further below zero, and whoever the NTC are for is credited. Anybody can deposit under any 32 bytes, so a reference may be
nobody's: such NTC wait on `unassigned_deposits` until staff find out whose they are.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from django.db import transaction

from billing import money
from billing.models import ChainAccount, ChainEvent, UnassignedDeposit
from billing.services import accounts, chain_accounts, debts, ledger
from billing.services.ledger import Line, Posting
from billing.signals import balance_credited
from interchain_site.core import audit
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import User

ALERT = "unassigned_deposits"
UNASSIGNED = "unassigned_deposits"


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
    _post(f"deposited:{event.key}", "deposited", lines, event, "NTC deposited on Ethereum", now)
    audit.record("deposit_booked", subject=f"chain_event:{event.pk}", units=units, transaction=event.transaction_hash)
    if account is None:
        UnassignedDeposit.objects.create(event=event, units=units)
        _alert()
    elif account.user_id is not None:
        _tell(account.user_id)


def unbook(event: ChainEvent, *, now: datetime) -> None:
    """Take a deposit back whose block vanished after all. What was spent meanwhile becomes a debt."""
    units = int(event.values["amount"])
    if units == 0:
        return
    account = chain_accounts.owner_of(event.values["account"])
    given = UnassignedDeposit.objects.select_for_update().filter(event=event).first()
    user_id = given.user_id if given is not None else account.user_id if account is not None else None
    escrow = accounts.platform_account("escrow")
    holder = "desk_inventory" if account is not None else UNASSIGNED
    lines = [Line(escrow, units), *_debit(user_id, holder, units, escrow)]
    memo = "A deposit's block vanished from Ethereum"
    _post(f"deposit_vanished:{event.key}", "deposit_vanished", lines, event, memo, now)
    if given is not None:
        given.delete()
        _alert()
    audit.record("deposit_unbooked", subject=f"chain_event:{event.pk}", units=units, transaction=event.transaction_hash)
    raise_alert(
        code="deposit_vanished",
        subject=event.transaction_hash,
        message=f"A deposit of {money.format_ntc(units)} vanished from the chain after it was final and credited. It was "
        "taken back; what was spent meanwhile is a debt.",
        mend="Raise ETHEREUM_CONFIRMATIONS, or set ETHEREUM_FINALITY=finalized. If the transaction is mined again it is "
        "credited again by itself.",
    )


@transaction.atomic
def assign(*, deposit_id: int, user: User, by: User, now: datetime) -> UnassignedDeposit:
    """Give a deposit nobody owns to a person, once staff know whose it is.

    Raises:
        NotFound: there is no such deposit.
        Conflict: it was given to somebody already.
    """
    deposit = UnassignedDeposit.objects.select_for_update(of=("self",)).filter(pk=deposit_id).first()
    if deposit is None:
        raise NotFound("There is no such deposit. Its block may have vanished from the chain.")
    if deposit.user_id is not None:
        raise Conflict("This deposit was given to somebody already.")
    source = accounts.platform_account(UNASSIGNED)
    lines = [Line(source, -deposit.units), *debts.Purse(user.pk, {source}).give(deposit.units)]
    memo = "NTC deposited on Ethereum, found by staff to be yours"
    _post(f"deposit_assigned:{deposit.event.key}", "deposit_assigned", lines, deposit.event, memo, now, by=by)
    deposit.user, deposit.assigned_at, deposit.assigned_by = user, now, by
    deposit.save()
    audit.record(
        "deposit_assigned", subject=f"unassigned_deposit:{deposit.pk}", by=by, user=user.pk, units=deposit.units
    )
    _alert()
    _tell(user.pk)
    return deposit


def _credit(account: ChainAccount | None, units: int, escrow: int) -> list[Line]:
    if account is not None and account.user_id is not None:
        return debts.Purse(account.user_id, {escrow}).give(units)
    if account is None:
        return [Line(accounts.platform_account(UNASSIGNED), units)]
    # What the desk had sold of a deposit that vanished is missing until more arrives; else it would be sold twice.
    desk, missing = accounts.platform_account("desk_inventory"), accounts.platform_account("shortfall")
    repaid = min(units, max(0, -ledger.lock_accounts({escrow, desk, missing})[missing].balance))
    return [Line(missing, repaid), Line(desk, units - repaid)]


def _debit(user_id: int | None, kind: str, units: int, escrow: int) -> list[Line]:
    if user_id is not None:
        return debts.Purse(user_id, {escrow}).take(units)
    holder, missing = accounts.platform_account(kind), accounts.platform_account("shortfall")
    there = min(units, ledger.lock_accounts({escrow, holder, missing})[holder].balance)
    return [Line(holder, -there), Line(missing, there - units)]


def _post(
    key: str, kind: str, lines: list[Line], event: ChainEvent, memo: str, now: datetime, by: User | None = None
) -> None:
    kept = tuple(line for line in lines if line.amount)
    reference = f"transaction:{event.transaction_hash}"
    at = now if kind == "deposit_assigned" else event.block_time
    ledger.post(postings=[Posting(key, kind, kept, at, memo, reference)], by=by, now=now)


def _tell(user_id: int) -> None:
    """Let the apps above billing know that the balance grew: a stopped app may start again."""
    transaction.on_commit(partial(balance_credited.send, sender=ChainEvent, user_id=user_id), robust=True)


def _alert() -> None:
    """Keep staff told of deposits without an owner, as long as there are any."""
    waiting = UnassignedDeposit.objects.filter(user=None)
    if not waiting.exists():
        clear_alert(code=ALERT)
        return
    raise_alert(
        code=ALERT,
        message=f"{waiting.count()} deposit(s) carry a reference nobody has: "
        f"{money.format_ntc(sum(waiting.values_list('units', flat=True)))}.",
        mend="Find out from the payer whose they are, and give them to that person under Unassigned deposits in the admin.",
    )
