"""Epochs: earnings, withdrawals and evidence of a window become two Merkle roots on Ethereum.

The steps, each repeatable, none able to pay twice:

1. `close_epoch`: one database transaction moves each matured earning from `earnings_available`, and each confirmed
   withdrawal from `withdrawing`, to `settled` and into its wallet's cumulative leaf, attaches the statements, and
   stores both roots. It happens wholly or not.
2. `post_epoch`: the transaction is signed and stored under the epoch's key, in the same database transaction that
   moves the epoch to `posted`.
3. Then it is sent. If that fails, or its outcome is unknown, `following.follow` sends the same bytes again.
4. `epoch_confirmation.confirm`: the chain has it (`mined`); deep enough and past the guardian's delay it is `final`, or it is `vetoed`.

The contract takes each epoch number once, so even two different transactions could not settle it twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from billing import settlement_queries as queries
from billing.chain import deployments, transactions
from billing.chain.contracts import Totals
from billing.chain.errors import ChainError, ForeignContracts, Reverted
from billing.chain.states import EPOCH_MOVES, EpochState, transition
from billing.chain.types import Chain
from billing.models import Account, Epoch, UsageStatement
from billing.services import accounts, ledger, vetoes, wallets, withdrawal_epochs
from billing.services.ledger import Line, Posting
from interchain_site.core import audit
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User

UNDER_WAY = (EpochState.CLOSED, EpochState.POSTED)
PAYEES_AT_ONCE = 5_000  # in one transaction of the ledger


class TreeMismatch(DomainError):
    """Something else moved `settled`; or a claim was confirmed in this moment, and the next round will do."""

    code, status, permanent = "tree_mismatch", 500, False


class EscrowTooSmall(DomainError):
    """More is owed than the contract holds; `settle` would revert and hold up every later epoch."""

    code, status, permanent = "escrow_too_small", 500, False


def open_epoch(*, now: datetime) -> Epoch:
    """Return the epoch that is collecting; the very first is opened here."""
    epoch = Epoch.objects.filter(state=EpochState.OPEN).first()
    if epoch is None:
        newest = Epoch.objects.order_by("-sequence").first()
        sequence, since = (newest.sequence + 1, newest.closed_at or now) if newest else (1, now)
        epoch, _ = Epoch.objects.get_or_create(sequence=sequence, defaults={"opened_at": since})
    return epoch


def is_due(epoch: Epoch, *, now: datetime) -> bool:
    """Return whether the open epoch has lasted its `EPOCH_SECONDS`."""
    return now - epoch.opened_at >= timedelta(seconds=settings.EPOCH_SECONDS)


@transaction.atomic
def close_epoch(*, now: datetime, by: User | None = None) -> Epoch | None:
    """Close the open epoch and open the next; returns the closed one, or None when there is nothing to close.

    Nothing is closed while an earlier epoch is not yet in a block (its number must come first), while staff have not
    looked at a veto, nor when nothing was earned or used. In order, in one database transaction:

    1. Lock the open epoch, so that two workers close it once.
    2. Move what each owner with a wallet has in `earnings_available`, and the withdrawals that are confirmed and have
       waited long enough, to `settled`.
    3. Write the cumulative leaves, and give the waiting statements and the withdrawals this epoch.
    4. Compute both roots, and open the next epoch.
    5. Refuse all of it unless what the tree promises is what the ledger owes, and the escrow holds that much.

    Raises:
        TreeMismatch, EscrowTooSmall: nothing is changed and nothing is posted.
    """
    epoch = Epoch.objects.select_for_update().get(pk=open_epoch(now=now).pk)
    if epoch.state != EpochState.OPEN or Epoch.objects.filter(state__in=UNDER_WAY).exists() or vetoes.pending():
        return None
    wallets.activate_due(now=now)
    earned, postings = _matured(epoch, now=now)
    taken = withdrawal_epochs.take_up(epoch, now=now)
    ledger.post(postings=[*postings, *taken.postings], now=now)
    _write_leaves(epoch, earned, {wallet.pk: units for wallet, units in taken.units.items()})
    withdrawal_epochs.committed(taken, epoch)
    used = UsageStatement.objects.filter(epoch=None).update(epoch=epoch)
    if not earned and not taken.rows and not used:
        return None
    transition(epoch, EPOCH_MOVES, EpochState.CLOSED, closed_at=now, statements_count=used, **roots(epoch))
    Epoch.objects.create(sequence=epoch.sequence + 1, opened_at=now)
    owed = queries.settled_units()
    if epoch.cumulative_units != owed:
        raise TreeMismatch(f"The payout tree promises {epoch.cumulative_units} base units, the ledger owes {owed}.")
    unclaimed, held = queries.unclaimed_units(), queries.escrow_units()
    if unclaimed > held:
        raise EscrowTooSmall(
            f"{unclaimed - held} base units are missing in the contract. Deposit them, then it goes on."
        )
    audit.record(
        "epoch_closed",
        subject=f"epoch:{epoch.sequence}",
        by=by,
        payout_root=epoch.payout_root,
        usage_root=epoch.usage_root,
    )
    return epoch


def _matured(epoch: Epoch, *, now: datetime) -> tuple[dict[int, int], list[Posting]]:
    """Return what has matured, base units by wallet id, and the postings that commit it: one for `PAYEES_AT_ONCE` owners."""
    matured = Account.objects.filter(
        kind=accounts.EARNINGS_AVAILABLE, currency="NTC", balance__gt=0, user__wallets__active=True
    )
    sources = list(matured.order_by("id").values_list("id", "user_id", "balance", "user__wallets__id"))
    targets = _settled_accounts([user_id for _, user_id, *_ in sources if user_id])
    postings = []
    for start in range(0, len(sources), PAYEES_AT_ONCE):
        lines: list[Line] = []
        for source, user_id, units, _ in sources[start : start + PAYEES_AT_ONCE]:
            lines += (Line(source, -units), Line(targets[user_id or 0], units))
        postings.append(
            Posting(
                key=f"epoch:{epoch.sequence}:settle:{sources[start][0]}",
                kind="earnings_settled",
                lines=tuple(lines),
                effective_at=now,
                memo=f"Settled in epoch {epoch.sequence}",
                reference=f"epoch:{epoch.sequence}",
            )
        )
    return {wallet_id: units for _, _, units, wallet_id in sources}, postings


def _settled_accounts(user_ids: list[int]) -> dict[int, int]:
    """Return the ids of these people's `settled` accounts; nearly all are there since an earlier epoch."""
    rows = Account.objects.filter(kind=accounts.SETTLED, currency="NTC", user__isnull=False)
    found = dict(rows.values_list("user_id", "id"))
    missing = [(user_id, accounts.SETTLED) for user_id in user_ids if user_id not in found]
    made = accounts.user_accounts(missing) if missing else {}
    return {**{user_id: pk for user_id, pk in found.items() if user_id}, **{key[0]: pk for key, pk in made.items()}}


