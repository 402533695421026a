"""Claims: an owner's settled NTC go from the Settlement contract to their wallet.

The portal sends the claim for the owner, but anyone may; so the ledger follows the contract's `Claimed` events, not our
own transactions. What a wallet was paid in all grows with each payment, so `(wallet, cumulative)` names a payment once,
even if its block vanishes and it is mined again.
"""

from __future__ import annotations

from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction

from billing import settlement_queries as queries
from billing.chain import deployments, transactions
from billing.chain.contracts import Claimed
from billing.chain.errors import Reverted
from billing.chain.states import CLAIM_MOVES, ClaimState, EpochState, TransactionState, transition
from billing.chain.types import Chain
from billing.models import ChainCursor, Claim, Epoch, Wallet
from billing.services import accounts, ledger
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import User

log = structlog.get_logger(__name__)
UNDER_WAY = (ClaimState.REQUESTED, ClaimState.SENT)
BLOCKS_AT_ONCE = 2_000
COMES_RIGHT = ("SettlementNothingToClaim", "SettlementNotClaimableYet")  # paid by somebody's claim; a moment too early


class NothingToClaim(Conflict):
    code = "nothing_to_claim"
    message = "There is nothing to claim yet. Earnings can be claimed once the epoch they settled in is final."


@transaction.atomic
def claim(*, wallet_id: int, by: User, now: datetime) -> Claim:
    """Ask for everything a wallet can have now; while a claim is under way, that one is returned.

    Raises:
        NotFound: the wallet is not this person's.
        NothingToClaim: no final epoch holds more than was paid.
    """
    wallet = Wallet.objects.select_for_update().filter(pk=wallet_id, user=by).first()
    if wallet is None:
        raise NotFound
    under_way = Claim.objects.filter(wallet=wallet, state__in=UNDER_WAY).first()
    if under_way is not None:
        return under_way
    epoch = queries.newest_final_epoch()
    cumulative = queries.cumulative_by_wallet(epoch.sequence, wallet_ids=[wallet.pk]).get(wallet.pk, 0) if epoch else 0
    units = cumulative - queries.paid_by_wallet([wallet.pk]).get(wallet.pk, 0)
    if epoch is None or units <= 0:
        raise NothingToClaim
    asked = Claim.objects.create(
        wallet=wallet, epoch=epoch, units=units, cumulative_units=cumulative, requested_by=by, requested_at=now
    )
    audit.record("claim_requested", subject=f"claim:{asked.pk}", by=by, wallet=wallet.address, units=units)
    return asked


def send_claim(*, claim_id: int, chain: Chain, now: datetime) -> Claim:
    """Sign, store and send a requested claim's transaction. Called again at any point, it goes on from there.

    A claim the contract refuses is marked failed, except where waiting mends it.

    Raises:
        ChainUnavailable, ChainRefused, KeyUnavailable, NotDeployed: the next round tries again.
    """
    asked = Claim.objects.select_related("wallet", "epoch").get(pk=claim_id)
    if asked.state != ClaimState.REQUESTED:
        return asked
    address = asked.wallet.address
    proof = queries.payout_proof(asked.epoch, address=address, cumulative=asked.cumulative_units)
    call = deployments.load().contract.claim(
        epoch=asked.epoch.sequence, account=address, cumulative=asked.cumulative_units, proof=proof
    )
    try:
        plan = transactions.plan(call=call, chain=chain)
    except Reverted as error:
        if error.name not in COMES_RIGHT:
            _fail(asked, error.message)
        return asked
    with transaction.atomic():
        row = transactions.build(key=f"claim:{asked.pk}", plan=plan, now=now)
        transition(asked, CLAIM_MOVES, ClaimState.SENT, sending=row, transaction_hash=row.hash)
    transactions.send(row=row, chain=chain, now=now)
    return asked


def confirm(*, chain: Chain, now: datetime) -> int:
    """Write down the payments the chain has confirmed, and claims the contract refused; returns how many.

    1. Read the `Claimed` events of the blocks that are deep enough, from where the last look ended.
    2. For each: ledger entries, the claim row, both once.
    3. Claims whose transaction was refused for good have failed; the owner may claim again.
    """
    deployment = deployments.load()
    last = chain.head().number - settings.ETHEREUM_CONFIRMATIONS + 1
    cursor, _ = ChainCursor.objects.get_or_create(
        contract=deployment.settlement, defaults={"next_block": deployment.block}
    )
    if last < cursor.next_block - 1:
        cursor.next_block = deployment.block  # the chain lost blocks; what was booked before is recognised
    count = 0
    while cursor.next_block <= last:
        until = min(cursor.next_block + BLOCKS_AT_ONCE - 1, last)
        events = deployment.contract.claims(chain, first=cursor.next_block, last=until)
        with transaction.atomic():
            count += sum(_book(event, now=now) for event in events)
            cursor.next_block = until + 1
            cursor.save(update_fields=["next_block"])
    refused = Claim.objects.filter(state=ClaimState.SENT, sending__state=TransactionState.REVERTED)
    for asked in refused.select_related("wallet"):
        if deployment.contract.paid(chain, asked.wallet.address) < asked.cumulative_units:
            _fail(asked, "The contract refused the transaction. Claim again.")
            count += 1
    return count


def _book(event: Claimed, *, now: datetime) -> int:
    """Write one payment down; 0 when it is known already."""
    wallet = Wallet.objects.select_for_update().filter(address=event.account).first()
    if wallet is None:
        log.error("claim_of_unknown_wallet", account=event.account, amount=event.amount)
        audit.record("claim_of_unknown_wallet", subject=f"account:{event.account}", amount=event.amount)
        return 0
    if Claim.objects.filter(wallet=wallet, state=ClaimState.FINAL, cumulative_units=event.cumulative).exists():
        return 0
    lines = (
        ledger.Line(accounts.user_account(wallet.user_id, accounts.SETTLED), -event.amount),
        ledger.Line(accounts.platform_account("escrow"), event.amount),
    )
    posting = ledger.Posting(
        key=f"claimed:{wallet.pk}:{event.cumulative}",
        kind="earnings_claimed",
        lines=lines,
        effective_at=now,
        memo=f"Paid to {wallet.address}",
        reference=f"transaction:{event.transaction_hash}",
    )
    ledger.post(postings=[posting], now=now)
    done = _final_claim(wallet, event, now)
    audit.record("claim_paid", subject=f"claim:{done.pk}", units=event.amount, transaction=event.transaction_hash)
    return 1


def _final_claim(wallet: Wallet, event: Claimed, now: datetime) -> Claim:
    facts = {
        "units": event.amount,
        "cumulative_units": event.cumulative,
        "transaction_hash": event.transaction_hash,
        "final_at": now,
        "error": "",
    }
    asked = Claim.objects.filter(wallet=wallet, state__in=UNDER_WAY, cumulative_units__lte=event.cumulative).first()
    if asked is not None:
        transition(asked, CLAIM_MOVES, ClaimState.FINAL, **facts)
        return asked
    epoch = Epoch.objects.exclude(state=EpochState.OPEN).get(sequence=event.epoch)
    return Claim.objects.create(wallet=wallet, epoch=epoch, state=ClaimState.FINAL, requested_at=now, **facts)


@transaction.atomic
def _fail(asked: Claim, reason: str) -> None:
    transition(asked, CLAIM_MOVES, ClaimState.FAILED, error=reason[:300])
    audit.record("claim_failed", subject=f"claim:{asked.pk}", reason=reason)
