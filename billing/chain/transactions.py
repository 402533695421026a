"""Send transactions so that a restart, a lost answer or a stuck fee never does a thing twice.

A transaction is a row (`ChainTransaction`): its key names the intent, its nonce comes from the database, and its signed
bytes are stored before anything is sent. Sending again means sending the same bytes, which the chain takes at most
once, because a nonce can be used once. A stuck one is signed again under the same nonce with a higher fee; whichever
of its hashes is mined, the thing was done once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from django.conf import settings
from django.db import transaction as database

from billing.chain import keys
from billing.chain.errors import ChainError, ChainRefused, NoGasMoney
from billing.chain.signers import Signer
from billing.chain.states import TransactionState
from billing.chain.types import Call, Chain, Fees
from billing.models import ChainAttempt, ChainSender, ChainTransaction
from interchain_site.core import audit

GAS_MARGIN_PERCENT = 120
GAS_LIMIT_OF_A_TRANSACTION = 16_777_216  # EIP-7825
WEI_PER_GWEI = 10**9


@dataclass(frozen=True)
class Plan:
    """What the node said about a call before it is signed.

    Attributes:
        role: whose key signs it.
        sender_count: our transactions in blocks so far.
    """

    call: Call
    role: keys.Role
    gas_limit: int
    fees: Fees
    sender_count: int

    def with_call(self, call: Call) -> Plan:
        """Return the same for another call."""
        return replace(self, call=call)


def plan(*, call: Call, chain: Chain, role: keys.Role = "operator") -> Plan:
    """Ask the node what a call needs. Kept apart from `build`, so that no database lock waits for a node.

    Raises:
        Reverted: the contract would refuse it; no nonce is used.
        NoGasMoney: the sender's ether does not pay for it.
        ChainUnavailable, ChainRefused, KeyUnavailable: mend the cause and try again.
    """
    sender = keys.signer(role).address
    needed = chain.estimate_gas(call, sender=sender)
    if needed > GAS_LIMIT_OF_A_TRANSACTION:
        raise ChainRefused(f"This needs {needed:,} gas; one transaction may use {GAS_LIMIT_OF_A_TRANSACTION:,}.")
    gas, fees = min(needed * GAS_MARGIN_PERCENT // 100, GAS_LIMIT_OF_A_TRANSACTION), _capped(chain.fees())
    has = chain.ether(sender)
    if has < gas * fees.max_fee:
        raise NoGasMoney.of(role, sender, has=has, needed=gas * fees.max_fee)
    return Plan(call, role, gas, fees, chain.transaction_count(sender))


def plan_creation(*, chain: Chain, gas_limit: int) -> Plan:
    """Return a plan for calls that cannot be estimated yet, because they need each other's contracts."""
    count = chain.transaction_count(keys.operator().address)
    return Plan(Call(None, b""), "operator", gas_limit, _capped(chain.fees()), count)


@database.atomic
def build(*, key: str, plan: Plan, now: datetime) -> ChainTransaction:
    """Sign and store a transaction, without sending it; the same key again returns the stored one.

    Raises:
        KeyUnavailable: nothing is stored.
    """
    signer = keys.signer(plan.role)
    sender = locked_sender(plan)
    stored = ChainTransaction.objects.filter(key=key).first()
    if stored is not None:
        return stored
    row = ChainTransaction.objects.create(
        key=key,
        sender=sender,
        nonce=sender.next_nonce,
        to=plan.call.to or "",
        data=plan.call.data,
        gas_limit=plan.gas_limit,
        created_at=now,
    )
    sign(row, signer, plan.fees, now)
    sender.next_nonce += 1
    sender.save(update_fields=["next_nonce"])
    audit.record("chain_transaction_built", subject=f"chain_transaction:{row.pk}", key=key, nonce=row.nonce)
    return row


def send(*, row: ChainTransaction, chain: Chain, now: datetime) -> None:
    """Hand the newest signed bytes to the node; harmless when it has them already.

    Raises:
        ChainUnavailable: it may or may not have arrived; `following.follow` sends the same bytes again.
        ChainRefused: the node does not take it now; the reason is stored on the row.
    """
    attempt = row.attempts.latest("id")
    try:
        chain.send(bytes(attempt.raw))
    except ChainError as error:
        ChainTransaction.objects.filter(pk=row.pk).update(error=error.message[:300])
        raise
    ChainAttempt.objects.filter(pk=attempt.pk).update(sent_at=now)
    unsent = ChainTransaction.objects.filter(pk=row.pk, state=TransactionState.BUILT)
    unsent.update(state=TransactionState.SENT, error="")
    row.refresh_from_db()


def next_key(beginning: str) -> str:
    """Return a key for another transaction of the same intent, after those that were refused for good: `claim:7:2`."""
    return f"{beginning}:{ChainTransaction.objects.filter(key__startswith=f'{beginning}:').count() + 1}"


def locked_sender(plan: Plan) -> ChainSender:
    """Return who sends it, locked for the rest of the database transaction; the next nonce is its own until then."""
    address = keys.signer(plan.role).address
    ChainSender.objects.get_or_create(
        chain_id=settings.ETHEREUM_CHAIN_ID, address=address, defaults={"next_nonce": plan.sender_count}
    )
    sender = ChainSender.objects.select_for_update().get(chain_id=settings.ETHEREUM_CHAIN_ID, address=address)
    sender.next_nonce = max(sender.next_nonce, plan.sender_count)  # the key was also used elsewhere, e.g. to fund it
    return sender


def _capped(fees: Fees) -> Fees:
    limit = settings.ETHEREUM_MAX_FEE_GWEI * WEI_PER_GWEI
    return Fees(min(fees.max_fee, limit), min(fees.priority_fee, limit))


def sign(row: ChainTransaction, signer: Signer, fees: Fees, now: datetime) -> None:
    call = Call(row.to or None, bytes(row.data))
    signed = signer.sign(call, chain_id=row.sender.chain_id, nonce=row.nonce, gas=row.gas_limit, fees=fees)
    ChainAttempt.objects.create(
        transaction=row,
        hash=signed.hash,
        raw=signed.raw,
        max_fee=fees.max_fee,
        priority_fee=fees.priority_fee,
        created_at=now,
    )
