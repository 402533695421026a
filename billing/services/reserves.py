"""Reserve snapshots: everybody's balance as a leaf of a Merkle sum tree, its root published and settled, beside what the contract holds.

What a proof gives away of others: sums of unnamed parts beside one's own. So each balance is cut into `PARTS` random parts at
random places, among leaves of nobody, with new salts each time; nobody's balance, and nobody's existence, can be read from it.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import transaction

from billing.chain.types import Chain
from billing.models import Account, Currency, ReserveLeaf, ReserveSnapshot
from billing.services import accounts, bill_proofs, chain_books, ledger, statements
from billing.services.chain_books import ChainBooks
from billing.sum_tree import Node, SumTree, leaf
from interchain_site.core import audit
from interchain_site.core.canonical import canonical_json
from interchain_site.core.errors import NotFound
from interchain_site.core.models import User

PARTS = 3
LEAST_LEAVES = 64
SALT_BYTES = 32
BATCH = 5_000
MIRRORS = {"escrow", "treasury_external"}
"""Accounts that mirror the outside world: what the contract holds is read from the contract."""
FORMAT, LEAF_FORMAT, PROOF_FORMAT, VERSION = (
    "interchain-reserves",
    "interchain-reserves-leaf",
    "interchain-reserves-proof",
    1,
)


class NoSnapshot(NotFound):
    code = "no_snapshot"
    message = "Your balance is in no snapshot yet. The next one will hold it; come back tomorrow."


@dataclass(frozen=True)
class Liabilities:
    """All NTC by the ledger, base units. `debts` is what people owe the platform, above zero."""

    people: dict[int, dict[str, int]]
    platform: dict[str, int]
    debts: int


@dataclass(frozen=True)
class Part:
    user_id: int | None
    units: int
    salt: bytes
    document: bytes

    @property
    def node(self) -> Node:
        return leaf(units=self.units, salt=self.salt, document=self.document)


def take_snapshot(*, now: datetime, chain: Chain | None, by: User | None = None) -> ReserveSnapshot:
    """Write down what everybody is owed and what the contract holds; the next epoch carries the root onto the chain.

    Without a chain the snapshot says that the contract could not be read. Leaves of old snapshots are removed.

    Raises:
        NotDeployed, ChainUnavailable: nothing was written.
    """
    with transaction.atomic():
        ledger.lock_accounts({accounts.platform_account("escrow")})  # no event is booked between the next two lines
        books = chain_books.read(chain) if chain else None
        owed = liabilities()
    with transaction.atomic():
        snapshot = ReserveSnapshot(
            taken_at=now,
            people_units=sum(sum(kinds.values()) for kinds in owed.people.values()),
            people=len(owed.people),
            leaves_count=0,
            platform=owed.platform,
            debts_units=owed.debts,
            **_chain_side(books),
        )
        snapshot.save()
        _grow(snapshot, owed)
        statements.record_statements(
            drafts=[statements.StatementDraft(snapshot.statement_key, statement(snapshot))], now=now
        )
        _forget_old_leaves()
        audit.record("reserves_snapshot_taken", subject=f"reserves:{snapshot.pk}", by=by, root=snapshot.root)
    return snapshot


def is_due(*, now: datetime) -> bool:
    """Return whether the newest snapshot is older than `RESERVES_SECONDS`."""
    newest = ReserveSnapshot.objects.values_list("taken_at", flat=True).first()
    return newest is None or now - newest >= timedelta(seconds=settings.RESERVES_SECONDS)


def liabilities() -> Liabilities:
    """Return all NTC by whose they are. Everybody has a line, also those who have nothing."""
    people: dict[int, dict[str, int]] = {pk: {} for pk in User.objects.values_list("pk", flat=True)}
    platform: dict[str, int] = defaultdict(int)
    debts = 0
    rows = Account.objects.filter(currency=Currency.NTC).exclude(user=None, kind__in=MIRRORS).exclude(balance=0)
    for user_id, kind, balance in rows.values_list("user_id", "kind", "balance").order_by("id").iterator():
        if balance < 0:
            debts -= balance
        elif user_id:
            people.setdefault(user_id, {})[kind] = balance
        else:
            platform[kind] += balance
    return Liabilities(people, dict(sorted(platform.items())), debts)


def statement(snapshot: ReserveSnapshot) -> dict[str, Any]:
    """Return the snapshot as the document whose hash goes into the next epoch's usage tree."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "key": snapshot.statement_key,
        "taken_at": snapshot.taken_at.isoformat(),
        "root": snapshot.root,
        "people_units": snapshot.people_units,
        "platform": snapshot.platform,
        "debts_units": snapshot.debts_units,
        "chain_id": snapshot.chain_id,
        "contract": snapshot.contract,
        "contract_units": snapshot.contract_units,
        "arriving_units": snapshot.arriving_units,
        "leaving_units": snapshot.leaving_units,
        "block_number": snapshot.block_number,
        "block_hash": snapshot.block_hash,
    }


