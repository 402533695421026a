"""The stand-in's Connect behaves as Stripe does, seen through the official SDK.

Longer than 300 lines because every call of Connect we make is held to the SDK here.
"""

from __future__ import annotations

import time

import httpx
import pytest
import stripe as sdk
from stripe import StripeClient

from billing.tests.test_stripe_standin import paid

pytestmark = pytest.mark.verification
CONTROLLER = {
    "fees": {"payer": "application"},
    "losses": {"payments": "application"},
    "requirement_collection": "stripe",
    "stripe_dashboard": {"type": "express"},
}


@pytest.fixture
def client(stripe) -> StripeClient:
    return StripeClient("sk_test_contract", base_addresses={"api": stripe.url}, max_network_retries=0)


def account_params(**more) -> dict:
    return {
        "country": "US",
        "email": "owner@example.com",
        "controller": CONTROLLER,
        "capabilities": {"transfers": {"requested": True}},
        "settings": {"payouts": {"schedule": {"interval": "manual"}}},
        "metadata": {"reference": "7"},
        **more,
    }


def link(client, account) -> str:
    params = {
        "account": account.id,
        "type": "account_onboarding",
        "return_url": "http://p/back",
        "refresh_url": "http://p/again",
    }
    return client.v1.account_links.create(params).url


def onboarded(client, stripe, **fields) -> sdk.Account:
    account = client.v1.accounts.create(account_params())
    assert stripe.onboard(link(client, account), **fields).headers["location"] == "http://p/back"
    return client.v1.accounts.retrieve(account.id)


@pytest.fixture
def funded(client, stripe):
    """A platform balance of at least 1,000 dollars."""
    stripe.act("top-up", "platform", amount="1000")


def test_a_new_account_wants_everything(client):
    account = client.v1.accounts.create(account_params())
    assert (account.type, account.country, account.metadata["reference"]) == ("express", "US", "7")
    assert (account.details_submitted, account.payouts_enabled, account.charges_enabled) == (False, False, False)
    assert "external_account" in account.requirements.currently_due
    assert account.capabilities.transfers == "inactive"
    assert account.settings.payouts.schedule.interval == "manual"
    assert not account.external_accounts.data


def test_onboarding_enables_payouts_and_tells(client, stripe):
    account = onboarded(client, stripe)
    assert (account.details_submitted, account.payouts_enabled, account.capabilities.transfers) == (
        True,
        True,
        "active",
    )
    assert not account.requirements.currently_due
    bank = account.external_accounts.data[0]
    assert (bank.object, bank.last4, bank.currency, bank.routing_number) == ("bank_account", "6789", "usd", "110000000")
    told = [event for event in stripe.events("account.updated") if event["account"] == account.id]
    assert told[-1]["data"]["object"]["payouts_enabled"]
    assert "standin" not in told[-1]["data"]["object"]


def test_a_link_works_once(client, stripe):
    account = client.v1.accounts.create(account_params())
    url = link(client, account)
    page = httpx.get(url)
    assert page.status_code == 200
    assert "Get paid to your bank" in page.text
    assert httpx.get(url).headers["location"] == "http://p/again"


def test_finishing_later_changes_nothing(client, stripe):
    account = client.v1.accounts.create(account_params())
    assert stripe.onboard(link(client, account), answer="later").headers["location"] == "http://p/back"
    assert not client.v1.accounts.retrieve(account.id).details_submitted


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"routing": "021000021"}, "110000000"),
        ({"number": "12345678"}, "test account numbers only"),
        ({"born": "31/01/1990"}, "YYYY-MM-DD"),
        ({"ssn": "12"}, "last four"),
        ({"country": "XX"}, "one of the countries"),
        ({"name": ""}, "your name"),
    ],
)
def test_typing_mistakes(client, stripe, fields, words):
    account = client.v1.accounts.create(account_params())
    answer = stripe.onboard(link(client, account), **fields)
    assert answer.status_code == 400
    assert words in answer.text
    assert 'role="alert"' in answer.text


def test_a_refused_identity_can_be_mended(client, stripe):
    account = onboarded(client, stripe, ssn="1111")
    assert (account.payouts_enabled, account.requirements.currently_due) == (False, ["individual.ssn_last_4"])
    assert account.requirements.errors[0].code == "verification_failed_keyed_identity"
    stripe.onboard(link(client, account))
    assert client.v1.accounts.retrieve(account.id).payouts_enabled


