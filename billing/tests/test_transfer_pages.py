"""The pages and the API of deposits and withdrawals: what people do there, and what strangers may not."""

from __future__ import annotations

import time

import pytest
from allauth.account.internal.flows import login
from allauth.account.internal.userkit import user_id_to_str
from allauth.mfa.models import Authenticator
from django.urls import reverse
from rest_framework.test import APIClient

from billing.models import UnassignedDeposit, Withdrawal
from billing.services import deposits, withdrawals
from billing.tests.settling import NTC, World, balance, new_address
from billing.tests.test_deposits import NOBODYS, event
from billing.tests.withdrawing import ask, fund, newest_code


@pytest.fixture
def funded(fake: World, cast, client) -> World:
    fund(fake, cast.publisher, 100)
    client.force_login(cast.publisher)
    return fake


def test_a_new_address_is_compared_first_then_confirmed_with_the_code(funded: World, cast, client):
    fields = {"amount": "40", "wallet": "0", "address": new_address()}
    compare = client.post(reverse("withdraw"), fields)
    assert b"Compare it with your wallet" in compare.content
    assert not Withdrawal.objects.exists()
    page = client.post(reverse("withdraw"), {**fields, "confirmed": "true"}, follow=True)
    assert b"We sent a code to" in page.content
    withdrawal = Withdrawal.objects.get()
    done = client.post(reverse("withdrawal_detail", args=[withdrawal.pk]), {"code": newest_code()}, follow=True)
    assert b"Goes into the next epoch" in done.content
    assert balance("withdrawing", cast.publisher) == 40 * NTC


