"""What a publisher is told before paying."""

from __future__ import annotations

from decimal import Decimal

from marketplace.estimates import ExpectedUse, estimate
from marketplace.tests.test_pricing import PRICES
from nodes.agent.protocol import Meter

GIPS = 10**9


def test_an_idle_app_costs_its_uptime_and_ten_per_cent():
    use = ExpectedUse(cpu_seconds_per_hour=Decimal(0), transfer_gb_per_hour=Decimal(0))
    result = estimate(use, PRICES, GIPS)
    assert result.owner == {"hour": 10**8, "day": 24 * 10**8, "month": 72 * 10**9}
    assert result.commission == {"hour": 10**7, "day": 24 * 10**7, "month": 72 * 10**8}
    assert result.total["hour"] == 110_000_000  # 0.11 dollars


def test_each_meter_is_priced():
    use = ExpectedUse(Decimal(1), Decimal(2), Decimal(3), 7200)
    hour = {meter: prices["hour"] for meter, prices in estimate(use, PRICES, GIPS).meters.items()}
    assert hour == {
        Meter.TRANSFER: 20_000_000,
        Meter.STORAGE: 125_000_000,
        Meter.COMPUTE: 100 * 10**9,
        Meter.UPTIME: 100_000_000,
        Meter.ACTIVE_USER: 10**9,
    }


def test_the_price_of_a_second_of_processor_is_said():
    assert estimate(ExpectedUse(), PRICES, 2 * GIPS).cpu_second_nano_usd == 220 * 10**9


def test_an_hour_is_never_less_than_its_share_of_the_month():
    result = estimate(ExpectedUse(monthly_active_users=1, cpu_seconds_per_hour=Decimal("0.000123")), PRICES, GIPS)
    for row in (*result.meters.values(), result.owner, result.total):
        assert row["hour"] * 720 >= row["month"]
        assert row["day"] * 30 >= row["month"]


def test_expected_use_survives_json():
    use = ExpectedUse(Decimal("0.1"), Decimal("2.5"), Decimal(3), 4)
    assert ExpectedUse.from_json(use.as_json()) == use
    assert ExpectedUse.from_json({"gone": 1}) == ExpectedUse()
