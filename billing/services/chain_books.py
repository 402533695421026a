"""What the contracts hold beside what the ledger has booked of them, at one block: for reserves and reconciliation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import BigIntegerField, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from billing.chain import deployments
from billing.chain.states import EventState
from billing.chain.types import Block, Chain
from billing.models import ChainEvent

SETTLEMENT = "Settlement"
BOOKED = (EventState.FINAL, EventState.DOUBTED)  # what is doubted stays booked until it is undone


@dataclass(frozen=True)
class ChainBooks:
    """Base units. `arriving` and `leaving` are on the chain and not yet deep enough to be booked in the ledger.

    Attributes:
        held: NTC the Settlement contract has, by the token.
        deposited, paid: ever, by the Settlement contract.
        arriving, leaving: how far the contract is ahead of what the ledger booked.
        seen_in, seen_out: as much of that as the watcher has seen and will book once it is deep enough.
    """

    chain_id: int
    contract: str
    block: Block
    held: int
    deposited: int
    paid: int
    arriving: int
    leaving: int
    seen_in: int
    seen_out: int

    @property
    def block_time(self) -> datetime:
        return datetime.fromtimestamp(self.block.timestamp, UTC)


def read(chain: Chain) -> ChainBooks:
    """Read the contracts at the newest block, and what the ledger has booked of their events.

    Raises:
        NotDeployed, ChainUnavailable.
    """
    deployment = deployments.load()
    head = chain.head()
    deposited, paid = deployment.contract.totals(chain, block=head.number)
    held = deployment.token.balance(chain, deployment.settlement, block=head.number)
    events = ChainEvent.objects.filter(contract=SETTLEMENT, address=deployment.settlement)
    booked, seen = events.filter(state__in=BOOKED), events.filter(state=EventState.SEEN)
    return ChainBooks(
        chain_id=deployment.chain_id,
        contract=deployment.settlement,
        block=head,
        held=held,
        deposited=deposited,
        paid=paid,
        arriving=deposited - _amounts(booked, "Deposited"),
        leaving=paid - _amounts(booked, "Claimed"),
        seen_in=_amounts(seen.filter(block_number__lte=head.number), "Deposited"),
        seen_out=_amounts(seen.filter(block_number__lte=head.number), "Claimed"),
    )


def _amounts(events: QuerySet[ChainEvent], name: str) -> int:
    amount = Cast(KeyTextTransform("amount", "values"), BigIntegerField())
    return int(events.filter(name=name).aggregate(sum=Sum(amount))["sum"] or 0)
