"""Units, the one rounding, carries and formatting."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.template import Context, Template
from hypothesis import given
from hypothesis import strategies as st

from billing import money

RATES = st.decimals(min_value=Decimal("0.000000001"), max_value=Decimal(100_000), places=9)


@pytest.mark.parametrize(
    ("value", "units"), [("0.5", 0), ("1.5", 2), ("2.5", 2), ("-0.5", 0), ("-1.5", -2), ("2.500000000000000001", 3)]
)
def test_half_goes_to_the_even_one(value, units):
    assert money.round_units(Decimal(value)) == units


@given(charges=st.lists(st.integers(0, 10**15), max_size=30), rate=RATES)
def test_charging_in_pieces_equals_charging_at_once(charges, rate):
    total, carry = 0, 0
    for nano_usd in charges:
        units, carry = money.ntc_units_for_nano_usd(nano_usd, rate, carry)
        total += units
    assert (total, carry) == money.ntc_units_for_nano_usd(sum(charges), rate)


@given(charges=st.lists(st.tuples(st.integers(0, 10**12), RATES), max_size=20))
def test_a_carry_is_money_and_survives_a_change_of_rate(charges):
    """Units × their rate + the carry is exactly what was charged, in 10⁻¹⁸ USD."""
    spent, carry = 0, 0
    for nano_usd, rate in charges:
        units, carry = money.ntc_units_for_nano_usd(nano_usd, rate, carry)
        spent += units * money.rate_nano(rate)
    assert spent + carry == sum(nano_usd for nano_usd, _ in charges) * money.NANO


@given(parts=st.lists(st.integers(0, 10**12), max_size=30))
def test_commission_in_pieces_is_a_tenth_of_the_whole(parts):
    total, carry = 0, 0
    for units in parts:
        share, carry = money.commission_units(units, carry)
        total += share
    assert total == sum(parts) // 10


@given(units=st.integers(1, 10**16), cuts=st.lists(st.integers(0, 10_000), min_size=1, max_size=6))
def test_all_of_the_price_is_all_of_the_ntc(units, cuts):
    whole = max(cuts) or 1
    assert money.share(units, whole, whole) == units
    shares = [money.share(units, cut, whole) for cut in sorted(cuts)]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= units


@given(cents=st.integers(100, 10**9), rate=RATES.filter(lambda rate: rate >= Decimal("0.01")))
def test_a_quote_there_and_back_is_within_a_cent(cents, rate):
    units = money.ntc_units_for_cents(cents, rate)
    assert abs(money.cents_for_ntc_units(units, rate) - cents) <= 1


@pytest.mark.parametrize("rate", ["0", "-1", "0.0000000001", "1.00000000001"])
def test_rates_that_cannot_be(rate):
    with pytest.raises(ValueError, match="9 decimals"):
        money.rate_nano(Decimal(rate))


def test_only_zero_or_more_is_charged():
    with pytest.raises(ValueError, match="reversing"):
        money.ntc_units_for_nano_usd(-1, Decimal(1))


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (money.format_ntc(1_234_500_000_000), "1,234.50 NTC"),
        (money.format_ntc(-1), "-0.000000001 NTC"),
        (money.format_ntc(0), "0.00 NTC"),
        (money.format_usd_cents(123_450), "$1,234.50"),
        (money.format_usd_cents(-5), "-$0.05"),
        (money.format_nano_usd(1_250_000), "$0.00125"),
        (money.format_nano_usd(-2_000_000_000), "-$2.00"),
        (money.format_amount(5, "USD"), "$0.05"),
        (money.plain_ntc(-1_500_000_000), "-1.500000000"),
        (money.plain_usd_cents(-123), "-1.23"),
    ],
)
def test_formats(shown, text):
    assert shown == text


def test_filters():
    template = Template("{{ n|ntc }} {{ n|usd }} {{ n|nano_usd }} {{ n|amount:'USD' }} {{ r|rate }}")
    text = template.render(Context({"n": 250, "r": Decimal("2.500000000")}))
    assert text == "0.00000025 NTC $2.50 $0.00000025 $2.50 $2.50"
