"""Charging on the real ledger, with real signed readings."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.errors import NoRate
from billing.models import DeskRate, UsageStatement
from billing.queries import balances, platform_balance
from marketplace import pricing
from marketplace.conftest import NTC, lease_of
from marketplace.models import Charge, ChargeCursor, ChargePeriod, PriceList
from marketplace.services import charging, price_lists, sweeping
from nodes.agent.protocol import Meter, Observed

HOUR = 3_600_000
START = 10_000 * NTC


@pytest.fixture
def aged(running):
    """The running deployment, leased a day ago, so that a day of use is plausible."""
    lease = lease_of(running)
    day = timezone.now() - dt.timedelta(days=1)
    type(lease).objects.filter(pk=lease.pk).update(opened_at=day, running_at=day)
    return running


def test_owner_commission_and_publisher(aged, device, cast):
    device.measures(lease_of(aged), uptime=HOUR, transfer=10**9)
    passed = charging.charge_new_readings()
    assert (passed.leases, passed.publishers) == (1, {cast.publisher.pk})
    owner = 220_000_000  # 0.11 dollars at half a dollar the NTC
    assert balances(cast.owner.pk).earnings_held == owner
    assert platform_balance("commission") == owner // 10
    assert balances(cast.publisher.pk).available == START - owner - owner // 10
    period = ChargePeriod.objects.get()
    assert (period.nano_usd, period.owner_units, period.commission_units) == (110_000_000, owner, owner // 10)


def test_charging_again_and_resent_readings_change_nothing(aged, device, cast):
    lease = lease_of(aged)
    batch = device.batch(device.reading(lease, Meter.UPTIME, HOUR))
    from nodes.services import metering

    for _ in range(3):
        metering.ingest(device=device.device, jws=batch)
        charging.charge_new_readings()
        charging.charge_leases(lease_ids=[lease.pk])
    assert Charge.objects.count() == 1
    assert balances(cast.owner.pk).earnings_held == 200_000_000


def test_a_worker_killed_before_the_end_has_done_nothing(aged, device, cast, monkeypatch):
    device.measures(lease_of(aged), uptime=HOUR)

    def die(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(charging, "record_statements", die)
    with pytest.raises(KeyboardInterrupt):
        charging.charge_new_readings()
    assert balances(cast.owner.pk).earnings_held == 0
    assert not ChargeCursor.objects.filter(sequence__gt=0).exists()
    monkeypatch.undo()
    assert charging.charge_new_readings().leases == 1
    assert balances(cast.owner.pk).earnings_held == 200_000_000


def test_late_readings_after_the_stop_are_charged(aged, device, cast, commit):
    from marketplace.services import deployments

    lease = lease_of(aged)
    device.measures(lease, uptime=HOUR)
    charging.charge_new_readings()
    with commit():
        deployments.stop(app=aged.app, by=cast.publisher)
    with commit():
        device.says(lease, Observed.STOPPED)
    device.measures(lease, uptime=HOUR + HOUR // 2)
    assert charging.charge_new_readings().leases == 1
    assert balances(cast.owner.pk).earnings_held == 300_000_000


def test_the_rate_of_the_moment_counts(aged, device, cast):
    lease = lease_of(aged)
    device.measures(lease, uptime=HOUR)
    charging.charge_new_readings()
    DeskRate.objects.create(rate=Decimal("0.25"), starts_at=timezone.now())
    device.measures(lease, uptime=2 * HOUR)
    charging.charge_new_readings()
    assert balances(cast.owner.pk).earnings_held == 200_000_000 + 400_000_000
    assert [charge.rate for charge in Charge.objects.order_by("pk")] == [Decimal("0.5"), Decimal("0.25")]


def test_without_a_rate_it_waits_and_loses_nothing(aged, device, cast):
    device.measures(lease_of(aged), uptime=HOUR)
    future = timezone.now() - dt.timedelta(days=400)
    with pytest.raises(NoRate):
        charging.charge_new_readings(now=future)
    assert charging.charge_new_readings().leases == 1


def test_the_statement_says_how_the_amount_came_about(aged, device, cast):
    device.measures(lease_of(aged), uptime=HOUR, compute=1_000_000)
    charging.charge_new_readings()
    statement = UsageStatement.objects.get()
    document = json.loads(statement.document)
    assert document["used"] == {"transfer": 0, "storage": 0, "compute": 10**6, "uptime": HOUR, "active_user": 0}
    assert document["nano_usd"] == 200_000_000
    assert (document["owner_units"], document["commission_units"]) == (400_000_000, 40_000_000)
    assert document["price_list"]["nano_usd_per_unit"]["compute"] == 100_000_000
    assert document["usd_per_ntc"] == "0.500000000"
    assert len(document["evidence"]) == 1
    assert document["key"] == statement.key == Charge.objects.get().key
    used = {Meter(name): amount for name, amount in document["used"].items()}
    prices = {Meter(name): nano for name, nano in document["price_list"]["nano_usd_per_unit"].items()}
    assert pricing.price_nano_usd(used, prices) == document["nano_usd"]


def publish_cheaper(cast, *, notice_days: int) -> PriceList:
    draft = price_lists.draft(region="us", by=cast.staff)
    draft.prices.filter(meter="uptime").update(usd=Decimal("0.05"))
    PriceList.objects.filter(pk=draft.pk).update(notice_days=notice_days)
    return price_lists.publish(price_list_id=draft.pk, by=cast.staff)


def test_new_prices_wait_for_the_notice_period(aged, device, cast):
    publish_cheaper(cast, notice_days=30)
    lease = lease_of(aged)
    device.measures(lease, uptime=HOUR)
    charging.charge_new_readings()
    device.measures(lease, uptime=2 * HOUR)
    charging.charge_new_readings()
    assert balances(cast.owner.pk).earnings_held == 400_000_000
    assert ChargePeriod.objects.count() == 1


def test_new_prices_begin_with_the_first_reading_after_it(aged, device, cast):
    cheaper = publish_cheaper(cast, notice_days=0)
    lease = lease_of(aged)
    device.measures(lease, uptime=HOUR)  # used under the old prices
    charging.charge_new_readings()
    assert balances(cast.owner.pk).earnings_held == 200_000_000
    aged.refresh_from_db()
    assert aged.price_list == cheaper
    assert aged.events.filter(kind="new_prices").count() == 1
    device.measures(lease, uptime=2 * HOUR)
    charging.charge_new_readings()
    assert balances(cast.owner.pk).earnings_held == 300_000_000
    first, second = ChargePeriod.objects.order_by("number")
    assert (first.nano_usd, second.nano_usd) == (100_000_000, 50_000_000)
    assert first.closed_at is not None
    assert second.baseline == first.totals


def test_a_shortfall_is_paid_to_the_owner_all_the_same(aged, device, cast):
    lease = lease_of(aged)
    device.measures(lease, compute=10**12)  # 100,000 dollars
    charging.charge_new_readings()
    assert balances(cast.owner.pk).earnings_held == 200_000 * NTC
    assert balances(cast.publisher.pk).available == 0
    assert Charge.objects.get().shortfall_units == 220_000 * NTC - START


def test_a_lease_nobody_wrote_down_is_charged_too(aged, device):
    ChargePeriod.objects.all().delete()
    device.measures(lease_of(aged), uptime=HOUR)
    assert charging.charge_new_readings().leases == 1
    assert ChargePeriod.objects.get().deployment_id == aged.pk


def test_what_a_cursor_missed_is_found(aged, device, cast):
    device.measures(lease_of(aged), uptime=HOUR)
    charging._lock_cursor()
    ChargeCursor.objects.update(sequence=10**9)
    assert charging.charge_new_readings().leases == 0
    assert sweeping.recharge_all() == 1
    assert sweeping.recharge_all() == 0
    assert balances(cast.owner.pk).earnings_held == 200_000_000
