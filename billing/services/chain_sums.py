"""Do the events we read add up to what the contracts themselves count? So a log that a node left out is noticed."""

from __future__ import annotations

from django.db.models import BigIntegerField, QuerySet, Sum
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from billing.chain.deployments import Deployment
from billing.chain.interfaces import interface
from billing.chain.states import EventState
from billing.chain.types import Chain
from billing.models import ChainEvent

ON_THE_CHAIN = (EventState.SEEN, EventState.FINAL)
ROUNDS = (1, 2, 3)


def difference(*, chain: Chain, deployment: Deployment, block: int) -> str:
    """Return in words what differs as of a block, or "" when everything adds up. Amounts are base units of NTC."""
    contract = deployment.contract
    deposited, paid = contract.totals(chain, block=block)
    sale = interface("TokenSale")
    rounds = [sale.read(chain, deployment.sale, "round", number, block=block) for number in ROUNDS]
    counted = {
        "deposits": (deposited, _sum(deployment.settlement, "Deposited", "amount", block)),
        "claims": (paid, _sum(deployment.settlement, "Claimed", "amount", block)),
        "epochs": (contract.next_epoch(chain, block=block) - 1, _count(deployment.settlement, "Settled", block)),
        "sales": (sum(sold for _, sold, *_ in rounds), _sum(deployment.sale, "Bought", "ntc", block)),
        "rounds opened": (sum(bool(one[4]) for one in rounds), _count(deployment.sale, "RoundOpened", block)),
        "rounds closed": (sum(bool(one[5]) for one in rounds), _count(deployment.sale, "RoundClosed", block)),
    }
    wrong = [f"{what}: {there} there, {here} read" for what, (there, here) in counted.items() if there != here]
    return "; ".join(wrong)


def _sum(address: str, event: str, value: str, block: int) -> int:
    amount = Cast(KeyTextTransform(value, "values"), BigIntegerField())
    found = _events(address, event, block).aggregate(sum=Sum(amount))["sum"]
    return int(found or 0)


def _count(address: str, event: str, block: int) -> int:
    return _events(address, event, block).count()


def _events(address: str, event: str, block: int) -> QuerySet[ChainEvent]:
    return ChainEvent.objects.filter(address=address, name=event, state__in=ON_THE_CHAIN, block_number__lte=block)
