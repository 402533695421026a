"""Draft and publish price lists."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.errors import Invalid
from interchain_site.core.models import User
from marketplace import policies, price_table
from marketplace.errors import Frozen
from marketplace.models import Price, PriceList
from marketplace.states import PriceListState
from nodes.agent.protocol import Meter


@transaction.atomic
def draft(*, region: str, by: User) -> PriceList:
    """Return a new draft for a region, with the prices of its newest version.

    Raises:
        StaffOnly, Invalid: there is no such region yet.
    """
    policies.check_can_edit_prices(by)
    newest = PriceList.objects.filter(region=region).order_by("-version").first()
    if newest is None:
        raise Invalid(f"There is no price list for {region!r} to draft from. Add one in the admin.")
    copy = PriceList.objects.create(
        region=region, name=newest.name, version=newest.version + 1, notice_days=newest.notice_days
    )
    Price.objects.bulk_create(
        Price(price_list=copy, meter=price.meter, usd=price.usd) for price in newest.prices.order_by("id")
    )
    audit.record("price_list_drafted", subject=f"price_list:{copy.pk}", by=by, region=region, version=copy.version)
    return copy


@transaction.atomic
def publish(
    *, price_list_id: int, effective_at: dt.datetime | None = None, by: User | None, now: dt.datetime | None = None
) -> PriceList:
    """Freeze a draft and put it in force from `effective_at` (else from now) on. `by` is None only for the launch list.

    Raises:
        StaffOnly; Frozen: it was published before; Invalid: a price is missing, or the moment is past or not after the
        last published version's.
    """
    if by is not None:
        policies.check_can_edit_prices(by)
    now = now or timezone.now()
    effective_at = effective_at or now
    price_list = PriceList.objects.select_for_update().get(pk=price_list_id)
    if price_list.is_published:
        raise Frozen
    _check_complete(price_list)
    if by is not None and effective_at < now:
        raise Invalid(fields={"effective_at": "Choose a moment that is still to come."})
    latest = PriceList.objects.filter(region=price_list.region, state=PriceListState.PUBLISHED).aggregate(
        at=Max("effective_at")
    )["at"]
    if latest is not None and effective_at <= latest:
        raise Invalid(
            fields={"effective_at": f"Choose a moment after {latest:%Y-%m-%d %H:%M} UTC, when the last version began."}
        )
    price_list.state = PriceListState.PUBLISHED
    price_list.effective_at, price_list.published_at, price_list.published_by = effective_at, now, by
    price_list.save()
    audit.record(
        "price_list_published", subject=f"price_list:{price_list.pk}", by=by, effective_at=effective_at.isoformat()
    )
    return price_list


def load_table_3() -> PriceList:
    """Publish Table 3 as the United States list unless it is there; return it."""
    return _load(price_table.REGION, price_table.NAME, price_table.TABLE_3)


@transaction.atomic
def _load(region: str, name: str, prices: Mapping[Meter, Decimal]) -> PriceList:
    existing = PriceList.objects.filter(region=region, version=1).first()
    if existing is not None:
        return existing
    created = PriceList.objects.create(region=region, name=name, version=1, notice_days=price_table.NOTICE_DAYS)
    Price.objects.bulk_create(Price(price_list=created, meter=meter.value, usd=usd) for meter, usd in prices.items())
    return publish(price_list_id=created.pk, effective_at=price_table.EFFECTIVE_AT, by=None)


def _check_complete(price_list: PriceList) -> None:
    missing = {meter.value for meter in Meter} - set(price_list.prices.values_list("meter", flat=True))
    if missing:
        raise Invalid(f"Give each meter a price first. Missing: {', '.join(sorted(missing))}.")
