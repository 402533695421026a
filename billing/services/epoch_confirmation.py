"""What became of posted epochs: in a block, final, vetoed, or out of their block again. The fourth step of settlement."""

from __future__ import annotations

from datetime import UTC, datetime

from billing import settlement_queries as queries
from billing.chain import deployments
from billing.chain.contracts import Commitment, SettledEpoch
from billing.chain.errors import ForeignContracts
from billing.chain.interfaces import interface
from billing.chain.states import EPOCH_MOVES, NEVER_DONE, EpochState, TransactionState, transition
from billing.chain.types import Chain
from billing.models import ChainTransaction, Epoch
from billing.services import vetoes
from interchain_site.core import audit

NOT_IN_A_BLOCK = (TransactionState.BUILT, TransactionState.SENT)


def confirm(*, chain: Chain, now: datetime) -> int:
    """Compare epochs under way with their transactions and the contract; returns how many moved.

    The newest final one is compared too, because claims prove themselves with it. Vetoed ones are taken last and newest
    first, because each undoes what the next older one left to it.

    Raises:
        ForeignContracts: the contract holds another epoch under a number of ours.
    """
    moved, vetoed = 0, []
    for epoch in Epoch.objects.filter(state=EpochState.POSTED).order_by("sequence"):
        moved += _confirm_posted(epoch, chain, now)
    for epoch in Epoch.objects.filter(state=EpochState.MINED).order_by("sequence"):
        kept = deployments.load().contract.commitment(chain, epoch.sequence)
        vetoed_there = kept is not None and kept.vetoed
        if vetoed_there != epoch.veto_seen:
            Epoch.objects.filter(pk=epoch.pk).update(veto_seen=vetoed_there)
        if vetoed_there:
            vetoed.append(epoch.pk)
        else:
            moved += _confirm_mined(epoch, kept, chain, now)
    moved += _take_back_vanished()
    newest = queries.newest_final_epoch()
    if newest is not None:
        kept = deployments.load().contract.commitment(chain, newest.sequence)
        _keep_claimable_at(newest, kept)
    return moved + sum(vetoes.withdraw(epoch_id=pk, now=now) for pk in reversed(vetoed))


def _confirm_posted(epoch: Epoch, chain: Chain, now: datetime) -> int:
    row = epoch.posting
    if row is None or row.state in NOT_IN_A_BLOCK:
        return 0
    if row.state in NEVER_DONE:
        transition(
            epoch, EPOCH_MOVES, EpochState.CLOSED, error="Ethereum did not take the transaction; it is made anew."
        )
        return 1
    settled, kept = _settled(row, chain), deployments.load().contract.commitment(chain, epoch.sequence)
    if settled is None or kept is None:
        return 0  # refused but not deep enough yet, or the node answers from an older block
    ours = (epoch.sequence, epoch.payout_root, epoch.usage_root, epoch.cumulative_units)
    theirs = (settled.number, settled.payout_root, settled.usage_root, settled.cumulative)
    if ours != theirs or settled.commitment(vetoed=kept.vetoed) != kept.value:
        Epoch.objects.filter(pk=epoch.pk).update(error=ForeignContracts.message[:300])
        raise ForeignContracts
    claimable_at = datetime.fromtimestamp(settled.claimable_at, UTC)
    transition(epoch, EPOCH_MOVES, EpochState.MINED, mined_at=now, claimable_at=claimable_at, error="")
    audit.record("epoch_mined", subject=f"epoch:{epoch.sequence}", transaction=row.mined_hash, gas=row.gas_used)
    return 1


def _settled(row: ChainTransaction, chain: Chain) -> SettledEpoch | None:
    """Return what the contract said when it took an epoch's transaction, or None when it did not."""
    receipt = chain.receipt(row.mined_hash)
    logs = [log for log in receipt.logs if log.address == row.to] if receipt else []
    for event in (interface("Settlement").event(log) for log in logs):
        if event is not None and event.name == "Settled":
            said = event.values
            return SettledEpoch(
                number=int(said["epoch"]),
                claimable_at=int(said["claimableAt"]),
                payout_root=said["payoutRoot"],
                usage_root=said["usageRoot"],
                cumulative=int(said["totals"]["cumulative"]),
            )
    return None


def _confirm_mined(epoch: Epoch, kept: Commitment | None, chain: Chain, now: datetime) -> int:
    """Make it final once it is deep enough and the guardian's time is over, by the chain's own clock."""
    row = epoch.posting
    if row is None or row.state in (*NOT_IN_A_BLOCK, *NEVER_DONE):
        transition(epoch, EPOCH_MOVES, EpochState.POSTED, mined_at=None)
        return 1
    if kept is None:
        return 0
    _keep_claimable_at(epoch, kept)
    if row.state != TransactionState.FINAL or chain.head().timestamp < kept.claimable_at:
        return 0
    transition(epoch, EPOCH_MOVES, EpochState.FINAL, final_at=now)
    audit.record("epoch_final", subject=f"epoch:{epoch.sequence}", transaction=row.mined_hash)
    return 1


def _take_back_vanished() -> int:
    """Take epochs back whose block vanished although they were final: they are posted again, and claims wait for them."""
    vanished = list(Epoch.objects.filter(state=EpochState.FINAL, posting__state__in=(*NOT_IN_A_BLOCK, *NEVER_DONE)))
    for epoch in vanished:
        transition(epoch, EPOCH_MOVES, EpochState.POSTED, mined_at=None, final_at=None)
        audit.record("epoch_vanished", subject=f"epoch:{epoch.sequence}")
    return len(vanished)


def _keep_claimable_at(epoch: Epoch, kept: Commitment | None) -> None:
    """Mined anew in another block, an epoch is claimable at another time."""
    if (
        kept is None
        or kept.vetoed
        or epoch.claimable_at is None
        or int(epoch.claimable_at.timestamp()) == kept.claimable_at
    ):
        return
    epoch.claimable_at = datetime.fromtimestamp(kept.claimable_at, UTC)
    Epoch.objects.filter(pk=epoch.pk).update(claimable_at=epoch.claimable_at)
