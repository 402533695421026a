"""Claims: an owner's settled NTC go from the Settlement contract to their wallet.

The portal sends the claim for the owner, but anyone may; so the ledger follows the contract's `Claimed` events, not our
own transactions: this module is their handler (`billing.services.chain_events`).
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from billing import settlement_queries as queries
from billing.chain import deployments, transactions
from billing.chain.errors import Reverted
from billing.chain.states import CLAIM_MOVES, NEVER_DONE, ClaimState, EpochState, transition
from billing.chain.types import Chain
from billing.models import ChainEvent, ChainTransaction, Claim, Epoch, Wallet
from billing.services import accounts, ledger, withdrawal_epochs
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, NotFound
from interchain_site.core.models import User

UNDER_WAY = (ClaimState.REQUESTED, ClaimState.SENT)
TRIES = 3  # transactions for one claim
COMES_RIGHT = (
    "SettlementNothingToClaim",  # paid by somebody's claim: its event is on the way
    "SettlementNotClaimableYet",  # a moment too early
    "SettlementUnknownEpoch",  # the epoch's block vanished, and it is being posted again
    "SettlementWrongEpoch",  # mined anew in another block, it is claimable at another time
)


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
        epoch=queries.settled_epoch(asked.epoch), account=address, cumulative=asked.cumulative_units, proof=proof
    )
    try:
        plan = transactions.plan(call=call, chain=chain)
    except Reverted as error:
        if error.name not in COMES_RIGHT:
            _fail(asked, error.message)
        return asked
    attempt = len(_transactions(asked)) + 1
    with transaction.atomic():
        row = transactions.build(key=f"claim:{asked.pk}:{attempt}", plan=plan, now=now)
        transition(asked, CLAIM_MOVES, ClaimState.SENT, sending=row, transaction_hash=row.hash)
    transactions.send(row=row, chain=chain, now=now)
    return asked


def book(event: ChainEvent, *, now: datetime) -> None:
    """Write a payment down that is final: ledger entries and the claim row, both once (a handler of `Claimed`)."""
    said = event.values
    units, cumulative = int(said["amount"]), int(said["cumulative"])
    wallet = Wallet.objects.select_for_update().filter(address=said["account"]).first()
    if wallet is None:
        # Only leaves we made can be claimed, so this database is not the one that made them.
        raise NotFound(f"The contract paid {said['account']}, which is no wallet of anybody here.")
    _post(event, wallet, units, now)
    done = _final_claim(wallet, event, units, cumulative, now)
    audit.record("claim_paid", subject=f"claim:{done.pk}", units=units, transaction=event.transaction_hash)


def unbook(event: ChainEvent, *, now: datetime) -> None:
    """Take a payment back that vanished although it was final. Our own claim counts as sent again; another's has failed."""
    said = event.values
    wallet = Wallet.objects.select_for_update().get(address=said["account"])
    _post(event, wallet, -int(said["amount"]), now)
    done = Claim.objects.get(wallet=wallet, state=ClaimState.FINAL, cumulative_units=int(said["cumulative"]))
    another = Claim.objects.filter(wallet=wallet, state__in=UNDER_WAY).exists()
    again = done.sending is not None and not another
    error = "" if again else "The payment's block vanished from Ethereum. Claim again."
    transition(done, CLAIM_MOVES, ClaimState.SENT if again else ClaimState.FAILED, final_at=None, error=error)
    withdrawal_epochs.unpaid_again(wallet=wallet, paid_units=int(said["cumulative"]) - int(said["amount"]))
    audit.record("claim_vanished", subject=f"claim:{done.pk}", transaction=event.transaction_hash)


def take_back_refused(*, chain: Chain, now: datetime) -> int:
    """Look at claims whose transaction Ethereum refused for good: they are sent anew, and failed in the end.

    A claim shows when its epoch became claimable, so one that was sent before a reorganisation may be refused after it.
    Returns how many moved.
    """
    contract, count = deployments.load().contract, 0
    refused = Claim.objects.filter(state=ClaimState.SENT, sending__state__in=NEVER_DONE)
    for asked in refused.select_related("wallet"):
        if contract.paid(chain, asked.wallet.address) >= asked.cumulative_units:
            continue  # somebody else's claim paid it; its event is on the way
        if len(_transactions(asked)) < TRIES:
            transition(asked, CLAIM_MOVES, ClaimState.REQUESTED, sending=None, transaction_hash="")
        else:
            _fail(asked, "Ethereum did not take the transaction. Claim again.")
        count += 1
    return count


def _transactions(asked: Claim) -> list[ChainTransaction]:
    return list(ChainTransaction.objects.filter(key__startswith=f"claim:{asked.pk}:"))


def _post(event: ChainEvent, wallet: Wallet, units: int, now: datetime) -> None:
    """Take units (back, if below zero) from what is settled to the wallet, and from what the contract holds."""
    vanished = units < 0
    posting = ledger.Posting(
        key=f"{'claim_vanished' if vanished else 'claimed'}:{event.key}",
        kind="claim_vanished" if vanished else "earnings_claimed",
        lines=(
            ledger.Line(accounts.user_account(wallet.user_id, accounts.SETTLED), -units),
            ledger.Line(accounts.platform_account("escrow"), units),
        ),
        effective_at=event.block_time,
        memo=f"{'Not paid after all' if vanished else 'Paid'} to {wallet.address}",
        reference=f"transaction:{event.transaction_hash}",
    )
    ledger.post(postings=[posting], now=now)


def _final_claim(wallet: Wallet, event: ChainEvent, units: int, cumulative: int, now: datetime) -> Claim:
    facts = {
        "units": units,
        "cumulative_units": cumulative,
        "transaction_hash": event.transaction_hash,
        "final_at": now,
        "error": "",
    }
    asked = Claim.objects.filter(wallet=wallet, state__in=UNDER_WAY, cumulative_units__lte=cumulative).first()
    if asked is not None:
        transition(asked, CLAIM_MOVES, ClaimState.FINAL, **facts)
        return asked
    epoch = Epoch.objects.exclude(state=EpochState.OPEN).get(sequence=int(event.values["epoch"]))
    return Claim.objects.create(wallet=wallet, epoch=epoch, state=ClaimState.FINAL, requested_at=now, **facts)


@transaction.atomic
def _fail(asked: Claim, reason: str) -> None:
    transition(asked, CLAIM_MOVES, ClaimState.FAILED, error=reason[:300])
    audit.record("claim_failed", subject=f"claim:{asked.pk}", reason=reason)
