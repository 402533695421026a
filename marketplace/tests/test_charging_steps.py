"""The arithmetic of charging, whatever the order, size and repetition of readings, and whatever the rate does."""

from __future__ import annotations

import uuid
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from marketplace import pricing
from marketplace.models import ChargePeriod
from marketplace.services.charging import _move_on, next_step
from marketplace.tests.test_pricing import PRICES
from nodes.agent.protocol import Meter

# Together they stay within what one bill can hold; what does not is refused (`TooMuchToBill`).
readings = st.lists(
    st.dictionaries(st.sampled_from(list(Meter)), st.integers(0, 10**7), min_size=1), min_size=1, max_size=12
)
rates = st.decimals(min_value="0.01", max_value=1000, places=9)


def charge_all(totals_seen, rates_seen):
    """Charge each reading as it comes; returns the period and each step with its rate."""
    period = ChargePeriod(lease_id=uuid.uuid4())
    steps = []
    for totals, rate in zip(totals_seen, rates_seen, strict=True):
        step = next_step(period, totals, PRICES, rate)
        if step is not None:
            steps.append((step, rate))
            _move_on(step, {}, now=None)
    return period, steps


def highest(totals_seen):
    return {meter: max(totals.get(meter, 0) for totals in totals_seen) for meter in Meter}


@given(readings, st.data())
def test_any_split_repetition_and_order_charges_the_price_of_the_total(totals_seen, data):
    resent = data.draw(st.permutations(totals_seen + totals_seen[:3]))
    period, _ = charge_all(resent, [Decimal("0.5")] * len(resent))
    true_price = pricing.price_nano_usd(highest(totals_seen), PRICES)
    assert period.nano_usd == true_price
    assert period.owner_units == true_price * 2  # half a dollar buys one NTC
    assert period.carry_atto_usd == 0


@given(readings, st.lists(rates, min_size=12, max_size=12))
def test_never_more_than_true_and_less_than_one_unit_behind_at_moving_rates(totals_seen, rates_seen):
    rates_seen = rates_seen[: len(totals_seen)]
    period, steps = charge_all(totals_seen, rates_seen)
    paid = sum(Fraction(step.owner_units) * Fraction(rate) for step, rate in steps)  # nano-dollars, exact
    true_price = pricing.price_nano_usd(highest(totals_seen), PRICES)
    behind = true_price - paid
    assert behind == Fraction(period.carry_atto_usd, 10**9)
    last_rate = Fraction(steps[-1][1]) if steps else Fraction(max(rates_seen))
    assert 0 <= behind < last_rate or not steps  # less than one base unit is worth


@given(readings, st.lists(rates, min_size=12, max_size=12))
def test_commission_is_exactly_ten_per_cent_of_all_that_was_charged(totals_seen, rates_seen):
    period, steps = charge_all(totals_seen, rates_seen[: len(totals_seen)])
    assert period.commission_units == sum(step.commission_units for step, _ in steps)
    assert period.commission_units == period.owner_units * 10 // 100
    assert period.commission_units * 10_000 + period.commission_carry == period.owner_units * 1000


@given(readings)
def test_what_each_step_used_adds_up(totals_seen):
    _, steps = charge_all(totals_seen, [Decimal(1)] * len(totals_seen))
    for meter in Meter:
        assert sum(step.used[meter] for step, _ in steps) == highest(totals_seen)[meter]


def test_keys_never_repeat():
    _, steps = charge_all([{Meter.UPTIME: n * 1000} for n in range(1, 6)], [Decimal(1)] * 5)
    assert len({(step.period.lease_id, index) for index, (step, _) in enumerate(steps)}) == 5


def test_nothing_used_is_nothing_charged():
    period, steps = charge_all([{Meter.UPTIME: 5}, {Meter.UPTIME: 5}, {Meter.UPTIME: 3}, {}], [Decimal(1)] * 4)
    assert len(steps) == 1
    assert period.totals["uptime"] == 5