def _write_leaves(epoch: Epoch, earned: Mapping[int, int], withdrawn: Mapping[int, int]) -> None:
    """Write the cumulative leaves of the wallets something is added to, given by their ids; raw, because there are many."""
    before = queries.cumulative_by_wallet(epoch.sequence)  # its own leaves do not exist yet
    rows = []
    for wallet_id in sorted({*earned, *withdrawn}):
        added = (earned.get(wallet_id, 0), withdrawn.get(wallet_id, 0))
        rows.append((epoch.pk, wallet_id, *added, before.get(wallet_id, 0) + sum(added)))
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO billing_payoutleaf (epoch_id, wallet_id, earned_units, withdrawal_units, cumulative_units)"
            " VALUES (%s, %s, %s, %s, %s)",
            rows,
        )


def roots(epoch: Epoch) -> dict[str, object]:
    """Return an epoch's roots and sums, computed from its rows. Its trees are kept: claims and proofs come next."""
    leaves = queries.payout_leaves(epoch.sequence)
    usage, meters = queries.usage_of(epoch)
    added = epoch.leaves.aggregate(earned=Sum("earned_units"), withdrawn=Sum("withdrawal_units"))
    return {
        "payout_root": queries.keep(queries.tree_of_payouts(leaves)).root,
        "usage_root": queries.keep(usage).root,
        "accounts": len(leaves),
        "cumulative_units": sum(leaves.values()),
        "earned_units": int(added["earned"] or 0),
        "withdrawal_units": int(added["withdrawn"] or 0),
        "meters": meters,
    }


def post_epoch(*, epoch_id: int, chain: Chain, now: datetime) -> Epoch:
    """Sign, store and send the transaction of a closed epoch. Called again at any point, it goes on from there.

    Raises:
        NotDeployed, KeyUnavailable, ChainRefused: mend the cause; the next round tries again.
        ChainUnavailable: the next round tries again; if the transaction was stored, the same bytes are sent.
        ForeignContracts: the contract holds another epoch under this number.
        Reverted: the contract refuses it, for instance because deposits do not cover it.
    """
    epoch = Epoch.objects.get(pk=epoch_id)
    if epoch.state != EpochState.CLOSED or vetoes.pending():
        return epoch
    deployment = deployments.load()
    totals = Totals(epoch.cumulative_units, epoch.accounts, epoch.statements_count, tuple(epoch.meters))
    call = deployment.contract.settle(
        epoch=epoch.sequence, payout_root=epoch.payout_root, usage_root=epoch.usage_root, totals=totals
    )
    attempt = epoch.attempts + 1
    try:
        plan = transactions.plan(call=call, chain=chain)
    except Reverted as error:
        raise _explained(epoch, error) from error
    with transaction.atomic():
        row = transactions.build(key=f"epoch:{epoch.sequence}:{attempt}", plan=plan, now=now)
        facts = {"posting": row, "contract": deployment.settlement, "attempts": attempt, "error": ""}
        transition(epoch, EPOCH_MOVES, EpochState.POSTED, **facts)
        audit.record("epoch_posted", subject=f"epoch:{epoch.sequence}", transaction=row.hash)
    transactions.send(row=row, chain=chain, now=now)
    return epoch


def _explained(epoch: Epoch, error: Reverted) -> ChainError:
    """Keep why the contract refuses an epoch where staff look, and return it in our words."""
    refusal: ChainError = ForeignContracts() if error.name == "SettlementUnexpectedEpoch" else error
    Epoch.objects.filter(pk=epoch.pk).update(error=refusal.message[:300])
    return refusal
