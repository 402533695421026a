"""What settlement's services and screens read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from django.db.models import Max, Q, QuerySet, Sum

from billing.chain import deployments
from billing.chain.contracts import METERS, SettledEpoch
from billing.chain.merkle import MerkleTree, payout_leaf, statement_leaf
from billing.chain.states import ClaimState, EpochState
from billing.models import Account, Claim, Epoch, PayoutLeaf, Wallet

PAGE = 50


def cumulative_by_wallet(sequence: int, *, wallet_ids: Collection[int] | None = None) -> dict[int, int]:
    """Return the base units each wallet has in the payout tree of an epoch, `{wallet_id: units}`; all wallets by default."""
    leaves = PayoutLeaf.objects.filter(epoch__sequence__lte=sequence).filter(
        Q(withdrawn_from=None) | Q(withdrawn_from__gt=sequence)
    )
    if wallet_ids is not None:
        leaves = leaves.filter(wallet_id__in=wallet_ids)
    return dict(leaves.values_list("wallet_id").annotate(units=Max("cumulative_units")))


def payout_tree(sequence: int) -> MerkleTree:
    """Return the payout tree of an epoch, built anew from the rows."""
    units = cumulative_by_wallet(sequence)
    addresses = dict(Wallet.objects.values_list("id", "address"))
    return MerkleTree([payout_leaf(addresses[wallet_id], total) for wallet_id, total in units.items()])


def usage_tree(epoch: Epoch) -> MerkleTree:
    """Return the tree over an epoch's usage statements."""
    hashes = epoch.statements.values_list("sha256", flat=True).iterator(chunk_size=10_000)
    return MerkleTree([statement_leaf(sha256) for sha256 in hashes])


def usage_proof(epoch: Epoch, *, leaf: bytes) -> list[bytes]:
    """Return the path of a statement's leaf to the epoch's usage root; the tree is kept for the next one who asks."""
    return _known_usage_tree(epoch.pk, epoch.usage_root).proof(leaf)


@lru_cache(maxsize=2)
def _known_usage_tree(epoch_id: int, root: str) -> MerkleTree:
    tree = usage_tree(Epoch.objects.get(pk=epoch_id))
    if tree.root != root:
        raise ValueError(f"The statements of epoch row {epoch_id} do not give the root that was posted, {root}.")
    return tree


def meters_until(epoch: Epoch) -> list[int]:
    """Return what was used of each meter since the beginning, this epoch included; base units, in the contract's order."""
    before = Epoch.objects.filter(sequence__lt=epoch.sequence).order_by("-sequence").values_list("meters", flat=True)
    sums = list(before.first() or [0] * METERS)
    for used in epoch.statements.exclude(meters="").values_list("meters", flat=True).iterator(chunk_size=10_000):
        for place, units in enumerate(used.split()):
            sums[place] += int(units)
    return sums


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


@lru_cache(maxsize=2)
def _known_tree(sequence: int, root: str) -> MerkleTree:
    tree = payout_tree(sequence)
    if tree.root != root:
        raise ValueError(f"The rows of epoch {sequence} do not give the root that was posted, {root}.")
    return tree


def payout_proof(epoch: Epoch, *, address: str, cumulative: int) -> list[bytes]:
    """Return the proof the contract wants for a claim in this epoch; the tree is kept, because claims come in bunches."""
    return _known_tree(epoch.sequence, epoch.payout_root).proof(payout_leaf(address, cumulative))


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