def proof(*, user: User) -> dict[str, Any]:
    """Return the person's own balance in the newest snapshot that holds it, as the file `interchain-verify` reads.

    Raises:
        NoSnapshot: none holds this person yet.
    """
    newest = ReserveLeaf.objects.filter(user=user).order_by("-snapshot_id").select_related("snapshot").first()
    if newest is None:
        raise NoSnapshot
    snapshot = newest.snapshot
    tree = _tree(snapshot.pk, snapshot.root)
    settled = bill_proofs.of_statement(snapshot.statement_key)
    rows = ReserveLeaf.objects.filter(user=user, snapshot=snapshot).order_by("position")
    return {
        "format": PROOF_FORMAT,
        "version": VERSION,
        "statement": settled.document,
        "parts": [_shown(row, tree) for row in rows],
        "epoch": settled.epoch,
        "chain": settled.chain,
    }


def _chain_side(books: ChainBooks | None) -> dict[str, Any]:
    if books is None:
        return {}
    return {
        "chain_id": books.chain_id,
        "contract": books.contract,
        "contract_units": books.held,
        "deposited_units": books.deposited,
        "paid_units": books.paid,
        "arriving_units": books.arriving,
        "leaving_units": books.leaving,
        "block_number": books.block.number,
        "block_hash": books.block.hash,
        "block_time": books.block_time,
    }


def _grow(snapshot: ReserveSnapshot, owed: Liabilities) -> None:
    """Make the tree, keep its leaves, and give the snapshot its root."""
    snapshot.statement_key = f"reserves:{snapshot.pk}"
    parts = list(_parts(snapshot.statement_key, owed))
    wanted = max(LEAST_LEAVES, 1 << (len(parts) - 1).bit_length())
    parts += [Part(None, 0, secrets.token_bytes(SALT_BYTES), b"") for _ in range(wanted - len(parts))]
    secrets.SystemRandom().shuffle(parts)
    tree = SumTree([part.node for part in parts])
    if tree.root.units != snapshot.people_units:
        raise ValueError("The tree's sum is not what people are owed.")
    snapshot.root, snapshot.leaves_count = tree.root.hash.hex(), len(parts)
    snapshot.save()
    rows = (
        ReserveLeaf(
            snapshot=snapshot,
            position=position,
            user_id=part.user_id,
            units=part.units,
            salt=part.salt.hex(),
            document=part.document.decode(),
        )
        for position, part in enumerate(parts)
    )
    ReserveLeaf.objects.bulk_create(rows, batch_size=BATCH)


def _parts(key: str, owed: Liabilities) -> Iterator[Part]:
    """Cut each person's balance into parts, each a document that names the person and the whole balance."""
    names = dict(User.objects.values_list("pk", "email"))
    for user_id, balances in owed.people.items():
        for number, units in enumerate(_cut(sum(balances.values())), 1):
            document = {
                "format": LEAF_FORMAT,
                "snapshot": key,
                "person": names[user_id],
                "balances": balances,
                "part": number,
                "parts": PARTS,
                "units": units,
            }
            yield Part(user_id, units, secrets.token_bytes(SALT_BYTES), canonical_json(document))


def _cut(units: int) -> list[int]:
    """Return `PARTS` whole numbers, none below zero, that sum to `units`: cut at random places."""
    cuts = sorted(secrets.randbelow(units + 1) for _ in range(PARTS - 1))
    return [end - start for start, end in zip([0, *cuts], [*cuts, units], strict=True)]


def _shown(row: ReserveLeaf, tree: SumTree) -> dict[str, Any]:
    return {
        "document": json.loads(row.document),
        "salt": row.salt,
        "position": row.position,
        "path": [{"units": node.units, "hash": node.hash.hex()} for node in tree.path(row.position)],
    }


@lru_cache(maxsize=1)
def _tree(snapshot_id: int, root: str) -> SumTree:
    rows = ReserveLeaf.objects.filter(snapshot_id=snapshot_id).order_by("position")
    nodes = [
        leaf(units=units, salt=bytes.fromhex(salt), document=document.encode())
        for units, salt, document in rows.values_list("units", "salt", "document").iterator(chunk_size=BATCH)
    ]
    tree = SumTree(nodes)
    if tree.root.hash.hex() != root:
        raise ValueError(f"The leaves of snapshot {snapshot_id} do not give its root.")
    return tree


def _forget_old_leaves() -> None:
    kept = ReserveSnapshot.objects.order_by("-taken_at", "-id").values_list("pk", flat=True)[: settings.RESERVES_KEEP]
    old = ReserveLeaf.objects.exclude(snapshot_id__in=list(kept))
    old._raw_delete(old.db)  # one DELETE: nothing points at a leaf
