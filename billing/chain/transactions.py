"""Send transactions so that a restart, a lost answer or a stuck fee never does a thing twice.

A transaction is a row (`ChainTransaction`): its key names the intent, its nonce comes from the database, and its signed
bytes are stored before anything is sent. Sending again means sending the same bytes, which the chain takes at most
once, because a nonce can be used once. A stuck one is signed again under the same nonce with a higher fee; whichever
of its hashes is mined, the thing was done once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction as database

from billing.chain import keys
from billing.chain.errors import ChainError, ChainRefused, ChainUnavailable
from billing.chain.signers import Signer
from billing.chain.states import TRANSACTION_MOVES, TransactionState, transition
from billing.chain.types import Call, Chain, Fees, Receipt
from billing.models import ChainAttempt, ChainSender, ChainTransaction
from interchain_site.core import audit
from interchain_site.core.errors import Conflict

GAS_MARGIN_PERCENT = 120
GAS_LIMIT_OF_A_TRANSACTION = 16_777_216  # EIP-7825
RESEND_SECONDS = 60
WEI_PER_GWEI = 10**9
IN_A_BLOCK = (TransactionState.MINED, TransactionState.FINAL, TransactionState.REVERTED)


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
        ChainUnavailable, ChainRefused, KeyUnavailable: mend the cause and try again.
    """
    sender = keys.signer(role).address
    gas = chain.estimate_gas(call, sender=sender) * GAS_MARGIN_PERCENT // 100
    if gas > GAS_LIMIT_OF_A_TRANSACTION:
        raise ChainRefused(f"This needs {gas:,} gas; one transaction may use {GAS_LIMIT_OF_A_TRANSACTION:,}.")
    return Plan(call, role, gas, _capped(chain.fees()), chain.transaction_count(sender))


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
    _sign(row, signer, plan.fees, now)
    sender.next_nonce += 1
    sender.save(update_fields=["next_nonce"])
    audit.record("chain_transaction_built", subject=f"chain_transaction:{row.pk}", key=key, nonce=row.nonce)
    return row


def send(*, row: ChainTransaction, chain: Chain, now: datetime) -> None:
    """Hand the newest signed bytes to the node; harmless when it has them already.

    Raises:
        ChainUnavailable: it may or may not have arrived; `follow` sends the same bytes again.
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


@dataclass(frozen=True)
class Round:
    """What one look at the chain found. `refused` holds the nodes' reasons, already stored on their rows."""

    moved: int
    refused: tuple[str, ...]


def follow(*, chain: Chain, now: datetime) -> Round:
    """Look once at every transaction under way and do what is due. Each step can be repeated at any time.

    1. What was in a block and is not any more (a reorganisation, a local chain that lost its last seconds) counts as
       sent again; the chain's own count of our transactions tells.
    2. In the order in which they were made, whoever sends them: mined? deep enough to be final? If in no block: send the
       same bytes again after a while, and replace a stuck one by the same thing with a higher fee.

    One transaction the node refuses does not stop the others.

    Raises:
        ChainUnavailable: the round ends there; the next one goes on.
    """
    senders = ChainSender.objects.filter(chain_id=settings.ETHEREUM_CHAIN_ID)
    counts = {sender.pk: chain.transaction_count(sender.address) for sender in senders}
    moved, refused = sum(_forget_vanished(sender, counts[sender.pk]) for sender in senders), []
    head = chain.head().number
    outstanding = ChainTransaction.objects.outstanding().filter(sender__in=counts).select_related("sender")
    for row in outstanding.order_by("pk"):
        try:
            moved += _look(row, count=counts[row.sender_id], head=head, chain=chain, now=now)
        except ChainUnavailable:
            raise
        except ChainError as error:
            refused.append(f"{row.key}: {error.message}")
        except Conflict:
            continue  # another worker moved it in the same moment
    return Round(moved, tuple(refused))


def next_key(beginning: str) -> str:
    """Return a key for another transaction of the same intent, after those that were refused for good: `claim:7:2`."""
    return f"{beginning}:{ChainTransaction.objects.filter(key__startswith=f'{beginning}:').count() + 1}"


def forget(*, chain: Chain, above: int) -> int:
    """Count what was in a block above `above` that is not there any more as sent again; returns how many."""
    vanished = 0
    mined = ChainTransaction.objects.filter(sender__chain_id=settings.ETHEREUM_CHAIN_ID, state__in=IN_A_BLOCK)
    for row in mined.filter(block_number__gt=above).order_by("sender", "nonce"):
        found = chain.block(row.block_number or 0)
        if found is None or found.hash != row.block_hash:
            with database.atomic():
                _unmine(row)
                row.attempts.update(sent_at=None)
            vanished += 1
    return vanished


def _forget_vanished(sender: ChainSender, count: int) -> int:
    vanished = sender.transactions.filter(state__in=IN_A_BLOCK, nonce__gte=count).order_by("nonce")
    for row in vanished:
        with database.atomic():
            _unmine(row)
            row.attempts.update(sent_at=None)
    return len(vanished)


