"""What the public reserves page reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from billing.models import ReconcileRun, ReserveLeaf, ReserveSnapshot, UsageStatement
from billing.states import ReconcileOutcome

HISTORY = 30


@dataclass(frozen=True)
class Snapshot:
    """A snapshot and the number of the epoch that carries its root; None while it waits for the next."""

    row: ReserveSnapshot
    epoch: int | None

    @property
    def spare_units(self) -> int:
        """How much more the contract holds than it must, by what is booked; below zero: what is missing."""
        held = (self.row.contract_units or 0) - self.row.arriving_units + self.row.leaving_units
        return held - self.row.owed_units


@dataclass(frozen=True)
class ReservesPage:
    """Newest first; five queries at most."""

    newest: Snapshot | None = None
    history: list[Snapshot] = field(default_factory=list)
    compared: ReconcileRun | None = None
    mine: ReserveSnapshot | None = None


def reserves_page(*, user_id: int | None) -> ReservesPage:
    """Return the newest snapshots, the last comparison of all books, and the newest snapshot that holds this person."""
    rows = list(ReserveSnapshot.objects.all()[:HISTORY])
    epochs = dict(
        UsageStatement.objects.filter(key__in=[row.statement_key for row in rows]).values_list("key", "epoch__sequence")
    )
    shown = [Snapshot(row, epochs.get(row.statement_key)) for row in rows]
    compared = ReconcileRun.objects.exclude(outcome=ReconcileOutcome.INCOMPLETE).first()
    held = ReserveLeaf.objects.order_by("-snapshot_id").select_related("snapshot")
    leaf = held.filter(user_id=user_id).first() if user_id else None
    return ReservesPage(shown[0] if shown else None, shown, compared, leaf.snapshot if leaf else None)