def test_a_slow_verification_is_pending(client, stripe):
    account = onboarded(client, stripe, ssn="2222")
    assert account.requirements.disabled_reason == "requirements.pending_verification"
    assert account.requirements.pending_verification
    stripe.act("verify", account.id)
    assert client.v1.accounts.retrieve(account.id).payouts_enabled


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"country": "XX"}, "not currently supported"),
        ({"controller": {**CONTROLLER, "stripe_dashboard": {"type": "none"}}}, "express only"),
        ({"controller": {**CONTROLLER, "requirement_collection": "application"}}, "Stripe must collect"),
        ({"capabilities": {}}, "transfers"),
        ({"colour": "red"}, "unknown parameter"),
    ],
)
def test_bad_accounts_are_refused(client, change, words):
    with pytest.raises(sdk.InvalidRequestError, match=words):
        client.v1.accounts.create(account_params(**change))


def test_transfers_move_the_balances(client, stripe, funded):
    account = onboarded(client, stripe)
    before = client.v1.balance.retrieve().available[0].amount
    params = {"amount": 2500, "currency": "usd", "destination": account.id, "transfer_group": "g1"}
    transfer = client.v1.transfers.create(params, {"idempotency_key": f"t-{account.id}"})
    assert client.v1.transfers.create(params, {"idempotency_key": f"t-{account.id}"}).id == transfer.id
    assert (transfer.amount, transfer.amount_reversed, transfer.reversed) == (2500, 0, False)
    assert client.v1.balance.retrieve().available[0].amount == before - 2500
    theirs = client.v1.balance.retrieve({}, {"stripe_account": account.id})
    assert theirs.available[0].amount == 2500
    [found] = client.v1.transfers.list({"destination": account.id}).data
    assert found.id == client.v1.transfers.retrieve(transfer.id).id == transfer.id
    line = client.v1.balance_transactions.retrieve(transfer.balance_transaction)
    assert (line.type, line.amount, line.fee, line.net, line.source) == ("transfer", -2500, 0, -2500, transfer.id)


def test_a_transfer_comes_back_as_far_as_the_balance_goes(client, stripe, funded):
    account = onboarded(client, stripe)
    transfer = client.v1.transfers.create({"amount": 1000, "currency": "usd", "destination": account.id})
    back = client.v1.transfers.reversals.create(transfer.id, {"amount": 400})
    assert (back.object, back.amount, back.transfer) == ("transfer_reversal", 400, transfer.id)
    client.v1.payouts.create({"amount": 500, "currency": "usd"}, {"stripe_account": account.id})
    with pytest.raises(sdk.InvalidRequestError) as error:
        client.v1.transfers.reversals.create(transfer.id, {"amount": 600})
    assert error.value.code == "balance_insufficient"
    client.v1.transfers.reversals.create(transfer.id, {"amount": 100})
    assert client.v1.transfers.retrieve(transfer.id).amount_reversed == 500


def test_what_the_platform_does_not_have_it_cannot_send(client, stripe):
    account = onboarded(client, stripe)
    too_much = client.v1.balance.retrieve().available[0].amount + 1
    params = {"amount": max(1, too_much), "currency": "usd", "destination": account.id}
    with pytest.raises(sdk.InvalidRequestError) as error:
        client.v1.transfers.create(params, {"idempotency_key": f"poor-{account.id}"})
    assert error.value.code == "balance_insufficient"
    stripe.act("top-up", "platform", amount="100")
    with pytest.raises(sdk.InvalidRequestError):  # the key remembers the refusal, as Stripe's keys do
        client.v1.transfers.create(params, {"idempotency_key": f"poor-{account.id}"})
    assert client.v1.transfers.create(params, {"idempotency_key": f"poor-{account.id}-2"}).amount == params["amount"]


def test_nothing_is_sent_to_an_account_that_is_not_ready(client, funded):
    account = client.v1.accounts.create(account_params())
    with pytest.raises(sdk.InvalidRequestError) as error:
        client.v1.transfers.create({"amount": 100, "currency": "usd", "destination": account.id})
    assert error.value.code == "insufficient_capabilities_for_transfer"
    with pytest.raises(sdk.InvalidRequestError) as error:
        client.v1.payouts.create({"amount": 100, "currency": "usd"}, {"stripe_account": account.id})
    assert error.value.code == "payouts_not_allowed"


def sent(client, stripe, number: str = "000123456789", cents: int = 2000):
    account = onboarded(client, stripe, number=number)
    client.v1.transfers.create({"amount": cents, "currency": "usd", "destination": account.id})
    params = {"amount": cents, "currency": "usd", "metadata": {"reference": "r1"}}
    options = {"stripe_account": account.id}
    return account, client.v1.payouts.create(params, options), options


