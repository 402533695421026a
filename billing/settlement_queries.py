"""What settlement's services and screens read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from django.db.models import Max, Q, QuerySet, Sum

from billing.chain import deployments
from billing.chain.contracts import METERS, SettledEpoch
from billing.chain.merkle import MerkleTree, payout_leaf, statement_leaf
from billing.chain.states import ClaimState, EpochState
from billing.models import Account, Claim, Epoch, PayoutLeaf, Wallet

PAGE = 50
KEPT_TREES = 4
CHUNK = 10_000


def cumulative_by_wallet(sequence: int, *, wallet_ids: Collection[int] | None = None) -> dict[int, int]:
    """Return the base units each wallet has in the payout tree of an epoch, `{wallet_id: units}`; all wallets by default."""
    leaves = PayoutLeaf.objects.filter(epoch__sequence__lte=sequence).filter(
        Q(withdrawn_from=None) | Q(withdrawn_from__gt=sequence)
    )
    if wallet_ids is not None:
        leaves = leaves.filter(wallet_id__in=wallet_ids)
    return dict(leaves.values_list("wallet_id").annotate(units=Max("cumulative_units")))


def payout_leaves(sequence: int) -> dict[str, int]:
    """Return the leaves of an epoch's payout tree, `{address: base units}`."""
    leaves = PayoutLeaf.objects.filter(epoch__sequence__lte=sequence).filter(
        Q(withdrawn_from=None) | Q(withdrawn_from__gt=sequence)
    )
    return dict(leaves.values_list("wallet__address").annotate(units=Max("cumulative_units")))


def payout_tree(sequence: int) -> MerkleTree:
    """Return the payout tree of an epoch, built anew from the rows."""
    return tree_of_payouts(payout_leaves(sequence))


def tree_of_payouts(leaves: Mapping[str, int]) -> MerkleTree:
    """Return the payout tree over some leaves."""
    return MerkleTree(payout_leaf(address, units) for address, units in leaves.items())


def usage_tree(epoch: Epoch) -> MerkleTree:
    """Return the tree over an epoch's usage statements."""
    hashes = epoch.statements.values_list("sha256", flat=True).iterator(chunk_size=CHUNK)
    return MerkleTree(map(statement_leaf, hashes))


def usage_of(epoch: Epoch) -> tuple[MerkleTree, list[int]]:
    """Return an epoch's usage tree, and what was used of each meter since the beginning; its statements are read once.

    Meters are in base units and in the contract's order.
    """
    before = Epoch.objects.filter(sequence__lt=epoch.sequence).exclude(state=EpochState.VETOED).order_by("-sequence")
    sums = list(before.values_list("meters", flat=True).first() or [0] * METERS)
    leaves: list[bytes] = []
    rows = epoch.statements.values_list("sha256", "meters").iterator(chunk_size=CHUNK)
    while chunk := list(islice(rows, CHUNK)):
        leaves += (statement_leaf(sha256) for sha256, _ in chunk)
        used = [int(units) for _, meters in chunk for units in meters.split()]
        sums = [known + sum(used[place::METERS]) for place, known in enumerate(sums)]
    return MerkleTree(leaves), sums


def settled_epoch(epoch: Epoch) -> SettledEpoch:
    """Return what whoever claims in this epoch shows the contract. It must have been in a block."""
    if epoch.claimable_at is None:
        raise ValueError(f"{epoch} was never in a block.")
    return SettledEpoch(
        number=epoch.sequence,
        claimable_at=int(epoch.claimable_at.timestamp()),
        payout_root=epoch.payout_root,
        usage_root=epoch.usage_root,
        cumulative=epoch.cumulative_units,
    )


def payout_proof(epoch: Epoch, *, address: str, cumulative: int) -> list[bytes]:
    """Return the proof the contract wants for a claim in this epoch; the tree is kept, because claims come in bunches."""
    tree = _kept.get(epoch.payout_root) or _built(epoch.payout_root, partial(payout_tree, epoch.sequence))
    return tree.proof(payout_leaf(address, cumulative))


def usage_proof(epoch: Epoch, *, leaf: bytes) -> list[bytes]:
    """Return the path of a statement's leaf to the epoch's usage root; the tree is kept for the next one who asks."""
    tree = _kept.get(epoch.usage_root) or _built(epoch.usage_root, partial(usage_tree, epoch))
    return tree.proof(leaf)


_kept: OrderedDict[str, MerkleTree] = OrderedDict()  # by root


def keep(tree: MerkleTree) -> MerkleTree:
    """Keep a tree for the proofs that will be asked of it; the oldest goes."""
    _kept[tree.root] = tree
    _kept.move_to_end(tree.root)
    while len(_kept) > KEPT_TREES:
        _kept.popitem(last=False)
    return tree


def _built(root: str, build: Callable[[], MerkleTree]) -> MerkleTree:
    tree = build()
    if tree.root != root:
        raise ValueError(f"The rows do not give the root that was posted, {root}.")
    return keep(tree)