def test_a_known_address_needs_no_second_look(funded: World, cast, client):
    wallet = funded.link(cast.publisher)
    page = client.post(reverse("withdraw"), {"amount": "40", "wallet": str(wallet.pk)}, follow=True)
    assert page.redirect_chain
    assert Withdrawal.objects.get().wallet == wallet


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"amount": "101"}, "at most 100.00 NTC"),
        ({"amount": "0.5"}, "at least 1.00 NTC"),
        ({"amount": "0.0000000001"}, "decimal places"),
        ({"amount": "40", "address": "0x12"}, "not an Ethereum address"),
        ({"amount": "40", "address": ""}, "Choose one of your addresses"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(funded: World, client, fields, said):
    given = {"wallet": "0", "address": new_address(), "confirmed": "true", **fields}
    page = client.post(reverse("withdraw"), given)
    assert page.status_code in (400, 409)
    assert said in page.content.decode()


def test_a_wrong_code_is_said_beside_its_field(funded: World, cast, client):
    withdrawal = ask(funded, cast.publisher, 40)
    page = client.post(reverse("withdrawal_detail", args=[withdrawal.pk]), {"code": "1"})
    assert page.status_code == 400
    assert b"This code is not right" in page.content


def test_it_is_cancelled_on_its_page(funded: World, cast, client):
    withdrawal = ask(funded, cast.publisher, 40)
    page = client.post(reverse("withdrawal_cancel", args=[withdrawal.pk]), follow=True)
    assert b"is cancelled" in page.content
    assert b"Cancel the withdrawal" not in page.content


def passkey_used(client, person, *, at: float) -> None:
    """Write what allauth notes when a passkey was used again."""
    session = client.session
    used = {"method": "mfa", "type": Authenticator.Type.WEBAUTHN, "at": at, "reauthenticated": True}
    session[login.AUTHENTICATION_METHODS_SESSION_KEY] = [used]
    session[login._AUTHENTICATION_METHODS_USER_SESSION_KEY] = user_id_to_str(person)
    session.save()


def test_a_passkey_confirms_when_it_was_used_since(funded: World, cast, client):
    Authenticator.objects.create(user=cast.publisher, type=Authenticator.Type.WEBAUTHN, data={})
    withdrawal = ask(funded, cast.publisher, 40)
    page = client.get(reverse("withdrawal_detail", args=[withdrawal.pk]))
    assert b"Use a passkey instead" in page.content
    path = reverse("withdrawal_passkey", args=[withdrawal.pk])
    asked = client.get(path)
    assert asked.url.startswith(reverse("mfa_reauthenticate_webauthn"))
    passkey_used(client, cast.publisher, at=withdrawal.asked_at.timestamp() - 1)
    assert client.get(path).url.startswith(
        reverse("mfa_reauthenticate_webauthn")
    )  # before it was asked for: not enough
    assert balance("withdrawing", cast.publisher) == 0
    passkey_used(client, cast.publisher, at=time.time() + 1)
    client.get(path)
    assert balance("withdrawing", cast.publisher) == 40 * NTC


@pytest.mark.parametrize("name", ["withdrawal_detail", "withdrawal_status", "withdrawal_passkey"])
def test_the_stranger_finds_nothing(funded: World, cast, client, name):
    withdrawal = ask(funded, cast.publisher, 40)
    client.force_login(cast.stranger)
    assert client.get(reverse(name, args=[withdrawal.pk])).status_code == 404
    assert client.post(reverse("withdrawal_cancel", args=[withdrawal.pk])).status_code == 404
    assert client.post(reverse("withdrawal_code", args=[withdrawal.pk])).status_code == 404
    assert withdrawal.wallet.address.encode() not in client.get(reverse("withdraw")).content


def api(person) -> APIClient:
    client = APIClient()
    client.force_authenticate(person)
    return client


def test_a_program_withdraws(funded: World, cast):
    publisher = api(cast.publisher)
    address = new_address()
    asked = publisher.post("/api/v1/withdrawals", {"ntc": "40", "address": address}, format="json")
    assert (asked.status_code, asked.json()["state"], asked.json()["address"]) == (201, "asked", address)
    path = f"/api/v1/withdrawals/{asked.json()['id']}"
    assert publisher.post(f"{path}/confirm", {"code": "000"}, format="json").json()["code"] == "wrong_code"
    done = publisher.post(f"{path}/confirm", {"code": newest_code()}, format="json").json()
    assert (done["state"], done["ntc"]) == ("confirmed", "40.000000000")
    assert publisher.get("/api/v1/balance").json()["withdrawing"] == "40.000000000"
    assert publisher.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert publisher.get("/api/v1/withdrawals").json() == [publisher.get(path).json()]
    assert api(cast.stranger).get(path).status_code == 404
    assert api(cast.stranger).get("/api/v1/withdrawals").json() == []


def test_a_program_learns_where_to_deposit(funded: World, cast):
    told = api(cast.publisher).get("/api/v1/deposits").json()
    assert (told["contract"], told["deposits"]) == (funded.deployment.settlement, [])
    assert told["reference"] != api(cast.stranger).get("/api/v1/deposits").json()["reference"]


def test_a_program_sets_the_threshold(fake: World, cast):
    owner = api(cast.owner)
    assert owner.get("/api/v1/wallet/auto-claim").json() == {"threshold": None}
    assert owner.put("/api/v1/wallet/auto-claim", {"threshold": "2.5"}, format="json").json() == {
        "threshold": "2.500000000"
    }
    assert owner.put("/api/v1/wallet/auto-claim", {"threshold": None}, format="json").json() == {"threshold": None}
    assert owner.put("/api/v1/wallet/auto-claim", {"threshold": "-1"}, format="json").status_code == 400


def test_staff_give_a_deposit_to_its_owner_in_the_admin(fake: World, cast, client):
    deposits.book(event(fake, NOBODYS, 7), now=fake.now)
    row = UnassignedDeposit.objects.get()
    client.force_login(cast.staff)
    path = reverse("admin:billing_unassigneddeposit_change", args=[row.pk])
    assert NOBODYS.encode() in client.get(path).content
    client.post(path, {"user": cast.publisher.pk})
    assert balance("available", cast.publisher) == 7 * NTC
    row.refresh_from_db()
    assert row.assigned_by == cast.staff
    client.post(path, {"user": cast.stranger.pk})
    assert balance("available", cast.stranger) == 0


@pytest.mark.parametrize("name", ["withdrawal", "wallet", "gasquote", "unassigneddeposit"])
def test_staff_read_the_lists(fake: World, cast, client, name):
    fund(fake, cast.publisher, 100)
    withdrawal = ask(fake, cast.publisher, 40)
    client.force_login(cast.staff)
    assert client.get(reverse(f"admin:billing_{name}_changelist")).status_code == 200
    if name == "wallet":
        page = client.get(reverse("admin:billing_wallet_change", args=[withdrawal.wallet_id]))
        assert b"Nothing to pay." in page.content
    assert withdrawals.subject(withdrawal)
