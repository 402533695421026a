"""The sale's pages: what each person sees, and the stranger nothing of others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.urls import reverse

from billing.models import SaleRound, TokenFacts
from billing.services import sale_gates

NTC = 10**9


@pytest.fixture
def open_sale(db) -> SaleRound:
    """Round 1 is open at 0.10 USD, and the chain worker has looked."""
    SaleRound.objects.filter(number=1).update(
        price_nano_usd=100_000_000, opened_at=datetime(2026, 1, 1, tzinfo=UTC), sold_units=1_234_567 * NTC
    )
    values = {
        "chain_id": "31337", "supply": str(25_000_000 * NTC), "vault_balance": str(5_000_000 * NTC), "settlement_balance": "0",
        "stablecoin_symbol": "tUSD", "stablecoin_decimals": "6", "stablecoin_cost": "100000", "wei_cost": str(4 * 10**13),
        **dict.fromkeys(("intercoin", "sale", "vault", "settlement", "timelock", "stablecoin", "ether_feed", "ntc_feed", "treasury"), "0x" + "ab" * 20),
    }  # fmt: skip
    TokenFacts.objects.create(pk=1, values=values, block_number=12, checked_at=datetime.now(UTC))
    return SaleRound.objects.get(pk=1)


def page(client, name: str, **query: object) -> str:
    answer = client.get(reverse(name), query)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_rounds_are_table_1(client, db):
    text = page(client, "sale")
    for words in (
        "Interchain demo-able",
        "2017-12-15",
        "10,000,000 NTC",
        "3,000,000 NTC",
        "7,000,000 NTC",
        "No round is open now",
    ):
        assert words in text


def test_the_open_round_says_sold_left_price_and_the_cap_of_the_next(client, open_sale, cast):
    client.force_login(cast.buyer)
    text = page(client, "sale")
    for words in (
        "1,234,567 NTC sold",
        "8,765,433 NTC",
        "$0.10",
        "≤ $0.30",
        "Buy by card",
        "Buy from your wallet",
    ):
        assert words in text


def test_a_visitor_is_asked_to_sign_up(client, open_sale):
    text = page(client, "sale")
    assert "Sign up" in text
    assert "Continue to payment" not in text


def test_prices_of_both_ways(client, open_sale):
    assert "<strong>100.00 NTC</strong> for <strong>$10.00</strong>" in page(
        client, "sale_price", unit="usd", amount="10"
    )
    fields = {"ntc": "100", "destination": "portal", "method": "permit", "slippage": "1"}
    assert "10.00 tUSD" in page(client, "sale_wallet_price", asset="stablecoin", **fields)
    ether = page(client, "sale_wallet_price", asset="ether", **fields)
    assert "0.004 ETH" in ether
    assert "at least 99.00 NTC" in ether


def test_the_gates_are_asked_on_the_page(client, open_sale, cast, now):
    terms = sale_gates.publish_terms(version="1", text="Mind <the> risk.", by=cast.staff, now=now)
    sale_gates.set_rules(
        quota_units=50 * NTC, terms_required=True, country_required=True, refused="KP", paused=False, by=cast.staff
    )
    client.force_login(cast.buyer)
    assert "Mind &lt;the&gt; risk." in page(client, "sale")
    answer = client.post(reverse("sale_declare"), {"country": "DE", "terms_id": terms.pk})
    assert answer.status_code == 400  # not accepted
    answer = client.post(reverse("sale_declare"), {"country": "DE", "terms": "on", "terms_id": terms.pk})
    assert answer.status_code == 302
    assert "You have 50.00 NTC of it left" in page(client, "sale")
    refused = client.post(reverse("sale_card"), {"unit": "ntc", "amount": "51"})
    assert refused.status_code == 400
    assert "you have 50.00 NTC left" in refused.content.decode()


def test_the_token_page_before_and_after_the_chain_was_read(client, db):
    text = page(client, "token")
    assert "not read from the chain yet" in text
    for words in ("Fraud detection AI algorithms", "would make 150", "five parts that make 50"):
        assert words in text


def test_the_token_page_shows_the_chain(client, open_sale):
    text = page(client, "token")
    for words in ("25,000,000 NTC", "at block 12", "known when round 3 opens", "nothing observed yet", "Not met"):
        assert words in text


def test_nobody_sees_anothers_purchase(client, open_sale, cast, now, stripe):
    from billing.services import sale_purchases, topups

    quote = sale_purchases.quote(user=cast.buyer, cents=1000, now=now)
    payment = topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=now)
    url = payment.get_absolute_url()
    assert url.startswith("/sale/purchases/")
    client.force_login(cast.buyer)
    assert "Waiting for Stripe" in client.get(url).content.decode()
    assert "100.00 NTC" in page(client, "sale_purchases")
    assert client.get(reverse("payment_detail", args=[payment.pk])).url == url
    client.force_login(cast.stranger)
    for path in (url, f"{url}status/"):
        assert client.get(path).status_code == 404
    assert "100.00 NTC" not in page(client, "sale_purchases")
