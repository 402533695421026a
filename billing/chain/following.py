"""Follow our transactions until they rest in a block deep enough, and bring those nearer to one that are not.

built → sent → mined → final (or reverted), and back to sent when a block vanishes. A transaction whose nonce was used by
another of the same key, for good, is displaced: it will never happen, and whoever wanted it makes a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction as database

from billing.chain import finality, keys
from billing.chain.errors import BadAnswer, ChainError, ChainUnavailable
from billing.chain.states import TRANSACTION_MOVES, TransactionState, transition
from billing.chain.transactions import WEI_PER_GWEI, send, sign
from billing.chain.types import Chain, Fees, Receipt
from billing.models import ChainAttempt, ChainSender, ChainTransaction
from interchain_site.core import audit
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.errors import Conflict

RESEND_SECONDS = 60
IN_A_BLOCK = (TransactionState.MINED, TransactionState.FINAL, TransactionState.REVERTED)
STUCK, DISPLACED = "transaction_stuck", "transaction_displaced"


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
    3. One whose nonce another transaction used, for good, is displaced.

    One transaction the node refuses does not stop the others.

    Raises:
        ChainUnavailable: the round ends there; the next one goes on.
    """
    senders = ChainSender.objects.filter(chain_id=settings.ETHEREUM_CHAIN_ID)
    counts = {sender.pk: chain.transaction_count(sender.address) for sender in senders}
    moved, refused = sum(_forget_vanished(sender, counts[sender.pk]) for sender in senders), []
    final = finality.final_block(chain)
    outstanding = ChainTransaction.objects.outstanding().filter(sender__in=counts).select_related("sender")
    for row in outstanding.order_by("pk"):
        try:
            moved += _look(row, count=counts[row.sender_id], final=final, chain=chain, now=now)
        except ChainUnavailable:
            raise
        except ChainError as error:
            refused.append(f"{row.key}: {error.message}")
        except Conflict:
            continue  # another worker moved it in the same moment
    return Round(moved, tuple(refused))


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


def _look(row: ChainTransaction, *, count: int, final: int, chain: Chain, now: datetime) -> int:
    """Return how many moves the row made."""
    receipt = _receipt(row, chain)
    if receipt is None and row.state == TransactionState.MINED:
        _unmine(row)
        return 1
    if receipt is None:
        if row.nonce < count:
            return _displace(row, final, chain, now)
        return _push(row, first=row.nonce == count, chain=chain, now=now)
    moves = _mine(row, receipt, now)
    if receipt.block_number <= final:
        _make_sure(receipt, chain)
        done = TransactionState.FINAL if receipt.succeeded else TransactionState.REVERTED
        transition(row, TRANSACTION_MOVES, done, final_at=now)
        moves += 1
    return moves


def _make_sure(receipt: Receipt, chain: Chain) -> None:
    """See that the receipt's block is the chain's, for this node and for the second one, before it counts as final.

    Raises:
        BadAnswer, NodesDisagree, ChainUnavailable: it does not count yet.
    """
    block = chain.block(receipt.block_number)
    if block is None or block.hash != receipt.block_hash:
        raise BadAnswer(f"The Ethereum node has transaction {receipt.hash} in a block that is not on its chain.")
    finality.make_sure(number=block.number, hash=block.hash)


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
    if row.error:
        clear_alert(code=STUCK, subject=row.key)
    transition(row, TRANSACTION_MOVES, TransactionState.MINED, mined_at=now, **facts)
    return 1


def _displace(row: ChainTransaction, final: int, chain: Chain, now: datetime) -> int:
    """Give a transaction up whose nonce another one of the same key used, once that one is final; until then wait."""
    if chain.transaction_count(row.sender.address, block=final) <= row.nonce or _receipt(row, chain) is not None:
        return 0
    text = f"Another transaction of {row.sender.address} used its nonce {row.nonce}."
    transition(row, TRANSACTION_MOVES, TransactionState.DISPLACED, final_at=now, error=text)
    audit.record("chain_transaction_displaced", subject=f"chain_transaction:{row.pk}", key=row.key, nonce=row.nonce)
    raise_alert(
        code=DISPLACED,
        subject=row.sender.address,
        message=f"{text} It was ours to give; {row.key} is made anew.",
        mend="Find out who else holds this key. If you do not know, change it: see docs/money.md, Keys.",
    )
    return 1


def _push(row: ChainTransaction, *, first: bool, chain: Chain, now: datetime) -> int:
    """Bring a transaction that is in no block nearer to one. Only the first of its sender's can be stuck for its fee."""
    attempt = row.attempts.latest("id")
    patience = timedelta(seconds=settings.ETHEREUM_STUCK_SECONDS)
    stuck = first and attempt.sent_at is not None and now - attempt.created_at >= patience
    if stuck and _replace(row, attempt, chain, now):
        send(row=row, chain=chain, now=now)
        return 1
    if attempt.sent_at is None or now - attempt.sent_at >= timedelta(seconds=RESEND_SECONDS):
        send(row=row, chain=chain, now=now)
        return 1
    return 0


def _replace(row: ChainTransaction, last: ChainAttempt, chain: Chain, now: datetime) -> bool:
    """Sign the same thing with fees at least an eighth higher; false when that is over the limit or nobody's key."""
    signer, current = keys.signer_at(row.sender.address), chain.fees()
    fees = Fees(
        max_fee=max(raised(last.max_fee), current.max_fee),
        priority_fee=max(raised(last.priority_fee), current.priority_fee),
    )
    gwei = settings.ETHEREUM_MAX_FEE_GWEI
    if signer is None:
        _say_stuck(row, "no role's key is its sender's any more", f"Set the key of {row.sender.address} again.")
        return False
    if fees.max_fee > gwei * WEI_PER_GWEI:
        mend = f"Wait until gas is cheaper, or raise ETHEREUM_MAX_FEE_GWEI (now {gwei}). Everything after it waits too."
        _say_stuck(row, "a higher fee would be over ETHEREUM_MAX_FEE_GWEI", mend)
        return False
    with database.atomic():
        sign(row, signer, fees, now)
        audit.record(
            "chain_transaction_replaced", subject=f"chain_transaction:{row.pk}", nonce=row.nonce, max_fee=fees.max_fee
        )
    return True


def _say_stuck(row: ChainTransaction, why: str, mend: str) -> None:
    text = f"Stuck, and {why}."
    ChainTransaction.objects.filter(pk=row.pk).update(error=text)
    raise_alert(code=STUCK, subject=row.key, message=f"The transaction {row.hash} ({row.key}): {text}", mend=mend)


def raised(fee: int) -> int:
    """Return the fee an eighth (12.5 %) higher, rounded up: what every node takes as a replacement."""
    return -(-fee * 9 // 8)
