"""Buying in a round: by card from payment to delivery or refund, from a wallet by the chain's word, and every crash between.

Longer than 300 lines because it follows one purchase through all its events.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core import mail

from billing import queries
from billing.chain.errors import ChainUnavailable
from billing.chain.fake import unavailable
from billing.chain.sale import TokenSale
from billing.chain.types import ZERO_HASH
from billing.errors import SaleRefused, SaleSoldOut
from billing.models import ChainTransaction, SalePurchase, SaleRound
from billing.services import (
    accounts,
    cashier,
    chain_accounts,
    chain_events,
    ledger,
    sale_gates,
    sale_payments,
    sale_purchases,
    sweeps,
    topups,
    wallets,
)
from billing.services.ledger import Line, Posting
from billing.tests.saling import (
    BACK,
    NTC,
    STEPS,
    Killed,
    Shop,
    books_balance,
    dollars,
    fake_shop,
    kill_once,
    ledger_holds,
    spendable,
)
from billing.tests.settling import new_address
from interchain_site.core.errors import Invalid
from interchain_site.core.models import StaffAlert


@pytest.fixture
def shop(db, settings, chain_settings, stripe) -> Shop:
    found = fake_shop(settings, stripe)
    found.open()
    return found


def deposited(shop: Shop) -> int:
    return sum(shop.chain.settlement.deposited.values())


def test_card_to_balance(shop, cast):
    purchase = shop.buy(cast.buyer)
    assert (purchase.state, purchase.units) == ("delivered", 100 * NTC)
    assert spendable(cast.buyer) == 100 * NTC == deposited(shop) == -ledger_holds("escrow")
    assert (dollars("stripe_clearing"), dollars("sale_proceeds_usd")) == (-1000, 1000)
    assert SaleRound.objects.get(pk=1).sold_units == 100 * NTC
    assert purchase.transaction_hash == purchase.sending.mined_hash
    books_balance()


def test_nothing_is_credited_before_the_chain_says_so(shop, cast, settings):
    settings.ETHEREUM_CONFIRMATIONS = 3
    purchase = shop.pay(shop.checkout(cast.buyer))
    assert (purchase.state, spendable(cast.buyer)) == ("paid", 0)
    shop.turn(3)
    assert (shop.again(purchase).state, spendable(cast.buyer)) == ("allocating", 0)
    shop.chain.mine(2)
    shop.turn()
    assert (shop.again(purchase).state, spendable(cast.buyer)) == ("delivered", 100 * NTC)


def test_a_receipt_is_sent_once_delivered(shop, cast):
    purchase = shop.pay(shop.checkout(cast.buyer))
    sweeps.sweep_payments(now=shop.now)
    assert mail.outbox == []
    shop.turn(3)
    for _ in range(2):
        sweeps.sweep_payments(now=shop.now)
    [message] = mail.outbox
    assert "100.00 NTC" in message.subject
    assert str(purchase.pk) in message.body


def test_the_price_is_the_rounds_and_locked(shop, cast):
    quote = sale_purchases.quote(user=cast.buyer, units=123 * NTC, now=shop.now)
    assert (quote.cents, quote.rate, quote.sale_round_id) == (1230, Decimal("0.10"), 1)
    late = shop.now + timedelta(minutes=15)
    with pytest.raises(Exception, match="locked for a while"):
        topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=late)


def test_the_desks_stock_is_not_touched(shop, cast, stocked_desk):
    from billing.services import desk

    before = desk.stock_units()
    shop.pay(shop.checkout(cast.buyer))
    assert desk.stock_units() == before


def test_open_checkouts_keep_their_part_of_the_round(shop, cast):
    SaleRound.objects.filter(pk=1).update(sold_units=10_000_000 * NTC - 150 * NTC)
    shop.checkout(cast.buyer)
    with pytest.raises(SaleSoldOut, match=r"50\.00 NTC left"):
        shop.checkout(cast.stranger)
    assert sale_payments.left_units(SaleRound.objects.get(pk=1)) == 50 * NTC


def test_two_quotes_of_the_last_ntc_open_one_checkout(shop, cast):
    SaleRound.objects.filter(pk=1).update(sold_units=10_000_000 * NTC - 150 * NTC)
    quotes = [sale_purchases.quote(user=user, cents=1000, now=shop.now) for user in (cast.buyer, cast.stranger)]
    topups.start_checkout(quote_id=quotes[0].pk, user=cast.buyer, now=shop.now)
    with pytest.raises(SaleSoldOut):
        topups.start_checkout(quote_id=quotes[1].pk, user=cast.stranger, now=shop.now)


def test_an_unpaid_checkout_frees_its_part(shop, cast, settings):
    purchase = shop.checkout(cast.buyer)
    sweeps.sweep_payments(now=shop.now + timedelta(seconds=settings.QUOTE_LOCK_SECONDS + 1))
    assert shop.again(purchase).state == "expired"
    assert sale_payments.left_units(SaleRound.objects.get(pk=1)) == 10_000_000 * NTC


def test_paid_in_the_last_second_is_delivered(shop, cast):
    purchase = shop.checkout(cast.buyer)
    shop.stripe.pay(purchase.payment.session_url)
    topups.expire_unpaid(payment_id=purchase.payment_id, now=shop.now + timedelta(hours=1))
    shop.turn(3)
    assert shop.again(purchase).state == "delivered"


# --- sold out, closed, refused -----------------------------------------------------------------------------------------


def sell_out(shop: Shop) -> None:
    """Somebody with a wallet buys all that is left, between the payment and the allocation."""
    whale, left = new_address(), shop.contract.view_left()
    shop.chain.call_directly(
        TokenSale(shop.deployment.sale).buy_with_ether(min_units=1), sender=whale, value=shop.contract._wei(left)
    )


def test_a_round_that_sells_out_pays_the_card_back(shop, cast):
    purchase = shop.pay(shop.checkout(cast.buyer))
    sell_out(shop)
    shop.turn(4)
    purchase = shop.again(purchase)
    assert (purchase.state, purchase.payment.refunded_cents) == ("refunded", 1000)
    assert "sold out" in purchase.note
    assert (spendable(cast.buyer), dollars("stripe_clearing"), dollars("sale_proceeds_usd")) == (0, 0, 0)
    shop.turn(3)
    [message] = mail.outbox
    assert message.to == [cast.buyer.email]
    assert "sold out before your purchase" in message.body
    assert "$10.00" in message.body
    books_balance()


def test_sold_out_between_the_look_and_the_block(shop, cast):
    """The node says yes, the transaction is sent, and the block says no: nothing is allocated, the card gets it back."""
    shop.chain.automine = False
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.turn()
    assert shop.again(purchase).state == "allocating"
    sell_out(shop)
    shop.chain.mine()
    shop.chain.automine = True
    shop.turn(5)
    purchase = shop.again(purchase)
    assert (purchase.state, purchase.attempt) == ("refunded", 2)
    assert shop.stripe.get(f"refunds?payment_intent={purchase.payment.payment_intent_id}")["data"][0]["amount"] == 1000


def test_a_closed_round_pays_back_though_the_next_is_open(shop, cast):
    """Never at another round's price, or from another round's cap."""
    from billing.services import sale_rounds

    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.chain.call_directly(TokenSale(shop.deployment.sale).close_round())
    shop.chain.call_directly(TokenSale(shop.deployment.sale).open_round(price_nano_usd=200_000_000))
    sale_rounds.refresh(chain=shop.chain, now=shop.now)
    shop.turn(3)
    assert shop.again(purchase).state == "refunded"
    assert shop.contract.rounds[1].sold == 0


def test_a_paused_sale_waits_and_goes_on(shop, cast):
    shop.contract.is_paused = True
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.turn(3)
    purchase = shop.again(purchase)
    assert (purchase.state, purchase.note[:7]) == ("paid", "Waiting")
    assert StaffAlert.objects.standing().filter(code="sale_allocation_waits").exists()
    shop.contract.is_paused = False
    shop.turn(3)
    assert (shop.again(purchase).state, shop.again(purchase).note) == ("delivered", "")
    assert not StaffAlert.objects.standing().filter(code="sale_allocation_waits").exists()


def test_staff_who_refund_what_waits_are_not_told_of_it_any_more(shop, cast):
    shop.contract.is_paused = True
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.turn(3)
    assert StaffAlert.objects.standing().filter(code="sale_allocation_waits").exists()
    topups.refund_payment(payment_id=purchase.payment_id, cents=None, by=cast.staff, now=shop.now)
    assert not StaffAlert.objects.standing().filter(code="sale_allocation_waits").exists()


def test_the_cashiers_daily_limit_makes_it_wait(shop, cast):
    shop.contract.daily_limit = 50 * NTC
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.turn(2)
    assert shop.again(purchase).state == "paid"
    shop.contract.daily_limit = 500 * NTC
    shop.turn(3)
    assert shop.again(purchase).state == "delivered"


# --- crashes and lost answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["transaction_count", "read", "estimate_gas", "send", "after_send", "receipt", "logs", "head"]
)
def test_a_crash_at_any_call_of_the_node_delivers_once(shop, cast, method):
    def crash() -> None:
        raise ConnectionError("killed")

    purchase = shop.pay(shop.checkout(cast.buyer))
    for _ in range(6):
        shop.chain.break_next[method] = crash
        with contextlib.suppress(ConnectionError):
            shop.turn()
        shop.chain.break_next.clear()
        with contextlib.suppress(ChainUnavailable):
            shop.turn()
    assert shop.again(purchase).state == "delivered"
    assert spendable(cast.buyer) == 100 * NTC == deposited(shop)
    assert ChainTransaction.objects.filter(key__startswith="sale:").count() == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_every_numbered_step_delivers_once(shop, cast, monkeypatch, step):
    purchase = shop.pay(shop.checkout(cast.buyer))
    kill_once(monkeypatch, *STEPS[step])
    with pytest.raises(Killed):
        shop.turn(4)
    shop.turn(5)
    assert shop.again(purchase).state == "delivered"
    assert spendable(cast.buyer) == 100 * NTC == deposited(shop) == -ledger_holds("escrow")
    assert dollars("sale_proceeds_usd") == 1000
    books_balance()


@pytest.mark.parametrize("step", BACK)
def test_a_crash_at_every_step_of_paying_back_refunds_once(shop, cast, monkeypatch, step):
    purchase = shop.pay(shop.checkout(cast.buyer))
    sell_out(shop)
    kill_once(monkeypatch, *BACK[step])
    with pytest.raises(Killed):
        shop.turn(5)
    shop.turn(5)
    purchase = shop.again(purchase)
    refunds = shop.stripe.get(f"refunds?payment_intent={purchase.payment.payment_intent_id}")["data"]
    assert (purchase.state, [refund["amount"] for refund in refunds]) == ("refunded", [1000])
    assert len(mail.outbox) == 1
    assert dollars("sale_proceeds_usd") == 0


def test_an_rpc_that_accepts_and_then_times_out(shop, cast):
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.chain.break_next["after_send"] = unavailable
    shop.turn(4)
    assert shop.again(purchase).state == "delivered"
    assert deposited(shop) == 100 * NTC


# --- reorganisations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("drop", [False, True])
def test_a_reorganisation_of_what_was_final_undoes_and_delivers_again(shop, cast, depth, drop):
    purchase = shop.buy(cast.buyer)
    shop.chain.mine(depth - 1)
    shop.chain.reorganise(depth, drop=drop)
    for _ in range(8):
        shop.now += timedelta(seconds=70)
        shop.turn()
        shop.chain.mine()
    assert shop.again(purchase).state == "delivered"
    assert spendable(cast.buyer) == 100 * NTC == deposited(shop) == -ledger_holds("escrow")
    books_balance()


# --- refunds and disputes -----------------------------------------------------------------------------------------------


def test_a_refund_after_the_credit_takes_the_ntc_back(shop, cast):
    purchase = shop.buy(cast.buyer)
    topups.refund_payment(payment_id=purchase.payment_id, cents=400, by=cast.staff, now=shop.now)
    assert spendable(cast.buyer) == 60 * NTC
    assert queries.platform_balance("desk_inventory") == 40 * NTC
    topups.refund_payment(payment_id=purchase.payment_id, cents=None, by=cast.staff, now=shop.now)
    assert (spendable(cast.buyer), queries.platform_balance("desk_inventory")) == (0, 100 * NTC)
    assert (dollars("sale_proceeds_usd"), dollars("stripe_clearing")) == (0, 0)
    assert shop.again(purchase).state == "delivered"  # what is on the chain stays there
    books_balance()


def test_a_refund_of_spent_ntc_leaves_a_debt(shop, cast):
    purchase = shop.buy(cast.buyer)
    lines = (
        Line(accounts.user_account(cast.buyer.pk, "available"), -70 * NTC),
        Line(accounts.platform_account("commission"), 70 * NTC),
    )
    ledger.post(postings=[Posting("spent", "test", lines, shop.now)], now=shop.now)
    topups.refund_payment(payment_id=purchase.payment_id, cents=None, by=cast.staff, now=shop.now)
    found = queries.balances(cast.buyer.pk)
    assert (found.available, found.owed) == (0, 70 * NTC)


def test_refunded_before_it_was_allocated_is_never_allocated(shop, cast):
    purchase = shop.pay(shop.checkout(cast.buyer))
    topups.refund_payment(payment_id=purchase.payment_id, cents=None, by=cast.staff, now=shop.now)
    shop.turn(3)
    assert (shop.again(purchase).state, deposited(shop)) == ("refunded", 0)
    assert (dollars("sale_proceeds_usd"), dollars("stripe_clearing")) == (0, 0)


def test_refunded_and_allocated_all_the_same_is_taken_on_arrival(shop, cast):
    """A transaction given up may be mined after all; else the buyer keeps both the money and the NTC."""
    purchase = shop.pay(shop.checkout(cast.buyer))
    topups.refund_payment(payment_id=purchase.payment_id, cents=None, by=cast.staff, now=shop.now)
    assert shop.again(purchase).state == "refunded"
    account = chain_accounts.reference_of(user=cast.buyer)
    call = TokenSale(shop.deployment.sale).allocate(account=account, units=purchase.units, reference=purchase.reference)
    shop.chain.call_directly(call)
    shop.turn(3)
    assert shop.again(purchase).state == "delivered"
    assert (spendable(cast.buyer), ledger_holds("desk_inventory")) == (0, purchase.units)


@pytest.mark.parametrize("cents", [250, 1000])
def test_refunded_while_it_is_on_its_way_is_taken_on_arrival(shop, cast, cents):
    shop.chain.automine = False
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.turn()
    topups.refund_payment(payment_id=purchase.payment_id, cents=cents, by=cast.staff, now=shop.now)
    assert queries.balances(cast.buyer.pk).owed == 0
    shop.chain.mine()
    shop.turn(2)
    purchase = shop.again(purchase)
    assert (purchase.state, spendable(cast.buyer)) == ("delivered", (1000 - cents) * NTC // 10)
    assert queries.platform_balance("desk_inventory") == cents * NTC // 10
    assert purchase.payment.refunded_units == cents * NTC // 10
    assert queries.balances(cast.buyer.pk).owed == 0
    books_balance()


@pytest.mark.parametrize(("end", "left", "desk"), [("win", 100, 0), ("lose", 0, 100)])
def test_a_dispute_after_delivery(shop, cast, end, left, desk):
    purchase = shop.buy(cast.buyer)
    shop.stripe.act("dispute", shop.charge_of(purchase))
    shop.sync(purchase)
    found = queries.balances(cast.buyer.pk)
    assert (found.available, found.frozen) == (0, 100 * NTC)
    shop.stripe.act(end, purchase.payment.disputes.get().pk)
    shop.sync(purchase)
    assert spendable(cast.buyer) == left * NTC
    assert queries.platform_balance("desk_inventory") == desk * NTC
    assert dollars("sale_proceeds_usd") == (1000 if end == "win" else 0)
    books_balance()


@pytest.mark.parametrize(("end", "state", "left"), [("win", "delivered", 100), ("lose", "refunded", 0)])
def test_a_dispute_before_delivery_makes_it_wait(shop, cast, end, state, left):
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.stripe.act("dispute", shop.charge_of(purchase))
    shop.turn(3)
    assert (shop.again(purchase).state, deposited(shop)) == ("paid", 0)
    shop.stripe.act(end, purchase.payment.disputes.get().pk)
    shop.sync(purchase)
    shop.turn(3)
    assert (shop.again(purchase).state, spendable(cast.buyer)) == (state, left * NTC)
    books_balance()


def test_disputed_while_it_is_on_its_way_is_frozen_on_arrival(shop, cast):
    shop.chain.automine = False
    purchase = shop.pay(shop.checkout(cast.buyer))
    shop.turn()
    shop.stripe.act("dispute", shop.charge_of(purchase))
    shop.sync(purchase)
    shop.chain.mine()
    shop.turn(2)
    found = queries.balances(cast.buyer.pk)
    assert (found.available, found.frozen, found.owed) == (0, 100 * NTC, 0)
    shop.stripe.act("lose", purchase.payment.disputes.get().pk)
    shop.sync(purchase)
    assert (queries.balances(cast.buyer.pk), queries.platform_balance("desk_inventory")) == (
        queries.Balances(),
        100 * NTC,
    )
    books_balance()


def test_a_reorganisation_with_a_refund_and_a_dispute_in_between_comes_to_the_same(shop, cast):
    """The block is gone for long enough to be undone: NTC, refund and frozen NTC with it; then all of it comes again."""
    first, second = shop.buy(cast.buyer), shop.buy(cast.buyer)
    topups.refund_payment(payment_id=first.payment_id, cents=300, by=cast.staff, now=shop.now)
    shop.stripe.act("dispute", shop.charge_of(second))
    shop.sync(second)
    before = queries.balances(cast.buyer.pk)
    assert (before.available, before.frozen) == (70 * NTC, 100 * NTC)
    shop.chain.reorganise(2, drop=True)
    shop.chain.mine(4)
    shop.chain.automine = False
    chain_events.watch(chain=shop.chain, now=shop.now)
    assert [shop.again(row).state for row in (first, second)] == ["allocating", "allocating"]
    assert (queries.balances(cast.buyer.pk), ledger_holds("escrow")) == (queries.Balances(), 0)
    assert queries.platform_balance("desk_inventory") == 0
    books_balance()
    shop.chain.automine = True
    for _ in range(8):
        shop.now += timedelta(seconds=70)
        shop.turn()
        shop.chain.mine()
    assert [shop.again(row).state for row in (first, second)] == ["delivered", "delivered"]
    assert queries.balances(cast.buyer.pk) == before
    assert queries.platform_balance("desk_inventory") == 30 * NTC
    assert -ledger_holds("escrow") == deposited(shop)
    books_balance()


# --- rules --------------------------------------------------------------------------------------------------------------


def rule(**changes) -> None:
    rules = {"quota_units": None, "terms_required": False, "country_required": False, "refused": "", "paused": False}
    sale_gates.set_rules(by=None, **{**rules, **changes})


def test_the_quota_counts_everything_of_a_person_in_a_round(shop, cast):
    rule(quota_units=150 * NTC)
    shop.buy(cast.buyer)
    with pytest.raises(SaleRefused, match=r"50\.00 NTC left"):
        shop.checkout(cast.buyer)
    shop.buy(cast.buyer, cents=500)
    shop.buy(cast.stranger)


def test_the_quota_holds_between_quote_and_checkout(shop, cast):
    rule(quota_units=150 * NTC)
    quotes = [sale_purchases.quote(user=cast.buyer, cents=1000, now=shop.now) for _ in range(2)]
    topups.start_checkout(quote_id=quotes[0].pk, user=cast.buyer, now=shop.now)
    with pytest.raises(SaleRefused):
        topups.start_checkout(quote_id=quotes[1].pk, user=cast.buyer, now=shop.now)


def test_the_country_gate_asks_and_refuses(shop, cast):
    rule(country_required=True, refused="cn kp")
    with pytest.raises(SaleRefused, match="tell us your country"):
        shop.checkout(cast.buyer)
    sale_gates.declare(user=cast.buyer, country="KP", terms_id=None, now=shop.now)
    with pytest.raises(SaleRefused, match="residents of"):
        shop.checkout(cast.buyer)
    sale_gates.declare(user=cast.buyer, country="DE", terms_id=None, now=shop.now)
    assert shop.buy(cast.buyer).state == "delivered"


def test_a_card_of_a_refused_country_is_paid_back(shop, cast):
    rule(country_required=True, refused="CN")
    sale_gates.declare(user=cast.buyer, country="DE", terms_id=None, now=shop.now)
    purchase = shop.buy(cast.buyer, card="4000001560000002")
    shop.turn(3)
    purchase = shop.again(purchase)
    assert (purchase.state, purchase.country, deposited(shop)) == ("refunded", "CN", 0)
    assert "issued in China" in mail.outbox[0].body


def test_new_terms_are_asked_again(shop, cast):
    first = sale_gates.publish_terms(version="1", text="One.", by=cast.staff, now=shop.now)
    rule(terms_required=True)
    sale_gates.declare(user=cast.buyer, country="", terms_id=first.pk, now=shop.now)
    shop.checkout(cast.buyer)
    sale_gates.publish_terms(version="2", text="Two.", by=cast.staff, now=shop.now + timedelta(1))
    with pytest.raises(SaleRefused, match="accept the terms"):
        shop.checkout(cast.buyer)
    with pytest.raises(Invalid, match="replaced"):
        sale_gates.declare(user=cast.buyer, country="", terms_id=first.pk, now=shop.now)


def test_paused_card_sales_sell_nothing(shop, cast):
    rule(paused=True)
    with pytest.raises(SaleRefused, match="paused"):
        shop.checkout(cast.buyer)


# --- from a wallet ------------------------------------------------------------------------------------------------------


def buy_with_ether(shop: Shop, *, sender: str, account: str = "", ntc: int = 100) -> str:
    call = TokenSale(shop.deployment.sale).buy_with_ether(min_units=1, account=account)
    return shop.chain.call_directly(call, sender=sender, value=shop.contract._wei(ntc * NTC))


def test_a_wallets_purchase_for_the_balance_is_recognised_by_its_event(shop, cast):
    account = chain_accounts.reference_of(user=cast.buyer)
    hash_ = buy_with_ether(shop, sender=new_address(), account=account)
    shop.turn()
    purchase = SalePurchase.objects.get(user=cast.buyer)
    assert (purchase.state, purchase.asset, purchase.units, purchase.transaction_hash) == (
        "delivered", "ether", 100 * NTC, hash_,
    )  # fmt: skip
    assert spendable(cast.buyer) == 100 * NTC


def test_stablecoin_for_the_wallet_itself(shop, cast):
    wallet = new_address()
    wallets.link_confirmed(address=wallet, by=cast.buyer, now=shop.now)
    dollar = shop.chain.contracts[shop.deployment.stablecoin]
    dollar.balances[wallet], dollar.allowances[wallet, shop.deployment.sale] = 10_000_000, 10_000_000
    call = TokenSale(shop.deployment.sale).buy_with_stablecoin(units=100 * NTC, max_cost=10_000_000)
    shop.chain.call_directly(call, sender=wallet)
    shop.turn()
    purchase = SalePurchase.objects.get()
    assert (purchase.user, purchase.asset, purchase.paid, purchase.account) == (
        cast.buyer,
        "stablecoin",
        "10000000",
        "",
    )
    assert spendable(cast.buyer) == 0
    assert shop.chain.contracts[shop.deployment.intercoin].balances[wallet] == 100 * NTC


def test_what_the_browser_sent_becomes_the_purchase(shop, cast):
    wallet = new_address()
    hash_ = buy_with_ether(shop, sender=wallet)
    noted = sale_purchases.note_sent(
        user=cast.buyer, sale_round_id=1, asset="ether", units=99 * NTC, paid=1, account="", wallet=wallet,
        transaction_hash=hash_, now=shop.now,
    )  # fmt: skip
    assert noted.state == "sent"
    shop.turn()
    [purchase] = SalePurchase.objects.all()
    assert (purchase.pk, purchase.state, purchase.units) == (noted.pk, "delivered", 100 * NTC)


def test_nobody_can_claim_anothers_transaction(shop, cast):
    account = chain_accounts.reference_of(user=cast.buyer)
    wallet = new_address()
    hash_ = buy_with_ether(shop, sender=wallet, account=account)
    for user in (cast.stranger, cast.buyer):
        sale_purchases.note_sent(
            user=user, sale_round_id=1, asset="ether", units=100 * NTC, paid=1, account="", wallet=wallet,
            transaction_hash=hash_, now=shop.now,
        )  # fmt: skip
    shop.turn()
    assert SalePurchase.objects.get(user=cast.stranger).state == "failed"
    assert SalePurchase.objects.get(user=cast.buyer).state == "delivered"


def test_a_refused_transaction_of_a_wallet_is_noted(shop, cast):
    noted = sale_purchases.note_sent(
        user=cast.buyer, sale_round_id=1, asset="ether", units=NTC, paid=1, account="", wallet=new_address(),
        transaction_hash="0x" + "ab" * 32, now=shop.now,
    )  # fmt: skip
    shop.turn(2)
    assert shop.again(noted).state == "sent"
    shop.now += timedelta(days=2)
    shop.turn()
    assert shop.again(noted).state == "failed"


def test_what_the_cashiers_key_gives_to_nobody_we_know_alarms_staff(shop, cast):
    shop.chain.call_directly(
        TokenSale(shop.deployment.sale).allocate(account="0x" + "77" * 32, units=NTC, reference="0x" + "88" * 32)
    )
    shop.turn()
    assert StaffAlert.objects.standing().filter(code="sale_allocation_unknown").exists()
    own = TokenSale(shop.deployment.sale).allocate(
        account=chain_accounts.desk_reference(), units=NTC, reference="0x" + "99" * 32
    )
    shop.chain.call_directly(own)
    shop.turn()
    assert StaffAlert.objects.standing().filter(code="sale_allocation_unknown").count() == 1


def test_an_old_hash_is_no_hash(shop, cast):
    for text in ("", "0x12", "0x" + "zz" * 32, ZERO_HASH + "00"):
        with pytest.raises(Invalid):
            sale_purchases.note_sent(
                user=cast.buyer, sale_round_id=1, asset="ether", units=NTC, paid=1, account="", wallet="",
                transaction_hash=text, now=shop.now,
            )  # fmt: skip


def test_the_cashier_does_not_stop_at_one_that_fails(shop, cast, monkeypatch):
    first, second = shop.pay(shop.checkout(cast.buyer)), shop.pay(shop.checkout(cast.stranger))
    real = topups.sync_payment

    def sync(*, payment_id, **rest):
        if payment_id == first.payment_id:
            raise RuntimeError("a bug")
        return real(payment_id=payment_id, **rest)

    monkeypatch.setattr(cashier.topups, "sync_payment", sync)
    shop.turn(3)
    assert [shop.again(row).state for row in (first, second)] == ["paid", "delivered"]
