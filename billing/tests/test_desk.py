"""The desk: one rate, set by staff, history frozen; sells only what it holds."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse

from billing import queries
from billing.errors import DeskOut, NoRate
from billing.models import DeskRate
from billing.services import desk
from interchain_site.core.errors import Invalid
from interchain_site.core.models import AuditEvent

NTC = 10**9


def test_the_newest_rate_that_has_started_is_in_force(cast, now):
    desk.set_rate(rate=Decimal(1), by=cast.staff, now=now)
    desk.set_rate(rate=Decimal(3), by=cast.staff, now=now, starts_at=now + timedelta(days=1))
    desk.set_rate(rate=Decimal(2), by=cast.staff, now=now)
    assert queries.rate_in_force(now) == 2
    assert queries.rate_in_force(now + timedelta(days=1)) == 3
    with pytest.raises(NoRate):
        queries.rate_in_force(now - timedelta(seconds=1))
    assert AuditEvent.objects.filter(action="desk_rate_set").count() == 3


@pytest.mark.parametrize("rate", ["0", "-1", "0.0000000001"])
def test_rates_that_cannot_be(cast, now, rate):
    with pytest.raises(Invalid) as error:
        desk.set_rate(rate=Decimal(rate), by=cast.staff, now=now)
    assert "rate" in error.value.fields


def test_history_does_not_change(cast, now):
    with pytest.raises(Invalid, match="past"):
        desk.set_rate(rate=Decimal(1), by=cast.staff, now=now, starts_at=now - timedelta(seconds=1))


def test_prices_both_ways(stocked_desk, now):
    assert (
        desk.price(now=now, cents=1000)
        == desk.price(now=now, units=4 * NTC)
        == desk.Price(4 * NTC, 1000, Decimal("2.5"))
    )


@pytest.mark.parametrize(
    "asked", [{}, {"cents": 1000, "units": NTC}, {"cents": 99}, {"cents": 1_000_001}, {"units": 1}]
)
def test_amounts_the_desk_does_not_sell(stocked_desk, now, asked):
    with pytest.raises(Invalid):
        desk.price(now=now, **asked)


def test_out_of_stock_says_how_much_is_left(stocked_desk, now):
    with pytest.raises(DeskOut, match=r"1,000\.00 NTC left"):
        desk.price(now=now, units=1001 * NTC)


def test_an_empty_desk_says_so(cast, now):
    desk.set_rate(rate=Decimal(1), by=cast.staff, now=now)
    with pytest.raises(DeskOut, match="no NTC left"):
        desk.price(now=now, cents=1000)


def test_without_a_rate_nothing_is_sold(cast, now):
    with pytest.raises(NoRate):
        desk.price(now=now, cents=1000)


def test_staff_set_the_rate_in_the_admin_and_change_no_old_one(client, cast, now):
    client.force_login(cast.staff)
    start = now + timedelta(hours=1)
    form = {"rate": "1.25", "starts_at_0": f"{start:%Y-%m-%d}", "starts_at_1": f"{start:%H:%M:%S}"}
    assert client.post(reverse("admin:billing_deskrate_add"), form).status_code == 302
    row = DeskRate.objects.get()
    assert (row.rate, row.set_by) == (Decimal("1.25"), cast.staff)
    assert AuditEvent.objects.filter(action="desk_rate_set", by=cast.staff).exists()
    page = client.post(reverse("admin:billing_deskrate_change", args=[row.pk]), {**form, "rate": "9"})
    assert page.status_code == 403
    past = client.post(reverse("admin:billing_deskrate_add"), {**form, "starts_at_0": "2020-01-01"})
    assert "cannot start in the past" in past.content.decode()
    assert DeskRate.objects.get().rate == Decimal("1.25")
