"""The money API: decimal text, one error shape, a token's own money only."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.authtoken.models import Token

from billing.services import topups


@pytest.fixture
def api(cast) -> Client:
    token = Token.objects.create(user=cast.buyer)
    return Client(headers={"Authorization": f"Token {token.key}"})


def test_buying_by_program(api, stripe, stocked_desk, now):
    quote = api.post(reverse("api_quotes"), {"usd": "10.00"}, content_type="application/json")
    assert quote.status_code == 201
    body = quote.json()
    assert (body["ntc"], body["usd"], body["rate"]) == ("4.000000000", "10.00", "2.500000000")
    opened = api.post(reverse("api_checkout", args=[body["id"]]))
    payment = opened.json()
    assert (opened.status_code, payment["state"]) == (200, "open")
    stripe.pay(payment["url"])
    topups.sync_payment(payment_id=payment["id"], now=now)
    assert api.get(reverse("api_payment", args=[payment["id"]])).json()["state"] == "paid"
    assert [row["id"] for row in api.get(reverse("api_payments")).json()] == [payment["id"]]
    assert api.get(reverse("api_balance")).json()["available"] == "4.000000000"
    [entry] = api.get(reverse("api_ledger")).json()["entries"]
    assert (entry["ntc"], entry["balance"], entry["kind"]) == ("4.000000000", "4.000000000", "ntc_purchase")
    assert api.get(reverse("api_earnings")).json() == {
        "held": "0.000000000",
        "available": "0.000000000",
        "settled": "0.000000000",
        "days": [],
    }


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ({}, "invalid", 400),
        ({"usd": "10", "ntc": "1"}, "invalid", 400),
        ({"usd": "1.001"}, "invalid", 400),
        ({"usd": "-5"}, "invalid", 400),
        ({"usd": 1e30}, "invalid", 400),
        ({"ntc": "2000"}, "desk_out", 409),
        ({"usd": "0.10"}, "invalid", 400),
    ],
)
def test_refusals_have_one_shape(api, stocked_desk, body, code, status):
    answer = api.post(reverse("api_quotes"), body, content_type="application/json")
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert set(answer.json()) == {"code", "message", "fields"}


@pytest.mark.parametrize("name", ["api_balance", "api_payments", "api_ledger", "api_earnings"])
def test_nobody_without_a_token(client, db, name):
    assert client.get(reverse(name)).status_code == 401


@pytest.mark.parametrize("query", [{"account": "nonsense"}, {"before": "x"}, {"before": "0"}, {"before": str(2**70)}])
def test_odd_pages_are_refused(api, query):
    assert api.get(reverse("api_ledger"), query).status_code == 400


def test_the_schema_names_it_all(client, db):
    text = client.get(reverse("schema")).content.decode()
    for path in ("/api/v1/balance", "/api/v1/quotes", "/api/v1/payments", "/api/v1/ledger", "/api/v1/earnings"):
        assert path in text