def newest_final_epoch() -> Epoch | None:
    """Return the epoch that proves claims now."""
    return Epoch.objects.filter(state=EpochState.FINAL).order_by("-sequence").first()


@dataclass(frozen=True)
class WalletBalance:
    """What a wallet can claim now, in base units.

    Attributes:
        waiting_units: settled in epochs that are not final yet.
        under_way: a claim is on its way.
    """

    wallet: Wallet
    claimable_units: int
    waiting_units: int
    paid_units: int
    under_way: bool


def wallet_balances(user_id: int) -> list[WalletBalance]:
    """Return a person's wallets, the active one first; former ones only while they still have something to claim."""
    wallets = list(Wallet.objects.filter(user_id=user_id).order_by("-active", "-linked_at"))
    ids = [wallet.pk for wallet in wallets]
    epoch = newest_final_epoch()
    final = cumulative_by_wallet(epoch.sequence, wallet_ids=ids) if epoch else {}
    newest = cumulative_by_wallet(_newest_sequence(), wallet_ids=ids)
    paid = paid_by_wallet(ids)
    busy = set(
        Claim.objects.filter(wallet_id__in=ids, state__in=[ClaimState.REQUESTED, ClaimState.SENT]).values_list(
            "wallet_id", flat=True
        )
    )
    balances = [
        WalletBalance(
            wallet=wallet,
            claimable_units=max(final.get(wallet.pk, 0) - paid.get(wallet.pk, 0), 0),
            waiting_units=max(newest.get(wallet.pk, 0) - max(final.get(wallet.pk, 0), paid.get(wallet.pk, 0)), 0),
            paid_units=paid.get(wallet.pk, 0),
            under_way=wallet.pk in busy,
        )
        for wallet in wallets
    ]
    return [one for one in balances if _matters(one)]


def _matters(one: WalletBalance) -> bool:
    """A former wallet only while it still has something to claim."""
    wallet = one.wallet
    return bool(wallet.active or wallet.active_from or one.claimable_units or one.waiting_units)


def paid_by_wallet(wallet_ids: Collection[int]) -> dict[int, int]:
    """Return what each wallet was paid, as far as the chain has confirmed it; base units."""
    claims = Claim.objects.filter(wallet_id__in=wallet_ids, state=ClaimState.FINAL)
    return dict(claims.values_list("wallet_id").annotate(units=Max("cumulative_units")))


def settled_units() -> int:
    """Return everything ever settled to wallets, by the ledger: what is owed on the chain and what was paid there."""
    paid = Claim.objects.filter(state=ClaimState.FINAL).aggregate(sum=Sum("units"))["sum"] or 0
    return unclaimed_units() + int(paid)


def unclaimed_units() -> int:
    """Return what is settled and not claimed yet, in base units."""
    return _sum_of("settled")


def escrow_units() -> int:
    """Return what the contract holds, by the ledger, in base units; the account mirrors it with the other sign."""
    return -_sum_of("escrow")


def _sum_of(kind: str) -> int:
    return int(Account.objects.filter(kind=kind, currency="NTC").aggregate(sum=Sum("balance"))["sum"] or 0)


def _newest_sequence() -> int:
    return Epoch.objects.aggregate(newest=Max("sequence"))["newest"] or 0


@dataclass(frozen=True)
class EpochPage:
    epochs: list[Epoch]
    next_before: int | None


def epochs_page(*, before: int | None = None, size: int = PAGE) -> EpochPage:
    """Return epochs newest first, older than `before`; three queries whatever their number."""
    found = _with_posting()
    if before is not None:
        found = found.filter(sequence__lt=before)
    epochs = list(found[: size + 1])
    more = len(epochs) > size
    return EpochPage(epochs[:size], epochs[size - 1].sequence if more else None)


def epoch_with_posting(sequence: int) -> Epoch | None:
    """Return one epoch with its transaction, or None."""
    return _with_posting().filter(sequence=sequence).first()


def leaves_of_person(epoch: Epoch, user_id: int) -> list[PayoutLeaf]:
    """Return what an epoch added for one person."""
    return list(epoch.leaves.filter(wallet__user_id=user_id).select_related("wallet"))


def claims_of(user_id: int, *, size: int = PAGE) -> list[Claim]:
    """Return a person's newest claims."""
    found = Claim.objects.filter(wallet__user_id=user_id).select_related("wallet", "epoch", "sending")
    return list(found[:size])


def unsettled_units(user_id: int) -> int:
    """Return base units past their hold that the next epoch takes up if a wallet is linked."""
    account = Account.objects.filter(user_id=user_id, kind="earnings_available", currency="NTC")
    return account.values_list("balance", flat=True).first() or 0


def contract_in_use() -> str:
    """Return the Settlement contract's address, or "" before it is deployed."""
    deployment = deployments.recorded()
    return deployment.settlement if deployment else ""


def _with_posting() -> QuerySet[Epoch]:
    return Epoch.objects.select_related("posting").prefetch_related("posting__attempts")
