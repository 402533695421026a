"""What happens after a guardian vetoed an epoch: what it committed goes back, and settlement rests until staff have looked.

The contract vetoes an epoch together with every later one, because their cumulative amounts build on it.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from billing.chain.states import EPOCH_MOVES, EpochState, TransactionState, transition
from billing.models import Epoch, PayoutLeaf
from billing.services import accounts, ledger, withdrawal_epochs
from interchain_site.core import audit
from interchain_site.core.errors import Conflict
from interchain_site.core.models import User


def pending() -> bool:
    """Return whether a veto waits for staff; nothing new is closed or posted meanwhile."""
    waits_for_staff = Epoch.objects.filter(state=EpochState.VETOED, reviewed_at=None)
    seen_on_chain = Epoch.objects.filter(state=EpochState.MINED, veto_seen=True)
    return waits_for_staff.exists() or seen_on_chain.exists()


@transaction.atomic
def withdraw(*, epoch_id: int, now: datetime) -> int:
    """Record an epoch's veto; returns 1, or 0 while it is too early to say what it means.

    1. Wait until every later epoch is in a block for good: it may carry the same amounts on.
    2. If one stands that is not vetoed, the amounts stay committed through it, and nothing goes back.
    3. Else the leaves end with this epoch, an epoch computed but not posted is computed anew without them, and the
       earnings return from `settled` to `earnings_available`, withdrawals to `withdrawing`.
    4. In either case its usage statements go into the next epoch.
    """
    epoch = Epoch.objects.select_for_update().get(pk=epoch_id)
    if epoch.state != EpochState.MINED:
        return 0
    later = Epoch.objects.filter(sequence__gt=epoch.sequence)
    in_flight = later.filter(state=EpochState.POSTED) | later.filter(state=EpochState.MINED).exclude(
        posting__state=TransactionState.FINAL
    )
    if in_flight.exists() or epoch.posting is None or epoch.posting.state != TransactionState.FINAL:
        return 0
    carried = later.filter(state__in=[EpochState.MINED, EpochState.FINAL]).exists()
    transition(epoch, EPOCH_MOVES, EpochState.VETOED, final_at=now)
    _let_statements_go(epoch, counted=carried)
    if not carried:
        _give_back(epoch, now=now)
    audit.record("epoch_vetoed", subject=f"epoch:{epoch.sequence}", carried_on_by_a_later_epoch=carried)
    return 1


def _let_statements_go(epoch: Epoch, *, counted: bool) -> None:
    """Let the next epoch commit to its statements: a refused root proves nothing. What a later epoch counted counts no more."""
    epoch.statements.update(epoch=None, **({"meters": ""} if counted else {}))


def _give_back(epoch: Epoch, *, now: datetime) -> None:
    waiting = Epoch.objects.filter(sequence__gt=epoch.sequence, state__in=[EpochState.CLOSED, EpochState.OPEN])
    first = waiting.order_by("sequence").first()
    leaves = list(epoch.leaves.select_related("wallet").order_by("id"))
    withdrawn = withdrawal_epochs.give_back(epoch, now=now)
    epoch.leaves.update(withdrawn_from=first.sequence if first else epoch.sequence + 1)
    if first is not None and first.state == EpochState.CLOSED:
        _recompute(first, {leaf.wallet_id: leaf.added_units for leaf in leaves})
    earned = [leaf for leaf in leaves if leaf.earned_units]
    owners = {leaf.wallet.user_id for leaf in earned}
    kinds = (accounts.SETTLED, accounts.EARNINGS_AVAILABLE, accounts.SHORTFALL)
    ids = accounts.user_accounts([(user_id, kind) for user_id in owners for kind in kinds])
    locked = ledger.lock_accounts(ids.values())
    owed = {user_id: max(0, -locked[ids[user_id, accounts.SHORTFALL]].balance) for user_id in owners}
    postings = [_return_of(leaf, epoch, ids, owed[leaf.wallet.user_id], now) for leaf in earned]
    ledger.post(postings=[*postings, *withdrawn], now=now)


def _return_of(
    leaf: PayoutLeaf, epoch: Epoch, ids: dict[tuple[int, str], int], owed: int, now: datetime
) -> ledger.Posting:
    """Return an owner's earnings, once per owner; what they owe by now is repaid first."""
    user_id, repaid = leaf.wallet.user_id, min(owed, leaf.earned_units)
    lines = (
        ledger.Line(ids[user_id, accounts.SETTLED], -leaf.earned_units),
        ledger.Line(ids[user_id, accounts.SHORTFALL], repaid),
        ledger.Line(ids[user_id, accounts.EARNINGS_AVAILABLE], leaf.earned_units - repaid),
    )
    return ledger.Posting(
        key=f"epoch:{epoch.sequence}:return:{leaf.wallet_id}",
        kind="earnings_returned",
        lines=tuple(line for line in lines if line.amount),
        effective_at=now,
        memo=f"Epoch {epoch.sequence} was vetoed; settled again later",
        reference=f"epoch:{epoch.sequence}",
    )


def _recompute(epoch: Epoch, taken: dict[int, int]) -> None:
    from billing.services.settlement import roots

    for leaf in epoch.leaves.filter(wallet_id__in=taken):
        PayoutLeaf.objects.filter(pk=leaf.pk).update(cumulative_units=leaf.cumulative_units - taken[leaf.wallet_id])
    Epoch.objects.filter(pk=epoch.pk).update(**roots(epoch))


@transaction.atomic
def resume(*, epoch_id: int, by: User, now: datetime) -> Epoch:
    """Let settlement go on after staff have looked at a veto and mended its cause.

    Raises:
        Conflict: the epoch is not vetoed, or somebody did so already.
    """
    done = Epoch.objects.filter(pk=epoch_id, state=EpochState.VETOED, reviewed_at=None).update(reviewed_at=now)
    if not done:
        raise Conflict("This epoch does not wait for a review.")
    epoch = Epoch.objects.get(pk=epoch_id)
    audit.record("veto_reviewed", subject=f"epoch:{epoch.sequence}", by=by)
    return epoch
