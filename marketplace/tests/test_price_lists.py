"""Table 3, drafting, publishing, and that a published list cannot change."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from interchain_site.core.errors import Invalid
from marketplace.errors import Frozen, StaffOnly
from marketplace.models import Price, PriceList
from marketplace.services import price_lists
from nodes.agent.protocol import Meter


@pytest.fixture
def table_3(db) -> PriceList:
    return price_lists.load_table_3()  # as a migration does; a test before this one may have emptied the database


def test_table_3_is_loaded_verbatim(table_3):
    assert table_3.name == "United States"
    assert table_3.is_published
    assert {price.meter: (price.usd, price.unit) for price in table_3.prices.all()} == {
        "transfer": (Decimal("0.01"), "GB"),
        "storage": (Decimal("1"), "GB held for a day"),
        "compute": (Decimal("0.1"), "million instructions"),
        "uptime": (Decimal("0.1"), "hour"),
        "active_user": (Decimal("0.1"), "active user in a month"),
    }


def test_loading_twice_changes_nothing(table_3):
    assert price_lists.load_table_3() == table_3
    assert PriceList.objects.count() == 1


def test_a_draft_starts_from_the_newest_version(cast, table_3):
    draft = price_lists.draft(region="us", by=cast.staff)
    assert (draft.version, draft.is_published, draft.prices.count()) == (2, False, 5)
    assert draft.prices_by_meter() == table_3.prices_by_meter()


def test_publishing_freezes(cast, table_3):
    draft = price_lists.draft(region="us", by=cast.staff)
    draft.prices.filter(meter=Meter.COMPUTE.value).update(usd=Decimal("0.000001"))
    at = timezone.now() + dt.timedelta(hours=1)
    published = price_lists.publish(price_list_id=draft.pk, effective_at=at, by=cast.staff)
    assert (published.effective_at, published.published_by) == (at, cast.staff)
    with pytest.raises(Frozen):
        price_lists.publish(price_list_id=draft.pk, effective_at=at, by=cast.staff)


def test_a_published_list_cannot_be_saved_or_deleted(table_3):
    for change in (table_3.save, table_3.delete, table_3.prices.first().save, table_3.prices.first().delete):
        with pytest.raises(Frozen):
            change()


@pytest.mark.parametrize(
    "change",
    [
        lambda: PriceList.objects.update(name="Cheaper"),
        lambda: Price.objects.update(usd=0),
        lambda: Price.objects.filter(meter="compute").delete(),
        lambda: Price.objects.bulk_create([Price(price_list=PriceList.objects.get(), meter="other", usd=Decimal(1))]),
    ],
)
def test_the_database_refuses_too(table_3, change):
    with pytest.raises(DatabaseError, match="frozen"), transaction.atomic():
        change()


def test_a_moment_in_the_past_or_before_the_last_version_is_refused(cast, table_3):
    draft = price_lists.draft(region="us", by=cast.staff)
    with pytest.raises(Invalid) as refused:
        price_lists.publish(price_list_id=draft.pk, effective_at=timezone.now() - dt.timedelta(hours=1), by=cast.staff)
    assert "effective_at" in refused.value.fields
    later = timezone.now() + dt.timedelta(days=2)
    price_lists.publish(price_list_id=draft.pk, effective_at=later, by=cast.staff)
    third = price_lists.draft(region="us", by=cast.staff)
    with pytest.raises(Invalid):
        price_lists.publish(price_list_id=third.pk, effective_at=later - dt.timedelta(days=1), by=cast.staff)


def test_a_list_with_a_meter_missing_is_not_published(cast, table_3):
    draft = price_lists.draft(region="us", by=cast.staff)
    draft.prices.filter(meter="compute").delete()
    with pytest.raises(Invalid, match="compute"):
        price_lists.publish(price_list_id=draft.pk, by=cast.staff)


def test_only_staff(cast, table_3):
    for person in (cast.publisher, cast.owner, cast.stranger):
        with pytest.raises(StaffOnly):
            price_lists.draft(region="us", by=person)
        with pytest.raises(StaffOnly):
            price_lists.publish(price_list_id=table_3.pk, by=person)
