"""The pages about money: each shows what it should to its person, and nothing to a stranger."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import Payment, Quote
from billing.services import accounts, charges, ledger, topups
from billing.services.ledger import Line, Posting

NTC = 10**9


@pytest.fixture
def buyer(client, cast) -> Client:
    client.force_login(cast.buyer)
    return client


@pytest.fixture
def stranger(cast) -> Client:
    other = Client()
    other.force_login(cast.stranger)
    return other


@pytest.fixture
def entries(cast, now):
    """Give the buyer `count` entries in the balance."""

    def make(count: int) -> None:
        escrow, purse = accounts.platform_account("escrow"), accounts.user_account(cast.buyer.pk, "available")
        ledger.post(
            postings=[
                Posting(f"e{n}", "test", (Line(escrow, -NTC), Line(purse, NTC)), now, f"Entry number {n}.")
                for n in range(count)
            ],
            now=now,
        )

    return make


PAGES = ["buy_ntc", "payments", "ledger", "ledger_csv", "earnings", "balance", "price_preview"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_need_a_login(client, db, name):
    answer = client.get(reverse(name))
    assert answer.status_code == 302
    assert reverse("account_login") in answer["location"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_open_on_an_empty_site(buyer, name):
    assert buyer.get(reverse(name)).status_code == 200


def test_the_whole_way(buyer, stripe, stocked_desk, cast, now):
    """Amount → locked price → Stripe → waiting page → balance, as a browser without JavaScript does it."""
    page = buyer.get(reverse("buy_ntc")).content.decode()
    assert "$2.50 per NTC" in page
    answer = buyer.post(reverse("buy_ntc"), {"unit": "usd", "amount": "10"})
    quote = Quote.objects.get()
    assert answer["location"] == reverse("quote_detail", args=[quote.pk])
    page = buyer.get(answer["location"]).content.decode()
    assert "4.00 NTC" in page
    assert re.search(r'data-countdown="(899|900)"', page)
    answer = buyer.post(reverse("quote_detail", args=[quote.pk]))
    payment = Payment.objects.get()
    assert answer["location"] == payment.session_url
    page = buyer.get(reverse("payment_detail", args=[payment.pk])).content.decode()
    assert "Waiting for Stripe" in page
    assert 'hx-trigger="every 2s"' in page
    back = stripe.pay(payment.session_url)
    assert back.headers["location"].endswith(reverse("payment_detail", args=[payment.pk]))
    topups.sync_payment(payment_id=payment.pk, now=now)
    fragment = buyer.get(reverse("payment_status", args=[payment.pk])).content.decode()
    assert "arrived in your balance" in fragment
    assert "every 2s" not in fragment
    assert "4.00 NTC" in buyer.get(reverse("balance")).content.decode()
    assert "Bought for $10.00 by card" in buyer.get(reverse("ledger")).content.decode()
    assert payment.get_absolute_url() in buyer.get(reverse("payments")).content.decode()
    again = buyer.get(reverse("quote_detail", args=[quote.pk]))
    assert again["location"] == payment.get_absolute_url()


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"unit": "usd", "amount": ""}, "required"),
        ({"unit": "usd", "amount": "abc"}, "number"),
        ({"unit": "usd", "amount": "10.005"}, "two decimals"),
        ({"unit": "usd", "amount": "0.50"}, "Buy for $1.00"),
        ({"unit": "usd", "amount": "NaN"}, "number"),
        ({"unit": "ntc", "amount": "2000"}, "1,000.00 NTC left"),
        ({"unit": "gold", "amount": "5"}, "valid choice"),
    ],
)
def test_amounts_that_cannot_be(buyer, stocked_desk, form, words):
    answer = buyer.post(reverse("buy_ntc"), form)
    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert not Quote.objects.exists()


def test_the_price_is_shown_while_typing_and_locks_nothing(buyer, stocked_desk):
    text = buyer.get(reverse("price_preview"), {"unit": "ntc", "amount": "2"}).content.decode()
    assert "$5.00" in text
    assert "two decimals" in buyer.get(reverse("price_preview"), {"unit": "usd", "amount": "1.234"}).content.decode()
    assert not Quote.objects.exists()


def test_an_old_quote_offers_a_new_one(buyer, stripe, stocked_desk, cast):
    buyer.post(reverse("buy_ntc"), {"unit": "usd", "amount": "10"})
    quote = Quote.objects.get()
    Quote.objects.update(expires_at=quote.created_at - timedelta(seconds=1))
    page = buyer.get(reverse("quote_detail", args=[quote.pk])).content.decode()
    assert "Ask for a new price" in page
    answer = buyer.post(reverse("quote_detail", args=[quote.pk]))
    assert answer.status_code == 409
    assert "locked for a while" in answer.content.decode()


def test_while_stripe_is_down_the_page_says_so(buyer, stripe, stocked_desk, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    buyer.post(reverse("buy_ntc"), {"unit": "usd", "amount": "10"})
    answer = buyer.post(reverse("quote_detail", args=[Quote.objects.get().pk]))
    assert answer.status_code == 503
    assert "Nothing was charged" in answer.content.decode()


def test_a_stranger_sees_none_of_it(buyer, stranger, checkout, entries):
    payment = checkout()
    entries(3)
    for name, args in [
        ("quote_detail", [payment.quote_id]),
        ("payment_detail", [payment.pk]),
        ("payment_status", [payment.pk]),
        ("api_payment", [payment.pk]),
    ]:
        assert buyer.get(reverse(name, args=args)).status_code == 200
        assert stranger.get(reverse(name, args=args)).status_code == 404
    assert stranger.post(reverse("quote_detail", args=[payment.quote_id])).status_code == 404
    assert stranger.post(reverse("api_checkout", args=[payment.quote_id])).status_code == 404
    assert "Entry number" not in stranger.get(reverse("ledger")).content.decode()
    assert "Entry number" not in stranger.get(reverse("ledger_csv")).content.decode()
    assert stranger.get(reverse("api_ledger")).json()["entries"] == []
    assert str(payment.pk) not in stranger.get(reverse("payments")).content.decode()


def test_the_statement_is_paged_with_a_constant_number_of_queries(buyer, entries, django_assert_max_num_queries):
    entries(120)
    seen: list[str] = []
    url = reverse("ledger")
    while url:
        with django_assert_max_num_queries(8):
            page = buyer.get(url).content.decode()
        seen += re.findall(r"Entry number (\d+)\.", page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        url = reverse("ledger") + older[1].replace("&amp;", "&") if older else ""
    assert seen == [str(n) for n in range(119, -1, -1)]


def test_the_csv_holds_every_entry_and_no_formula(buyer, entries, cast, now):
    entries(60)
    escrow, purse = accounts.platform_account("escrow"), accounts.user_account(cast.buyer.pk, "available")
    evil = Posting("evil", "test", (Line(escrow, -1), Line(purse, 1)), now, '=HYPERLINK("http://evil")')
    ledger.post(postings=[evil], now=now)
    answer = buyer.get(reverse("ledger_csv"))
    lines = answer.content.decode().splitlines()
    assert len(lines) == 62
    assert lines[1].split(",")[8] == "60.000000001"
    assert "'=HYPERLINK" in lines[1]
    assert "attachment" in answer["Content-Disposition"]


@pytest.mark.parametrize("query", ["?account=nonsense", "?before=x", "?before=99999999999999999999", "?account="])
def test_odd_addresses_are_harmless(buyer, entries, query):
    entries(1)
    for name in ("ledger", "ledger_csv"):
        assert buyer.get(reverse(name) + query).status_code == 200


def test_the_owner_sees_earnings_by_day(client, cast, now):
    funds = (
        ledger.Line(accounts.platform_account("escrow"), -2 * NTC),
        ledger.Line(accounts.user_account(cast.publisher.pk, "available"), 2 * NTC),
    )
    ledger.post(postings=[ledger.Posting("funds", "test", funds, now)], now=now)
    charge = charges.UsageCharge("c", cast.publisher.pk, cast.owner.pk, 5 * NTC, 0, now, "lease:1")
    charges.charge_usage(charges=[charge], now=now)
    client.force_login(cast.owner)
    page = client.get(reverse("earnings")).content.decode()
    assert "5.00 NTC" in page
    assert f"{now:%Y-%m-%d}" in page
    assert "in 2" in page  # becomes free in 23 h
    assert "3.00 NTC of it waits longer" in page
    client.force_login(cast.publisher)
    assert "You owe 3.00 NTC" in client.get(reverse("ledger")).content.decode()


def test_staff_read_the_ledger_and_refund(client, bought, cast):
    payment = bought()
    client.force_login(cast.staff)
    for model in ("account", "transaction", "payment", "stripeevent", "quote", "deskrate"):
        assert client.get(reverse(f"admin:billing_{model}_changelist")).status_code == 200
        assert client.get(reverse(f"admin:billing_{model}_changelist"), {"q": "x"}).status_code == 200
    transaction = Payment.objects.get() and ledger.Transaction.objects.get(kind="ntc_purchase")
    page = client.get(reverse("admin:billing_transaction_change", args=[transaction.pk])).content.decode()
    assert "4.00 NTC" in page
    assert "$10.00" in page
    assert client.post(reverse("admin:billing_transaction_change", args=[transaction.pk])).status_code == 403
    assert client.post(reverse("admin:billing_transaction_delete", args=[transaction.pk])).status_code == 403
    for action in ("ask_stripe_again", "refund_in_full", "refund_in_full"):
        form = {"action": action, "_selected_action": [str(payment.pk)]}
        answer = client.post(reverse("admin:billing_payment_changelist"), form, follow=True)
    assert "can be refunded once it is paid" in answer.content.decode()
    payment.refresh_from_db()
    assert payment.state == "refunded"


def test_the_admin_is_not_for_everybody(stranger, bought):
    bought()
    for model in ("account", "transaction", "payment", "deskrate"):
        assert stranger.get(reverse(f"admin:billing_{model}_changelist")).status_code == 302
