"""Prices are exact, rounded once and downwards; Table 3's units mean what the table says."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace import pricing
from marketplace.price_table import TABLE_3
from nodes.agent.protocol import Meter

PRICES = {meter: pricing.nano_per_unit(usd) for meter, usd in TABLE_3.items()}
amounts = st.dictionaries(st.sampled_from(list(Meter)), st.integers(0, 10**18))
price_tables = st.dictionaries(st.sampled_from(list(Meter)), st.integers(0, 10**12))


@pytest.mark.parametrize(
    ("meter", "quantity", "dollars"),
    [
        (Meter.TRANSFER, 10**9, "0.01"),  # 1 GB
        (Meter.STORAGE, 10**9 * 86_400, "1"),  # 1 GB for a day
        (Meter.COMPUTE, 10**6, "0.1"),  # a million instructions
        (Meter.COMPUTE, 10**9, "100"),  # a second of a core at 1,000 million a second
        (Meter.UPTIME, 3_600_000, "0.1"),  # an hour
        (Meter.ACTIVE_USER, 1, "0.1"),
        (Meter.UPTIME, 60_000, "0.001666666"),  # a minute, cut to whole nano-dollars
    ],
)
def test_table_3(meter, quantity, dollars):
    assert pricing.price_nano_usd({meter: quantity}, PRICES) == int(Decimal(dollars) * 10**9)


@given(amounts, price_tables)
def test_the_total_is_the_exact_sum_rounded_down_once(quantities, prices):
    exact = sum(
        Fraction(quantity * prices.get(meter, 0), pricing.UNITS[meter].size) for meter, quantity in quantities.items()
    )
    assert pricing.price_nano_usd(quantities, prices) == exact // 1


@given(amounts, price_tables)
def test_the_meters_alone_add_up_to_the_total_but_four(quantities, prices):
    parts = pricing.price_per_meter(quantities, prices)
    assert 0 <= pricing.price_nano_usd(quantities, prices) - sum(parts.values()) <= 4


@pytest.mark.parametrize("wrong", ["-1", "0.0000000001"])
def test_what_is_not_a_price_is_refused(wrong):
    with pytest.raises(ValueError, match="not a price"):
        pricing.nano_per_unit(Decimal(wrong))


@given(amounts, amounts)
def test_a_difference_is_never_below_zero(total, baseline):
    assert min(pricing.difference(total, baseline).values()) >= 0


def test_quantities_survive_json():
    assert pricing.from_json(pricing.to_json({Meter.COMPUTE: 10**25})) == {Meter.COMPUTE: 10**25}
