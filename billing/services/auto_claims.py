"""Payouts that we send: asked for by their owner, above the owner's threshold, or a withdrawal that is ready.

They are relayed together: several claims in one `claimMany`, each against the newest final epoch. The payout planner says whether
sending is worth its gas; where it is not, the owner can claim from their own wallet.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import transaction

from billing import money
from billing import settlement_queries as queries
from billing.chain import deployments, transactions
from billing.chain.contracts import Claimant
from billing.chain.errors import Reverted
from billing.chain.states import CLAIM_MOVES, ClaimState, WithdrawalState, transition
from billing.chain.types import Chain
from billing.models import AutoClaim, ChainTransaction, Claim, Epoch, Wallet, Withdrawal
from billing.services import claims, payout_planner, reconcile
from billing.services.withdrawals import PayoutsPaused
from interchain_site.core import audit
from interchain_site.core.errors import Conflict, Invalid, NotFound
from interchain_site.core.models import User

BATCH = 120  # payees of one transaction: far below the 2^24 gas one may use, whatever the depth of the tree
PAUSE = timedelta(hours=1)  # after a claim that failed, before we try by ourselves again


class NotWorthItsGas(Conflict):
    code = "not_worth_its_gas"
    message = "Sending this would cost too much gas for what it pays. Claim it from your own wallet."


@transaction.atomic
def set_threshold(*, units: int | None, by: User, now: datetime) -> AutoClaim | None:
    """Have payouts of at least `units` (base units) sent without being asked each time; None switches it off.

    Raises:
        Invalid: not above zero.
    """
    if units is None:
        AutoClaim.objects.filter(user=by).delete()
        audit.record("auto_claim_set", subject=f"user:{by.pk}", by=by, units=0)
        return None
    if units <= 0:
        message = "Enter an amount above zero."
        raise Invalid(message, fields={"threshold": message})
    row, _ = AutoClaim.objects.update_or_create(user=by, defaults={"threshold_units": units, "set_at": now})
    audit.record("auto_claim_set", subject=f"user:{by.pk}", by=by, units=units)
    return row


def ask(*, wallet_id: int, by: User, now: datetime) -> Claim:
    """Ask us to send everything a wallet can have now.

    Raises:
        NotFound, NothingToClaim: see `claims.claim`.
        NotWorthItsGas: its gas would cost more than we pay for; says so in numbers.
        PayoutsPaused: a check of the books found a difference.
    """
    blocked = reconcile.withdrawals_blocked()
    if blocked:
        raise PayoutsPaused(blocked)
    if not Wallet.objects.filter(pk=wallet_id, user=by).exists():
        raise NotFound
    plan = plan_for(wallet_id=wallet_id, now=now)
    if plan is not None and not plan.push:
        raise NotWorthItsGas(plan.reason)
    return claims.claim(wallet_id=wallet_id, by=by, now=now)


def plan_for(*, wallet_id: int, now: datetime, payees: int = payout_planner.BATCH_LIKELY) -> payout_planner.Plan | None:
    """Return what the planner says about what a wallet can claim now, or None when that is nothing."""
    epoch = queries.newest_final_epoch()
    if epoch is None:
        return None
    total = queries.cumulative_by_wallet(epoch.sequence, wallet_ids=[wallet_id]).get(wallet_id, 0)
    paid = queries.paid_by_wallet([wallet_id]).get(wallet_id, 0)
    if total <= paid:
        return None
    leaves = epoch.accounts
    return payout_planner.plan(units=total - paid, leaves=leaves, payees=payees, first_payment=paid == 0, now=now)


def request_due(*, now: datetime) -> int:
    """Ask for the payouts that are sent by themselves: above their owner's threshold, or a withdrawal that is ready.

    Returns how many were asked for.
    """
    epoch = queries.newest_final_epoch()
    if epoch is None or reconcile.withdrawals_blocked():
        return 0
    due = _due(epoch, now)
    asked = 0
    for wallet, units, paid in due:
        shared = {"leaves": epoch.accounts, "payees": len(due)}
        plan = payout_planner.plan(units=units, first_payment=paid == 0, now=now, **shared)
        if plan.push:
            with suppress(claims.NothingToClaim):
                claims.claim(wallet_id=wallet.pk, by=wallet.user, now=now)
                asked += 1
    return asked


def send_requested(*, chain: Chain, now: datetime) -> int:
    """Send the claims that were asked for, many in one transaction; returns how many. Called again, it goes on from there.

    Raises:
        ChainUnavailable, ChainRefused, KeyUnavailable, NotDeployed: the next round tries again.
    """
    if reconcile.withdrawals_blocked():
        return 0
    found = Claim.objects.filter(state=ClaimState.REQUESTED).order_by("pk").values_list("pk", flat=True)
    waiting = list(found)
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        if len(batch) == 1 or not _send_together(batch, chain, now):
            for pk in batch:
                claims.send_claim(claim_id=pk, chain=chain, now=now)
    return len(waiting)


def _due(epoch: Epoch, now: datetime) -> list[tuple[Wallet, int, int]]:
    """Return wallets whose payout is due, with the base units they can have and had."""
    thresholds = dict(AutoClaim.objects.values_list("user_id", "threshold_units"))
    ready = set(Withdrawal.objects.filter(state=WithdrawalState.CLAIMABLE).values_list("wallet_id", flat=True))
    busy = Claim.objects.filter(state__in=claims.UNDER_WAY).values("wallet_id")
    failed = Claim.objects.filter(state=ClaimState.FAILED, requested_at__gt=now - PAUSE).values("wallet_id")
    found = Wallet.objects.filter(stopped_at=None).exclude(pk__in=busy).exclude(pk__in=failed).select_related("user")
    wallets = [*found.filter(user_id__in=thresholds), *found.filter(pk__in=ready).exclude(user_id__in=thresholds)]
    ids = [wallet.pk for wallet in wallets]
    totals, paid = queries.cumulative_by_wallet(epoch.sequence, wallet_ids=ids), queries.paid_by_wallet(ids)
    due = []
    for wallet in wallets:
        had = paid.get(wallet.pk, 0)
        units = totals.get(wallet.pk, 0) - had
        threshold = thresholds.get(wallet.user_id)
        if units > 0 and (wallet.pk in ready or (threshold is not None and units >= threshold)):
            due.append((wallet, units, had))
    return due


def _send_together(pks: Sequence[int], chain: Chain, now: datetime) -> bool:
    """Send claims in one transaction; false when the contract refuses them together, so that each is tried alone."""
    epoch = queries.newest_final_epoch()
    if epoch is None:
        return False
    rows = _aimed_at(epoch, pks)
    if not rows:
        return True
    proofs = [Claimant(row.wallet.address, row.cumulative_units, _proof(epoch, row)) for row in rows]
    call = deployments.load().contract.claim_many(epoch=queries.settled_epoch(epoch), claimants=proofs)
    try:
        plan = transactions.plan(call=call, chain=chain)
    except Reverted:
        return False
    sending = _stored(rows, plan, now)
    if sending is not None:
        transactions.send(row=sending, chain=chain, now=now)
    return True


def _stored(rows: Sequence[Claim], plan: transactions.Plan, now: datetime) -> ChainTransaction | None:
    """Sign and store the transaction together with the claims' move; None when another worker did in the same moment."""
    key = transactions.next_key(f"claims:{rows[0].pk}-{rows[-1].pk}:{len(rows)}")  # the same claims may be sent anew
    try:
        with transaction.atomic():
            sending = transactions.build(key=key, plan=plan, now=now)
            for row in rows:
                transition(row, CLAIM_MOVES, ClaimState.SENT, sending=sending, transaction_hash=sending.hash)
            ntc = money.plain_ntc(sum(row.units for row in rows))
            audit.record("claims_sent", subject=f"chain_transaction:{sending.pk}", payees=len(rows), ntc=ntc)
    except Conflict:
        return None
    return sending


def _proof(epoch: Epoch, row: Claim) -> list[bytes]:
    return queries.payout_proof(epoch, address=row.wallet.address, cumulative=row.cumulative_units)


@transaction.atomic
def _aimed_at(epoch: Epoch, pks: Sequence[int]) -> list[Claim]:
    """Return the claims it holds something for, changed so that all of them ask for what the newest final epoch holds."""
    found = Claim.objects.select_for_update(of=("self",)).select_related("wallet")
    rows = list(found.filter(pk__in=pks, state=ClaimState.REQUESTED).order_by("pk"))
    ids = [row.wallet_id for row in rows]
    totals, paid = queries.cumulative_by_wallet(epoch.sequence, wallet_ids=ids), queries.paid_by_wallet(ids)
    # After a deep reorganisation the newest final epoch may be older than a claim, which then waits for its own again.
    rows = [row for row in rows if totals.get(row.wallet_id, 0) > paid.get(row.wallet_id, 0)]
    for row in rows:
        if row.epoch_id != epoch.pk:
            row.epoch, row.cumulative_units = epoch, totals[row.wallet_id]
            row.units = row.cumulative_units - paid.get(row.wallet_id, 0)
            row.save(update_fields=["epoch", "cumulative_units", "units"])
    return rows
