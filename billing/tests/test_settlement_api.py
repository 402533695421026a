"""Settlement for programs."""

from __future__ import annotations

import pytest
from eth_account import Account as Key
from eth_account.messages import encode_defunct
from rest_framework.test import APIClient

from billing.models import Claim
from billing.tests.settling import World, new_address


def api(user) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def test_epochs_are_public(fake: World, cast):
    fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    fake.settle()
    page = APIClient().get("/api/v1/epochs").json()
    assert [epoch["number"] for epoch in page["epochs"]] == [2, 1]
    one = APIClient().get("/api/v1/epochs/1").json()
    assert one == page["epochs"][1]
    assert (one["state"], one["earned"], one["accounts"], one["gas_used"]) == ("final", "5.000000000", 1, 100_000)
    assert one["transaction"].startswith("0x")
    assert page["epochs"][0]["transaction"] == ""
    assert APIClient().get("/api/v1/epochs/9").status_code == 404
    assert APIClient().get("/api/v1/epochs?before=x").status_code == 400


def test_a_program_links_claims_and_looks(fake: World, cast):
    client, address = api(cast.owner), new_address()
    linked = client.post("/api/v1/wallet", {"address": address, "confirmed": True}, format="json").json()
    assert (linked[0]["address"], linked[0]["active"], linked[0]["claimable"]) == (address, True, "0.000000000")
    fake.earn(cast.owner, 5)
    fake.settle()
    assert client.get("/api/v1/wallet").json()[0]["claimable"] == "5.000000000"
    asked = client.post("/api/v1/claims", {"wallet": linked[0]["id"]}, format="json")
    assert (asked.status_code, asked.json()["state"]) == (202, "requested")
    for _ in range(3):
        fake.round(later=1)
    done = client.get(f"/api/v1/claims/{asked.json()['id']}").json()
    assert (done["state"], done["ntc"]) == ("final", "5.000000000")
    assert client.get("/api/v1/claims").json() == [done]


def test_an_address_is_proven_with_a_signature(fake: World, cast):
    client, key = api(cast.owner), Key.create()
    text = client.get("/api/v1/wallet/challenge", {"address": key.address}).json()["message"]
    signature = "0x" + bytes(key.sign_message(encode_defunct(text=text)).signature).hex()
    linked = client.post("/api/v1/wallet", {"message": text, "signature": signature}, format="json").json()
    assert (linked[0]["address"], linked[0]["proof"]) == (key.address, "signature")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"address": "0x12", "confirmed": True},
        {"address": "0x" + "1" * 40},
        {"address": "0x" + "1" * 40, "confirmed": False},
        {"message": "hello", "signature": "0x12"},
        {"message": "hello"},
        {"address": ["list"], "confirmed": True},
    ],
)
def test_a_bad_link_is_refused_in_words(fake: World, cast, body):
    answer = api(cast.owner).post("/api/v1/wallet", body, format="json")
    assert answer.status_code == 400
    assert answer.json()["code"]
    assert answer.json()["message"]


@pytest.mark.parametrize("wallet", [0, -1, "x", None, 10**30])
def test_a_bad_claim_is_refused(fake: World, cast, wallet):
    assert api(cast.owner).post("/api/v1/claims", {"wallet": wallet}, format="json").status_code == 400


def test_the_stranger_gets_nothing(fake: World, cast):
    wallet = fake.link(cast.owner)
    fake.earn(cast.owner, 5)
    fake.settle()
    claim = api(cast.owner).post("/api/v1/claims", {"wallet": wallet.pk}, format="json").json()
    stranger = api(cast.stranger)
    assert stranger.get("/api/v1/wallet").json() == []
    assert stranger.get("/api/v1/claims").json() == []
    assert stranger.get(f"/api/v1/claims/{claim['id']}").status_code == 404
    assert stranger.post("/api/v1/claims", {"wallet": wallet.pk}, format="json").status_code == 404
    assert APIClient().get("/api/v1/wallet").status_code in (401, 403)
    assert Claim.objects.count() == 1
