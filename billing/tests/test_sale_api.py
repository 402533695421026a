"""The sale's API: what a program can do, and what a stranger cannot see."""

from __future__ import annotations

import pytest
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from billing.chain.sale import TokenSale
from billing.tests.saling import NTC, Shop, fake_shop
from billing.tests.settling import new_address

API = "/api/v1/"


@pytest.fixture
def shop(db, settings, chain_settings, stripe) -> Shop:
    found = fake_shop(settings, stripe)
    found.open()
    return found


def api(user=None) -> APIClient:
    client = APIClient()
    if user is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.get_or_create(user=user)[0].key}")
    return client


def test_rounds_and_token_are_public(shop):
    first, second, _ = api().get(f"{API}sale/rounds").json()
    assert (first["state"], first["price"], first["left"]) == ("open", "0.100000000", "10000000.000000000")
    assert (second["state"], second["price"], second["price_cap"]) == ("planned", None, "0.300000000")
    token = api().get(f"{API}token").json()
    assert (token["supply"], token["contracts"]["sale"]) == ("25000000.000000000", shop.deployment.sale)


def test_a_card_purchase(shop, cast):
    client = api(cast.buyer)
    quote = client.post(f"{API}sale/quotes", {"usd": "10.00"}, format="json")
    assert (quote.status_code, quote.json()["ntc"]) == (201, "100.000000000")
    page = client.post(f"{API}quotes/{quote.json()['id']}/checkout").json()["url"]
    shop.stripe.pay(page)
    [row] = client.get(f"{API}sale/purchases").json()
    assert row["state"] == "awaiting"
    from billing.models import Payment
    from billing.services import topups

    topups.sync_payment(payment_id=Payment.objects.get().pk, now=shop.now)
    shop.turn(3)
    row = client.get(f"{API}sale/purchases/{row['id']}").json()
    assert (row["state"], row["paid"], row["confirmations"]) == ("delivered", "$10.00", 1)
    assert row["transaction"].startswith("0x")


def test_calls_for_a_wallet_of_ones_own(shop, cast):
    wallet = new_address()
    asked = {"asset": "ether", "ntc": "100", "address": wallet}
    found = api(cast.buyer).post(f"{API}sale/calls", asked, format="json").json()
    assert (found["step"], int(found["call"]["value"], 16)) == ("buy", 4 * 10**15)
    sale = TokenSale(shop.deployment.sale)
    account = cast.buyer.chain_account.reference
    assert found["call"]["data"] == "0x" + sale.buy_with_ether(min_units=99 * NTC, account=account).data.hex()
    asked["asset"] = "stablecoin"
    assert api(cast.buyer).post(f"{API}sale/calls", asked, format="json").json()["step"] == "approve"
    asked["approved"] = True
    assert api(cast.buyer).post(f"{API}sale/calls", asked, format="json").json()["step"] == "buy"
    asked["address"] = "0x1234"
    assert api(cast.buyer).post(f"{API}sale/calls", asked, format="json").status_code == 400


def test_the_declaration(shop, cast):
    from billing.services import sale_gates

    terms = sale_gates.publish_terms(version="1", text="Words.", by=None, now=shop.now)
    sale_gates.set_rules(
        quota_units=500 * NTC, terms_required=True, country_required=True, refused="", paused=False, by=None
    )
    client = api(cast.buyer)
    assert client.get(f"{API}sale/declaration").json()["asked"] == ["country", "terms"]
    assert (
        client.post(f"{API}sale/quotes", {"usd": "10.00"}, format="json").json()["code"] == "sale_declaration_missing"
    )
    said = client.post(f"{API}sale/declaration", {"country": "de", "terms": terms.pk}, format="json").json()
    assert (said["asked"], said["quota_left"]) == ([], "500.000000000")
    assert client.post(f"{API}sale/quotes", {"usd": "60.00"}, format="json").json()["code"] == "sale_quota"


def test_a_stranger_sees_nothing(shop, cast):
    purchase = shop.checkout(cast.buyer)
    assert api(cast.stranger).get(f"{API}sale/purchases").json() == []
    assert api(cast.stranger).get(f"{API}sale/purchases/{purchase.pk}").status_code == 404
    for path in ("sale/purchases", "sale/declaration"):
        assert api().get(f"{API}{path}").status_code == 401