def _unmine(row: ChainTransaction) -> None:
    audit.record(
        "chain_transaction_vanished", subject=f"chain_transaction:{row.pk}", hash=row.mined_hash, was=row.state
    )
    cleared = {"mined_hash": "", "block_number": None, "block_hash": "", "mined_at": None, "final_at": None}
    transition(row, TRANSACTION_MOVES, TransactionState.SENT, **cleared)


def _look(row: ChainTransaction, *, count: int, head: int, chain: Chain, now: datetime) -> int:
    """Return how many moves the row made."""
    receipt = _receipt(row, chain)
    if receipt is None and row.state == TransactionState.MINED:
        _unmine(row)
        return 1
    if receipt is None:
        return _push(row, used=row.nonce < count, chain=chain, now=now)
    moves = _mine(row, receipt, now)
    if head - receipt.block_number + 1 >= settings.ETHEREUM_CONFIRMATIONS:
        done = TransactionState.FINAL if receipt.succeeded else TransactionState.REVERTED
        transition(row, TRANSACTION_MOVES, done, final_at=now)
        moves += 1
    return moves


def _receipt(row: ChainTransaction, chain: Chain) -> Receipt | None:
    for known in row.attempts.order_by("-id").values_list("hash", flat=True):
        receipt = chain.receipt(known)
        if receipt is not None:
            return receipt
    return None


def _mine(row: ChainTransaction, receipt: Receipt, now: datetime) -> int:
    facts = {
        "mined_hash": receipt.hash,
        "block_number": receipt.block_number,
        "block_hash": receipt.block_hash,
        "gas_used": receipt.gas_used,
        "gas_price": receipt.gas_price,
        "contract_address": receipt.contract_address or "",
        "error": "",
    }
    if row.state == TransactionState.MINED:
        if row.block_hash != receipt.block_hash:
            ChainTransaction.objects.filter(pk=row.pk, state=row.state).update(**facts)
        return 0
    transition(row, TRANSACTION_MOVES, TransactionState.MINED, mined_at=now, **facts)
    return 1


def _push(row: ChainTransaction, *, used: bool, chain: Chain, now: datetime) -> int:
    """Bring a transaction that is in no block nearer to one."""
    if used:
        text = "Another transaction used this nonce. Is the operator's key in use elsewhere?"
        ChainTransaction.objects.filter(pk=row.pk).update(error=text)
    attempt = row.attempts.latest("id")
    stuck = attempt.sent_at is not None and now - attempt.created_at >= timedelta(
        seconds=settings.ETHEREUM_STUCK_SECONDS
    )
    if stuck and not used and _replace(row, attempt, chain, now):
        send(row=row, chain=chain, now=now)
        return 1
    if attempt.sent_at is None or now - attempt.sent_at >= timedelta(seconds=RESEND_SECONDS):
        send(row=row, chain=chain, now=now)
        return 1
    return 0


def _replace(row: ChainTransaction, last: ChainAttempt, chain: Chain, now: datetime) -> bool:
    """Sign the same thing with fees at least an eighth higher; false when that is over the limit or not our key."""
    signer, current = keys.signer_at(row.sender.address), chain.fees()
    fees = Fees(
        max_fee=max(raised(last.max_fee), current.max_fee),
        priority_fee=max(raised(last.priority_fee), current.priority_fee),
    )
    if signer is None:
        return False
    if fees.max_fee > settings.ETHEREUM_MAX_FEE_GWEI * WEI_PER_GWEI:
        text = "Stuck, and a higher fee would be over ETHEREUM_MAX_FEE_GWEI."
        ChainTransaction.objects.filter(pk=row.pk).update(error=text)
        return False
    with database.atomic():
        _sign(row, signer, fees, now)
        audit.record(
            "chain_transaction_replaced", subject=f"chain_transaction:{row.pk}", nonce=row.nonce, max_fee=fees.max_fee
        )
    return True


def raised(fee: int) -> int:
    """Return the fee an eighth (12.5 %) higher, rounded up: what every node takes as a replacement."""
    return -(-fee * 9 // 8)


def _capped(fees: Fees) -> Fees:
    limit = settings.ETHEREUM_MAX_FEE_GWEI * WEI_PER_GWEI
    return Fees(min(fees.max_fee, limit), min(fees.priority_fee, limit))


def locked_sender(plan: Plan) -> ChainSender:
    """Return who sends it, locked for the rest of the database transaction; the next nonce is its own until then."""
    address = keys.signer(plan.role).address
    ChainSender.objects.get_or_create(
        chain_id=settings.ETHEREUM_CHAIN_ID, address=address, defaults={"next_nonce": plan.sender_count}
    )
    sender = ChainSender.objects.select_for_update().get(chain_id=settings.ETHEREUM_CHAIN_ID, address=address)
    sender.next_nonce = max(sender.next_nonce, plan.sender_count)  # the key was also used elsewhere, e.g. to fund it
    return sender


def _sign(row: ChainTransaction, signer: Signer, fees: Fees, now: datetime) -> None:
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
