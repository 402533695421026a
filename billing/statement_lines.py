"""What stands behind the lines of a person's statement: the usage statement and its signed batches, the epoch, the chain's hash."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from billing.models import Entry, Epoch, UsageDocument, UsageStatement, Withdrawal
from billing.services.charges import KIND as CHARGE

CHUNK = 500


@dataclass(frozen=True)
class Line:
    """An entry with its evidence; what it has none of is empty.

    Attributes:
        sha256: hash of the usage statement, the leaf of its epoch's usage tree.
        batches: hashes of the signed reading batches the statement rests on.
        epoch: number of the epoch that commits to it, on the chain or about to be.
        transaction_hash: on Ethereum: the epoch's, or the deposit's or payment's own.
        withdrawal_id: the withdrawal it belongs to.
    """

    entry: Entry
    sha256: str = ""
    batches: tuple[str, ...] = ()
    epoch: int | None = None
    transaction_hash: str = ""
    withdrawal_id: str = ""


def with_evidence(entries: Sequence[Entry]) -> Iterator[Line]:
    """Yield each entry with its evidence, in order; at most five queries for 500 entries."""
    for start in range(0, len(entries), CHUNK):
        yield from _chunk(entries[start : start + CHUNK])


def _chunk(entries: Sequence[Entry]) -> Iterator[Line]:
    keys = [entry.transaction.key for entry in entries if entry.transaction.kind == CHARGE]
    statements = {row.key: row for row in UsageStatement.objects.filter(key__in=keys)} if keys else {}
    documents = UsageDocument.objects.in_bulk([row.sha256 for row in statements.values()]) if statements else {}
    withdrawals = _withdrawals(entries)
    wanted = {row.epoch_id for row in statements.values()} | {row.epoch_id for row in withdrawals.values()}
    numbers = {number for number in (_number(entry) for entry in entries) if number is not None}
    epochs = _epochs({pk for pk in wanted if pk is not None}, numbers)
    by_pk, by_number = {epoch.pk: epoch for epoch in epochs}, {epoch.sequence: epoch for epoch in epochs}
    for entry in entries:
        of = entry.transaction
        kind, _, name = of.reference.partition(":")
        statement = statements.get(of.key) if of.kind == CHARGE else None
        if statement is not None:
            batches = tuple(json.loads(documents[statement.sha256].text).get("evidence", []))
            yield _line(entry, by_pk.get(statement.epoch_id or 0), sha256=statement.sha256, batches=batches)
        elif kind == "transaction":
            yield Line(entry, transaction_hash=name)
        elif kind == "withdrawal":
            row = withdrawals.get(name)
            epoch = by_number.get(_number(entry) or 0) or by_pk.get((row.epoch_id if row else None) or 0)
            yield _line(entry, epoch, withdrawal_id=name if row else "")
        else:
            yield _line(entry, by_number.get(_number(entry) or 0))


def _line(
    entry: Entry, epoch: Epoch | None, *, sha256: str = "", batches: tuple[str, ...] = (), withdrawal_id: str = ""
) -> Line:
    return Line(
        entry=entry,
        sha256=sha256,
        batches=batches,
        epoch=epoch.sequence if epoch else None,
        transaction_hash=epoch.posting.hash if epoch and epoch.posting else "",
        withdrawal_id=withdrawal_id,
    )


def _epochs(pks: set[int], numbers: set[int]) -> list[Epoch]:
    if not pks and not numbers:
        return []
    found = Epoch.objects.filter(pk__in=pks) | Epoch.objects.filter(sequence__in=numbers)
    return list(found.select_related("posting").prefetch_related("posting__attempts"))


def _withdrawals(entries: Sequence[Entry]) -> dict[str, Withdrawal]:
    names = [entry.transaction.reference.partition(":") for entry in entries]
    pks = {name for kind, _, name in names if kind == "withdrawal"}
    return {str(row.pk): row for row in Withdrawal.objects.filter(pk__in=pks)} if pks else {}


def _number(entry: Entry) -> int | None:
    """Return the epoch a posting's key names: `epoch:<number>:…`."""
    parts = entry.transaction.key.split(":")
    return int(parts[1]) if parts[0] == "epoch" and len(parts) > 1 and parts[1].isdecimal() else None
