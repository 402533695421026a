"""Rounds: staff order, the sales key sends, the chain's word counts; in the admin, with what it means said first."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import sale_tables
from billing.chain.fake import unavailable
from billing.chain.sale import TokenSale
from billing.models import ChainTransaction, SaleOrder, SaleRound
from billing.services import sale_purchases, sale_rounds, sale_wallets, token_facts
from billing.states import SALE_ORDER_MOVES, SALE_PURCHASE_MOVES, SaleOrderState, SalePurchaseState
from billing.tests.saling import NTC, Shop, fake_shop
from interchain_site.core.errors import Conflict, Invalid
from interchain_site.core.models import AuditEvent


@pytest.fixture
def shop(db, settings, chain_settings, stripe) -> Shop:
    return fake_shop(settings, stripe)


def test_table_1_is_loaded_as_it_stands(db):
    rows = [(row.number, row.target_units // NTC, row.trigger, str(row.planned_on)) for row in SaleRound.objects.all()]
    assert rows == [
        (1, 10_000_000, "Interchain demo-able", "2017-12-15"),
        (2, 3_000_000, "Interchain alpha out", "2018-06-15"),
        (3, 7_000_000, "Interchain beta out", "2018-12-15"),
    ]


def test_table_4_adds_up():
    assert sum(share.percent for share in sale_tables.TABLE_4) == 100
    assert sum(percent for _, percent in sale_tables.PROTOCOL_PARTS) == sale_tables.PROTOCOL_PERCENT
    assert all(share.printed in (None, share.percent) for share in sale_tables.TABLE_4)


def test_staff_open_a_round_and_the_chain_confirms(shop, cast):
    order = sale_rounds.order_open(price=Decimal("0.1"), by=cast.staff, now=shop.now)
    assert sale_purchases.open_round() is None
    shop.turn(4)
    order.refresh_from_db()
    row = SaleRound.objects.get(pk=1)
    assert (order.state, row.open, row.price) == (SaleOrderState.DONE, True, Decimal("0.1"))
    assert order.sending.sender.address != shop.deployment.sale
    assert AuditEvent.objects.filter(action="sale_ordered", by=cast.staff).exists()
    assert AuditEvent.objects.filter(action="sale_roundopened").exists()


def test_a_round_is_sent_once_however_the_node_answers(shop):
    sale_rounds.order_open(price=Decimal("0.1"), by=None, now=shop.now)
    shop.chain.break_next["after_send"] = unavailable
    shop.turn(5)
    assert ChainTransaction.objects.filter(key__startswith="sale_order:").count() == 1
    assert shop.contract.current == 1


def test_the_price_is_at_most_three_times_the_one_before(shop):
    shop.open(Decimal("0.1"))
    sale_rounds.order_close(number=1, by=None, now=shop.now)
    shop.turn(3)
    for price in (Decimal("0.300000001"), Decimal(0), Decimal(-1), Decimal("0.0000000001")):
        with pytest.raises(Invalid):
            sale_rounds.order_open(price=price, by=None, now=shop.now)
    shop.open(Decimal("0.3"))
    assert SaleRound.objects.get(pk=2).price == Decimal("0.3")


def test_rounds_open_in_order_and_one_at_a_time(shop):
    shop.open()
    with pytest.raises(Conflict, match="not closed"):
        sale_rounds.order_open(price=Decimal("0.1"), by=None, now=shop.now)


def test_what_opening_means_is_said_first(shop):
    row = SaleRound.objects.get(pk=1)
    said = " ".join(sale_rounds.explain_opening(sale_round=row, price=Decimal("0.1"), now=shop.now))
    for words in ("10,000,000.00 NTC at $0.10", "2017-12-15, which has passed", "at most $0.30"):
        assert words in said


def test_the_unsold_moves_on_by_a_decision_with_a_reason(shop, cast):
    shop.open()
    sale_rounds.order_close(number=1, by=cast.staff, now=shop.now)
    shop.turn(3)
    with pytest.raises(Invalid, match="reason"):
        sale_rounds.order_unsold(number=1, decision="carry", reason=" ", by=cast.staff, now=shop.now)
    sale_rounds.order_unsold(number=1, decision="carry", reason="Not enough buyers.", by=cast.staff, now=shop.now)
    shop.turn(3)
    first, second = SaleRound.objects.filter(pk__in=[1, 2])
    assert (first.unsold_decision, first.unsold_reason) == ("carry", "Not enough buyers.")
    assert second.offered_units == 13_000_000 * NTC
    with pytest.raises(Conflict):
        sale_rounds.order_unsold(number=1, decision="lock", reason="Again.", by=cast.staff, now=shop.now)


def test_the_last_round_can_only_be_locked(shop):
    for _ in range(3):
        number = shop.open().number
        sale_rounds.order_close(number=number, by=None, now=shop.now)
        shop.turn(3)
    with pytest.raises(Conflict, match="locked"):
        sale_rounds.order_unsold(number=3, decision="carry", reason="?", by=None, now=shop.now)
    with pytest.raises(Conflict, match="no further round"):
        sale_rounds.order_open(price=Decimal("0.1"), by=None, now=shop.now)


def test_an_order_the_contract_refuses_ends_with_its_words(shop):
    order = sale_rounds.order_open(price=Decimal("0.1"), by=None, now=shop.now)
    shop.chain.call_directly(TokenSale(shop.deployment.sale).open_round(price_nano_usd=1))
    sale_rounds.send_orders(chain=shop.chain, now=shop.now)
    order.refresh_from_db()
    assert order.state == SaleOrderState.FAILED
    assert "TokenSaleRoundStillOpen" in order.error


def test_the_same_order_is_not_given_twice(shop):
    sale_rounds.order_open(price=Decimal("0.1"), by=None, now=shop.now)
    with pytest.raises(Conflict, match="under way"):
        sale_rounds.order_open(price=Decimal("0.2"), by=None, now=shop.now)


def test_a_reorganisation_takes_the_opening_back_and_it_comes_again(shop):
    shop.open()
    shop.chain.reorganise(1, drop=True)
    sale_rounds.refresh(chain=shop.chain, now=shop.now)
    assert sale_purchases.open_round() is None
    for _ in range(6):
        shop.now += timedelta(seconds=70)
        shop.turn()
        shop.chain.mine()
    assert sale_purchases.open_round() is not None
    assert SaleOrder.objects.get().state == SaleOrderState.DONE


def test_facts_are_read_into_one_row(shop):
    shop.open()
    facts = token_facts.current()
    assert (facts.supply, facts.sale_balance, facts.vault_balance) == (
        25_000_000 * NTC,
        20_000_000 * NTC,
        5_000_000 * NTC,
    )
    assert (facts.stablecoin_cost, facts.wei_cost, facts.stablecoin_symbol) == (100_000, 4 * 10**13, "tUSD")
    assert (facts.unlocks_at, facts.time_met, facts.vault_open) == (None, False, False)
    shop.contract.usd_per_ether = 0
    shop.turn()
    assert token_facts.current().wei_cost == 0


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    units=st.integers(1, 20_000_000 * NTC), price=st.integers(1, 10**13), decimals=st.sampled_from([2, 6, 9, 18])
)  # the stablecoin's cost is the contract's, to its last unit, and never below the price
def test_the_stablecoins_cost_is_rounded_up_once(units, price, decimals):
    cost = sale_wallets.stablecoin_cost(units, price, decimals)
    exact = Decimal(units) * price * 10**decimals
    assert cost * Decimal(10**18) >= exact > (cost - 1) * Decimal(10**18)


@pytest.mark.parametrize("moves", [SALE_ORDER_MOVES, SALE_PURCHASE_MOVES])
def test_every_state_has_its_row(moves):
    states = SaleOrderState if moves is SALE_ORDER_MOVES else SalePurchaseState
    assert set(moves) == set(states.values)
    assert set().union(*moves.values()) <= set(states.values)


# --- in the admin -------------------------------------------------------------------------------------------------------


def test_staff_read_what_it_means_before_they_order(shop, cast, client):
    client.force_login(cast.staff)
    url = reverse("admin:sale_order", args=[1, "open"])
    said = client.post(url, {"price": "0.10"})
    assert "The contract keeps this price" in said.content.decode()
    assert not SaleOrder.objects.exists()
    client.post(url, {"price": "0.10", "confirmed": "on"})
    order = SaleOrder.objects.get()
    assert (order.kind, order.price_nano_usd, order.ordered_by) == ("open", 100_000_000, cast.staff)


def test_the_admin_shows_the_order_that_is_due(shop, cast, client):
    client.force_login(cast.staff)
    page = client.get(reverse("admin:billing_saleround_changelist")).content.decode()
    assert 'href="1/open/"' in page
    assert "Waits for the round before" in page


def test_too_high_a_price_is_refused_with_the_cap(shop, cast, client):
    shop.open()
    sale_rounds.order_close(number=1, by=None, now=shop.now)
    shop.turn(3)
    client.force_login(cast.staff)
    page = client.post(reverse("admin:sale_order", args=[2, "open"]), {"price": "0.31", "confirmed": "on"})
    assert "at most 3 times" in page.content.decode()
    assert SaleOrder.objects.filter(kind="open").count() == 1


def test_staff_switch_the_rules(shop, cast, client):
    client.force_login(cast.staff)
    url = reverse("admin:billing_salerules_add")
    bad = client.post(url, {"refused_countries": "XX"})
    assert "Not a country" in bad.content.decode()
    terms = client.post(url, {"terms_required": "on"})
    assert "Publish terms first" in terms.content.decode()
    client.post(reverse("admin:billing_saleterms_add"), {"version": "1", "text": "Words."})
    client.post(url, {"terms_required": "on", "country_required": "on", "refused_countries": "kp", "quota": "1000"})
    from billing.services import sale_gates

    found = sale_gates.rules()
    assert (found.terms_required, found.refused_countries, found.quota_units) == (True, "KP", 1000 * NTC)
    assert AuditEvent.objects.filter(action="sale_rules_set", by=cast.staff).exists()


@pytest.mark.parametrize("person", ["buyer", "stranger"])
def test_nobody_else_gets_in(shop, cast, client, person):
    client.force_login(getattr(cast, person))
    for name, args in (
        ("sale_order", [1, "open"]),
        ("billing_salepurchase_changelist", []),
        ("billing_salerules_add", []),
    ):
        assert client.get(reverse(f"admin:{name}", args=args)).status_code == 302
    assert not SaleOrder.objects.exists()
