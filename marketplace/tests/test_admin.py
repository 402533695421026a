"""Staff draft, compare and publish prices; strangers do not get in."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from marketplace.conftest import lease_of
from marketplace.models import PriceList
from marketplace.services import charging, price_lists


@pytest.fixture
def office(client, cast):
    client.force_login(cast.staff)
    return client


def test_draft_compare_publish(office, cast, running, device):
    lease = lease_of(running)
    day = timezone.now() - dt.timedelta(days=1)
    type(lease).objects.filter(pk=lease.pk).update(opened_at=day, running_at=day)
    device.measures(lease, uptime=10 * 3_600_000)
    charging.charge_new_readings()
    table_3 = PriceList.objects.get()
    answer = office.post(
        reverse("admin:marketplace_pricelist_changelist"), {"action": "draft_next", "_selected_action": [table_3.pk]}
    )
    draft = PriceList.objects.get(version=2)
    assert answer.url == reverse("admin:marketplace_pricelist_change", args=[draft.pk])
    assert office.get(answer.url).status_code == 200
    draft.prices.filter(meter="uptime").update(usd=Decimal("0.25"))
    compare = reverse("admin:price_list_compare", args=[draft.pk])
    page = office.get(compare).text
    for words in ("$0.10", "$0.25", "$0.15", "+150.0 %", "$1.00", "$2.50", "difference $1.50", "Publish and freeze"):
        assert words in page
    past = {"effective_at_0": "2020-01-01", "effective_at_1": "00:00:00"}
    assert "still to come" in office.post(compare, past).text
    tomorrow = timezone.now() + dt.timedelta(days=1)
    office.post(compare, {"effective_at_0": f"{tomorrow:%Y-%m-%d}", "effective_at_1": f"{tomorrow:%H:%M:%S}"})
    draft.refresh_from_db()
    assert draft.is_published
    assert draft.published_by == cast.staff
    assert "It is frozen" in office.get(compare).text


def test_a_published_list_shows_no_form(office, price_list):
    page = office.get(reverse("admin:marketplace_pricelist_change", args=[price_list.pk])).text
    assert "_save" not in page
    assert office.post(reverse("admin:marketplace_pricelist_change", args=[price_list.pk]), {}).status_code == 403
    assert office.get(reverse("admin:marketplace_pricelist_delete", args=[price_list.pk])).status_code == 403


def test_a_price_can_be_typed_into_a_draft(office, cast, price_list):
    draft = price_lists.draft(region="us", by=cast.staff)
    url = reverse("admin:marketplace_pricelist_change", args=[draft.pk])
    form = {"region": "us", "name": draft.name, "version": "2", "notice_days": "7", "note": "Cheaper."}
    form |= {"prices-TOTAL_FORMS": "5", "prices-INITIAL_FORMS": "5"}
    for index, price in enumerate(draft.prices.order_by("id")):
        form |= {f"prices-{index}-id": price.pk, f"prices-{index}-price_list": draft.pk}
        form |= {f"prices-{index}-meter": price.meter, f"prices-{index}-usd": "0.5"}
    assert office.post(url, form).status_code == 302
    draft.refresh_from_db()
    assert (draft.notice_days, {price.usd for price in draft.prices.all()}) == (7, {Decimal("0.5")})


@pytest.mark.parametrize("model", ["app", "deployment", "chargeperiod", "charge", "notice", "pricelist"])
def test_lists_open_and_evidence_cannot_be_changed(office, running, device, model):
    device.measures(lease_of(running), uptime=1)
    charging.charge_new_readings()
    assert office.get(reverse(f"admin:marketplace_{model}_changelist")).status_code == 200
    if model != "pricelist":
        assert office.get(reverse(f"admin:marketplace_{model}_add")).status_code == 403


def test_one_of_each_opens(office, running):
    for model, pk in (("app", running.app_id), ("deployment", running.pk)):
        assert office.get(reverse(f"admin:marketplace_{model}_change", args=[pk])).status_code == 200


def test_only_staff(client, cast, price_list):
    compare = reverse("admin:price_list_compare", args=[price_list.pk])
    for person in (cast.publisher, cast.owner, cast.stranger):
        client.force_login(person)
        assert client.get(compare).status_code == 302
        assert client.post(compare, {}).status_code == 302