def test_a_payout_arrives(client, stripe, funded):
    account, payout, options = sent(client, stripe)
    assert (payout.status, payout.method, payout.type) == ("in_transit", "standard", "bank_account")
    assert payout.arrival_date > time.time()
    stripe.act("arrive", payout.id)
    payout = client.v1.payouts.retrieve(payout.id, {}, options)
    assert (payout.status, payout.failure_code) == ("paid", None)
    assert client.v1.balance.retrieve({}, options).available[0].amount == 0
    [event] = [e for e in stripe.events("payout.paid") if e["data"]["object"]["id"] == payout.id]
    assert event["account"] == account.id
    with pytest.raises(sdk.InvalidRequestError):  # it is the account's, not the platform's
        client.v1.payouts.retrieve(payout.id)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("000111111116", "no_account"),
        ("000111111113", "account_closed"),
        ("000222222227", "insufficient_funds"),
        ("000333333335", "debit_not_authorized"),
        ("000444444440", "invalid_currency"),
    ],
)
def test_banks_that_refuse(client, stripe, funded, number, code):
    account, payout, options = sent(client, stripe, number)
    stripe.act("arrive", payout.id)
    payout = client.v1.payouts.retrieve(payout.id, {}, options)
    assert (payout.status, payout.failure_code) == ("failed", code)
    assert payout.failure_message
    assert client.v1.balance.retrieve({}, options).available[0].amount == 2000
    account = client.v1.accounts.retrieve(account.id)
    assert (account.payouts_enabled, account.external_accounts.data[0].status) == (False, "errored")
    assert account.requirements.currently_due == ["external_account"]
    page = client.v1.accounts.login_links.create(account.id).url
    httpx.post(page, data={"routing": "110000000", "number": "000123456789"})
    assert client.v1.accounts.retrieve(account.id).payouts_enabled


def test_a_bank_may_send_it_back_after_it_was_paid(client, stripe, funded):
    _, payout, options = sent(client, stripe)
    stripe.act("arrive", payout.id)
    stripe.act("bounce", payout.id)
    payout = client.v1.payouts.retrieve(payout.id, {}, options)
    assert (payout.status, payout.failure_code) == ("failed", "could_not_process")


def test_lists_go_on_page_by_page(client, stripe, funded):
    account = onboarded(client, stripe)
    for _ in range(5):
        client.v1.transfers.create({"amount": 10, "currency": "usd", "destination": account.id})
    first = client.v1.transfers.list({"destination": account.id, "limit": 2})
    assert (len(first.data), first.has_more) == (2, True)
    every = list(first.auto_paging_iter())
    assert len({transfer.id for transfer in every}) == 5
    assert not client.v1.transfers.list({"destination": account.id, "created": {"gte": int(time.time()) + 60}}).data
    with pytest.raises(sdk.InvalidRequestError):
        client.v1.transfers.list({"limit": 101})


def test_fees_are_in_the_books(client, stripe):
    charge = client.v1.charges.retrieve(paid(client, stripe).payment_intent.latest_charge.id)
    line = client.v1.balance_transactions.retrieve(charge.balance_transaction)
    assert (line.type, line.amount, line.fee, line.net, line.source) == ("charge", 1000, 59, 941, charge.id)
    assert line.fee_details[0].type == "stripe_fee"
    stripe.act("dispute", charge.id)
    [dispute] = client.v1.disputes.list({"charge": charge.id}).data
    [line] = dispute.balance_transactions
    assert (line.type, line.amount, line.fee, line.net) == ("adjustment", -1000, 1500, -2500)
    stripe.act("win", dispute.id)
    lines = client.v1.disputes.retrieve(dispute.id).balance_transactions
    assert [(line.amount, line.fee) for line in lines] == [(-1000, 1500), (1000, 0)]


def test_the_books_add_up_to_the_balance(client, stripe, funded):
    paid(client, stripe)
    _, payout, _ = sent(client, stripe, "000111111113")
    stripe.act("arrive", payout.id)
    stripe.act("withdraw", "platform", amount="10")
    lines = list(client.v1.balance_transactions.list({"limit": 100}).auto_paging_iter())
    found = client.v1.balance.retrieve()
    assert sum(line.net for line in lines) == found.available[0].amount + found.pending[0].amount
    assert {"charge", "transfer", "payout", "topup"} <= {line.type for line in lines}


def test_the_dashboard_shows_the_money(client, stripe, funded):
    _, payout, _ = sent(client, stripe)
    page = httpx.get(f"{stripe.url}/dashboard").text
    assert payout.id in page
    assert "available" in page
