"""When a running deployment changes to a newer price list: when that list has been in force for its notice period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from marketplace.models import ChargePeriod, Deployment, DeploymentEvent, PriceList
from marketplace.services import periods
from marketplace.states import PriceListState


def begin_where_due(charged: Sequence[ChargePeriod], *, now: datetime) -> None:
    """Close the periods whose deployment's newer list has served its notice, and open the next ones where they ended.

    The caller holds the periods locked and has just charged them up to their latest reading.
    """
    published = list(PriceList.objects.filter(state=PriceListState.PUBLISHED, effective_at__lte=now))
    due = [(period, new) for period in charged if (new := newest_due(period.price_list, published, now))]
    if not due:
        return
    for period, _ in due:
        period.closed_at = now
    periods.save_all([period for period, _ in due])
    ChargePeriod.objects.bulk_create(_next(period, price_list, now) for period, price_list in due)
    for price_list in {new for _, new in due}:
        _tell({period.deployment_id for period, new in due if new == price_list}, price_list, now)


def newest_due(current: PriceList, published: Sequence[PriceList], now: datetime) -> PriceList | None:
    """Return the list that replaces `current` for running apps by `now`, or None while it stays."""
    began = {price_list: price_list.effective_at for price_list in published if price_list.effective_at is not None}
    candidates = [
        price_list
        for price_list, at in began.items()
        if price_list.region == current.region
        and price_list.version > current.version
        and at + timedelta(days=price_list.notice_days) <= now
    ]
    return max(candidates, key=lambda price_list: price_list.version, default=None)


def _next(period: ChargePeriod, price_list: PriceList, now: datetime) -> ChargePeriod:
    return ChargePeriod(
        lease_id=period.lease_id,
        number=period.number + 1,
        deployment_id=period.deployment_id,
        price_list=price_list,
        publisher_id=period.publisher_id,
        owner_id=period.owner_id,
        device_id=period.device_id,
        baseline=period.totals,
        totals=period.totals,
        evidence=period.evidence,
        carry_atto_usd=period.carry_atto_usd,
        commission_carry=period.commission_carry,
        opened_at=now,
        charged_at=now,
    )


def _tell(deployment_ids: set[UUID], price_list: PriceList, now: datetime) -> None:
    changed = Deployment.objects.filter(pk__in=deployment_ids).exclude(price_list=price_list)
    message = f"The notice period is over: prices are those of {price_list} from now on."
    events = [
        DeploymentEvent(deployment_id=pk, at=now, kind="new_prices", message=message)
        for pk in changed.values_list("pk", flat=True)
    ]
    changed.update(price_list=price_list)
    DeploymentEvent.objects.bulk_create(events)
