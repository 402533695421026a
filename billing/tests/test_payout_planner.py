"""Push or pull: by the cost of gas against what it pays, said in words."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from billing.chain import gas
from billing.models import GasQuote
from billing.services import payout_planner
from billing.services.payout_planner import Payee, decide
from billing.tests.settling import NTC

NOW = timezone.now()
RATE = Decimal("0.50")


def quote(gwei: int, usd: int = 3_000) -> GasQuote:
    return GasQuote(wei_per_gas=gwei * 10**9, nano_usd_per_ether=usd * 10**9, taken_at=NOW)


def test_little_gas_against_much_is_pushed():
    plan = decide(quote(1), Payee(1_000 * NTC, leaves=100), rate=RATE, now=NOW)
    assert plan.push
    assert "Interchain sends it and pays the gas" in plan.reason


def test_much_gas_against_little_is_pulled_and_says_from_when_on_it_is_pushed(settings):
    settings.PAYOUT_PUSH_BASIS_POINTS = 200
    payee = Payee(10 * NTC, leaves=100, payees=1)
    plan = decide(quote(20), payee, rate=RATE, now=NOW)
    cost = payee.pushed_gas() * 20 * 3_000  # gas x gwei x dollars: in nano-dollars
    assert (plan.push, plan.cost_nano_usd) == (False, cost)
    assert plan.worth_from_units == cost * 50 * 2  # 2 % of it pays the gas, at half a dollar each
    assert "up to 2 %" in plan.reason
    assert f"from about {-(-plan.worth_from_units // NTC):,} NTC on" in plan.reason


def test_from_that_amount_on_it_is_pushed_and_below_it_is_not(settings):
    settings.PAYOUT_PUSH_BASIS_POINTS = 200
    needed = decide(quote(20), Payee(NTC, leaves=100), rate=RATE, now=NOW).worth_from_units
    assert decide(quote(20), Payee(needed, leaves=100), rate=RATE, now=NOW).push
    assert not decide(quote(20), Payee(needed - 100, leaves=100), rate=RATE, now=NOW).push


def test_a_batch_makes_it_cheaper_and_a_first_payment_dearer():
    alone, shared = Payee(NTC, 100, payees=1).pushed_gas(), Payee(NTC, 100, payees=50).pushed_gas()
    assert shared < alone
    assert Payee(NTC, 100, payees=50, first=True).pushed_gas() == shared + (
        gas.CLAIM_MANY_PAYEE_FIRST - gas.CLAIM_MANY_PAYEE
    )


def test_payees_of_a_batch_pay_for_all_of_it():
    each = Payee(NTC, 100, payees=40).pushed_gas()
    assert 40 * each >= gas.claim_many(100, first=0, again=40)


@pytest.mark.parametrize(
    "found",
    [
        None,
        GasQuote(wei_per_gas=10**12, nano_usd_per_ether=None, taken_at=NOW),
        GasQuote(wei_per_gas=10**12, nano_usd_per_ether=10**13, taken_at=NOW - timedelta(hours=2)),
    ],
)
def test_nobody_waits_for_a_price_that_is_not_known(found):
    assert decide(found, Payee(NTC, 100), rate=RATE, now=NOW).push


def test_what_gas_costs_is_kept_once_per_look(world):
    for _ in range(2):
        kept = payout_planner.observe(chain=world.chain, now=world.now)
    assert kept.wei_per_gas > 0
    assert GasQuote.objects.count() == 1
    if world.real:
        assert kept.nano_usd_per_ether is not None
