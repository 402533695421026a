"""The pages and the API of cashing out: each shows what it should to its person, and nothing to a stranger.

Longer than 300 lines because pages, API and admin of one thing are asked about here.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from billing.models import CashOut, ConnectAccount
from billing.services import cash_out_rules
from billing.states import CashOutState
from billing.tests.cashing_out import NTC, advance, change_bank, earn, fund, link_bank, mailed_code, stumble
from interchain_site.core.models import StaffAlert


@pytest.fixture
def owner(client, cast) -> Client:
    client.force_login(cast.owner)
    return client


@pytest.fixture
def stranger(cast) -> Client:
    other = Client()
    other.force_login(cast.stranger)
    return other


@pytest.fixture
def ready(stripe, stocked_desk, cast, now):
    earn(cast.owner, 10 * NTC, now)
    fund(stripe, 10_000, now)
    return link_bank(stripe, cast.owner, now)


def text(answer) -> str:
    return " ".join(answer.content.decode().split())


def asked(owner, **form) -> CashOut:
    answer = owner.post(reverse("cash_out"), {"unit": "usd", "amount": "10", **form})
    assert answer.status_code == 302, text(answer)
    return CashOut.objects.get()


@pytest.mark.parametrize("name", ["cash_out", "cash_out_price", "cash_out_bank"])
def test_pages_need_a_login(client, db, name):
    answer = client.get(reverse(name))
    assert answer.status_code == 302
    assert reverse("account_login") in answer["location"]


def test_it_opens_on_an_empty_site(owner):
    page = text(owner.get(reverse("cash_out")))
    assert "Link a bank at Stripe" in page
    assert "not set" in page


def test_the_whole_way(owner, stripe, stocked_desk, cast, now):
    """Link a bank → lock a price → code → on the way → arrived, as a browser without JavaScript does it."""
    earn(cast.owner, 10 * NTC, now)
    fund(stripe, 10_000, now)
    there = owner.post(reverse("cash_out_bank"), {"country": "US"})["location"]
    assert there.startswith(f"{stripe.url}/setup/")
    assert "Answer Stripe’s questions" in text(owner.get(reverse("cash_out")))
    back = stripe.onboard(there).headers["location"]
    assert back.endswith("/cash-out/?back=stripe")
    page = text(owner.get(reverse("cash_out"), {"back": "stripe"}))
    assert "STRIPE TEST BANK ····6789" in page
    assert "Lock this price" in page
    fragment = text(owner.get(reverse("cash_out_price"), {"unit": "ntc", "amount": "4"}))
    assert "get <strong>$10.00</strong>" in fragment
    cash_out = asked(owner)
    page = text(owner.get(cash_out.get_absolute_url()))
    assert "We sent a code to owner@example.com" in page
    assert re.search(r'data-countdown="(89\d|900)"', page)
    wrong = owner.post(cash_out.get_absolute_url(), {"code": "000000x"})
    assert (wrong.status_code, "not right" in text(wrong)) == (400, True)
    assert owner.post(cash_out.get_absolute_url(), {"code": mailed_code()}).status_code == 302
    status = text(owner.get(reverse("cash_out_status", args=[cash_out.pk])))
    assert "being sent" in status
    assert 'hx-trigger="every 2s"' in status
    cash_out = advance(cash_out, now)
    page = text(owner.get(cash_out.get_absolute_url()))
    assert f"should be there by {cash_out.arrives_on:%Y-%m-%d}" in page
    stripe.act("arrive", cash_out.payout_id)
    advance(cash_out, now)
    page = text(owner.get(cash_out.get_absolute_url()))
    assert "$10.00 reached your bank" in page
    assert "every 2s" not in page
    assert cash_out.get_absolute_url() in text(owner.get(reverse("cash_out")))


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"amount": ""}, "required"),
        ({"amount": "10.001"}, "two decimals"),
        ({"amount": "1"}, "$5.00 or more"),
        ({"amount": "99"}, "10.00 NTC of earnings free"),
        ({"unit": "ntc", "amount": "11"}, "10.00 NTC of earnings free"),
        ({"unit": "gold"}, "valid choice"),
    ],
)
def test_amounts_that_cannot_be(owner, ready, form, words):
    answer = owner.post(reverse("cash_out"), {"unit": "usd", "amount": "10", **form})
    assert (answer.status_code, words in text(answer)) == (400, True)
    assert not CashOut.objects.exists()


def test_the_price_fragment_says_what_is_wrong(owner, ready):
    assert "two decimals" in text(owner.get(reverse("cash_out_price"), {"unit": "usd", "amount": "5.001"}))
    assert "earnings free" in text(owner.get(reverse("cash_out_price"), {"unit": "usd", "amount": "99"}))
    assert "Type an amount" in text(owner.get(reverse("cash_out_price")))


def test_another_code_and_cancelling(owner, ready):
    cash_out = asked(owner)
    assert owner.post(reverse("cash_out_code", args=[cash_out.pk])).status_code == 302
    assert owner.post(reverse("cash_out_cancel", args=[cash_out.pk])).status_code == 302
    cash_out.refresh_from_db()
    assert cash_out.state == CashOutState.CANCELLED
    assert "Nothing was moved" in text(owner.get(cash_out.get_absolute_url()))


def test_a_price_that_ended_is_said_to_have(owner, ready, now):
    cash_out = asked(owner)
    CashOut.objects.update(expires_at=now - timedelta(seconds=1))
    assert "time to confirm this price is over" in text(owner.get(cash_out.get_absolute_url()))
    answer = owner.post(cash_out.get_absolute_url(), {"code": mailed_code()})
    assert "not confirmed in time" in text(answer)


def test_a_mail_that_is_not_sent_is_said(owner, ready, monkeypatch):
    def broken(self):
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.EmailMessage.send", broken)
    answer = owner.post(reverse("cash_out"), {"unit": "usd", "amount": "10"}, follow=True)
    assert "could not be sent" in text(answer)


def test_without_a_fresh_passkey_one_is_sent_to_use_it(owner, ready):
    cash_out = asked(owner)
    answer = owner.get(reverse("cash_out_passkey", args=[cash_out.pk]))
    assert answer["location"].startswith(reverse("mfa_reauthenticate_webauthn"))
    cash_out.refresh_from_db()
    assert cash_out.state == CashOutState.ASKED


def test_links_of_stripe_that_were_used_up_are_made_again(owner, stripe, stocked_desk, cast):
    assert owner.get(reverse("cash_out_bank"))["location"] == reverse("cash_out")
    first = owner.post(reverse("cash_out_bank"), {"country": "US"})["location"]
    again = owner.get(reverse("cash_out_bank"))["location"]
    assert again.startswith(f"{stripe.url}/setup/")
    assert again != first
    assert ConnectAccount.objects.count() == 1


def test_a_country_we_do_not_pay_to(owner, stripe, stocked_desk):
    answer = owner.post(reverse("cash_out_bank"), {"country": "FR"})
    assert answer.status_code == 400
    assert "valid choice" in text(answer)


def test_the_persons_own_pages_at_stripe(owner, ready, stripe):
    assert owner.post(reverse("cash_out_stripe"))["location"].startswith(f"{stripe.url}/express/")


def test_without_a_bank_there_are_no_pages_at_stripe(owner, stripe):
    answer = owner.post(reverse("cash_out_stripe"))
    assert (answer.status_code, "Link a bank account first" in text(answer)) == (409, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ssn": "1111"}, "Stripe wants to know the last digits of your ID number"),
        ({"ssn": "2222"}, "being checked by Stripe"),
        ({"country": "GB", "routing": "108800", "number": "00012345"}, "This account takes GBP"),
    ],
)
def test_how_the_bank_stands(owner, stripe, stocked_desk, cast, now, fields, words):
    link_bank(stripe, cast.owner, now, **fields)
    page = text(owner.get(reverse("cash_out")))
    assert words.lower() in page.lower()
    assert "Lock this price" not in page


def test_a_bank_that_failed_is_asked_to_be_changed(owner, stripe, stocked_desk, cast, now):
    earn(cast.owner, 10 * NTC, now)
    fund(stripe, 10_000, now)
    account = link_bank(stripe, cast.owner, now, "000111111113")
    cash_out = asked(owner)
    owner.post(cash_out.get_absolute_url(), {"code": mailed_code()})
    cash_out = advance(cash_out, now)
    stripe.act("arrive", cash_out.payout_id)
    advance(cash_out, now)
    page = text(owner.get(cash_out.get_absolute_url()))
    assert "Your bank says this account is closed" in page
    assert "with your free earnings again" in page
    page = text(owner.get(reverse("cash_out"), {"back": "stripe"}))
    assert "The last payment to this account came back" in page
    change_bank(account)
    assert "Lock this price" in text(owner.get(reverse("cash_out"), {"back": "stripe"}))


def test_an_empty_desk_says_so(owner, stripe, stocked_desk, cast, now):
    earn(cast.owner, 10 * NTC, now)
    link_bank(stripe, cast.owner, now)
    assert "no US dollars left" in text(owner.get(reverse("cash_out")))


def test_a_pause_is_said_at_once(owner, ready, cast, now):
    cash_out_rules.set_rules(paused=True, least_cents=1, daily_cents=1, reserve_cents=0, by=cast.staff, now=now)
    assert "Cashing out is paused" in text(owner.get(reverse("cash_out")))


def test_a_stranger_sees_nothing(owner, stranger, ready):
    cash_out = asked(owner)
    for name in ("cash_out_detail", "cash_out_status", "cash_out_passkey"):
        assert stranger.get(reverse(name, args=[cash_out.pk])).status_code == 404
    for name in ("cash_out_detail", "cash_out_code", "cash_out_cancel"):
        assert stranger.post(reverse(name, args=[cash_out.pk]), {"code": mailed_code()}).status_code == 404
    assert "····6789" not in text(stranger.get(reverse("cash_out")))


def test_the_list_takes_a_constant_number_of_queries(owner, ready, django_assert_max_num_queries, cast, now):
    one = asked(owner)
    for _ in range(20):
        CashOut.objects.create(
            user=cast.owner, account=ready, rate=1, units=1, cents=1, created_at=now, expires_at=now, bank=one.bank
        )
    with django_assert_max_num_queries(20):
        owner.get(reverse("cash_out"))


# --- API ----------------------------------------------------------------------------------------------------------


def test_the_api_goes_the_whole_way(owner, ready, stripe, now):
    kind = {"content_type": "application/json"}
    bank = owner.get(reverse("api_cash_out_bank")).json()
    assert (bank["standing"], bank["possible_usd"]) == ("ready", "100.00")
    answer = owner.post(reverse("api_cash_outs"), {"ntc": "4"}, **kind)
    assert answer.status_code == 201
    found = answer.json()
    assert (found["usd"], found["state"], found["confirm_by"]) == ("10.00", "asked", "email")
    where = reverse("api_cash_out_confirm", args=[found["id"]])
    assert owner.post(where, {"code": "nonsense"}, **kind).json()["code"] == "wrong_code"
    assert owner.post(where, {"code": mailed_code()}, **kind).json()["state"] == "reserved"
    assert owner.post(reverse("api_cash_out_cancel", args=[found["id"]])).status_code == 409
    advance(CashOut.objects.get(), now)
    [listed] = owner.get(reverse("api_cash_outs")).json()
    assert (listed["state"], listed["arrives_on"] is not None) == ("on_the_way", True)
    assert owner.get(reverse("api_cash_out", args=[found["id"]])).json()["id"] == found["id"]


def test_the_api_links_a_bank(owner, stripe, stocked_desk):
    kind = {"content_type": "application/json"}
    assert owner.post(reverse("api_cash_out_bank"), {}, **kind).json()["fields"].keys() == {"country"}
    answer = owner.post(reverse("api_cash_out_bank"), {"country": "US"}, **kind)
    assert owner.post(reverse("api_cash_out_bank"), {}, **kind).status_code == 200  # the country is known by now
    assert answer.json()["url"].startswith(f"{stripe.url}/setup/")
    assert owner.get(reverse("api_cash_out_bank")).json()["standing"] == "begun"


def test_the_api_shows_a_stranger_nothing(owner, stranger, ready):
    cash_out = asked(owner)
    assert stranger.get(reverse("api_cash_out", args=[cash_out.pk])).status_code == 404
    assert stranger.get(reverse("api_cash_outs")).json() == []


# --- staff --------------------------------------------------------------------------------------------------------


@pytest.fixture
def staff(cast) -> Client:
    other = Client()
    other.force_login(cast.staff)
    return other


@pytest.mark.parametrize("model", ["cashout", "cashoutrules", "connectaccount", "stripemovement"])
def test_the_admin_lists(owner, staff, ready, model):
    asked(owner)
    assert staff.get(reverse(f"admin:billing_{model}_changelist")).status_code == 200


def test_staff_set_rules(staff, ready, cast):
    form = {"paused": "on", "least_cents": "100", "daily_cents": "5000", "reserve_cents": "200"}
    assert staff.get(reverse("admin:billing_cashoutrules_add")).status_code == 200
    assert staff.post(reverse("admin:billing_cashoutrules_add"), form).status_code == 302
    rules = cash_out_rules.rules()
    assert (rules.paused, rules.daily_cents, rules.set_by) == (True, 5000, cast.staff)


def test_staff_try_again_and_give_back(owner, staff, ready, stripe, cast, now, monkeypatch):
    cash_out = asked(owner)
    owner.post(cash_out.get_absolute_url(), {"code": mailed_code()})
    rest = stripe.get("balance")["available"][0]["amount"]
    stripe.act("withdraw", "platform", amount=f"{rest / 100:.2f}")

    def act(action: str) -> str:
        form = {"action": action, "_selected_action": [str(cash_out.pk)]}
        answer = staff.post(reverse("admin:billing_cashout_changelist"), form, follow=True)
        cash_out.refresh_from_db()
        return text(answer)

    assert "two minutes" in act("give_back")
    act("try_now")
    assert (cash_out.state, StaffAlert.objects.standing().exists()) == (CashOutState.RESERVED, True)
    act("give_back")
    act("try_now")
    assert cash_out.state == CashOutState.FAILED
    stripe.act("top-up", "platform", amount=f"{rest / 100:.2f}")


def test_a_dead_stripe_is_said(owner, ready, stripe, monkeypatch):
    stumble(monkeypatch, "dashboard_url", after=False)
    answer = owner.post(reverse("cash_out_stripe"))
    assert answer.status_code == 503
    assert not mail.outbox
