"""Webhooks: only Stripe's, stored once, any number of times, in any order."""

from __future__ import annotations

import itertools
import json
import time
from datetime import timedelta

import httpx
import pytest
from django.urls import reverse

from billing import queries
from billing.models import Dispute, Payment, StripeEvent, Transaction
from billing.services import sweeps, topups
from billing.states import PaymentState
from billing.stripe import gateway, webhooks
from billing.stripe.standin.delivery import signature
from billing.tasks import money as tasks
from interchain_site.core.models import AuditEvent
from interchain_site.testing.stripe import WEBHOOK_SECRET

NTC = 10**9


def deliver(client, event: dict, *, secret: str = WEBHOOK_SECRET, at: int | None = None):
    payload = json.dumps(event).encode()
    header = signature(payload, secret, at or int(time.time()))
    return client.post(
        reverse("stripe_webhook"), payload, content_type="application/json", headers={"Stripe-Signature": header}
    )


def work(now) -> None:
    """Do what the worker does for every stored event."""
    for pk in StripeEvent.objects.filter(processed_at=None).values_list("pk", flat=True):
        webhooks.process(event_id=pk, now=now)


@pytest.fixture
def events(stripe):
    """Return a function giving the events this test has caused, oldest first."""
    seen = {event["id"] for event in stripe.events()}
    return lambda: [event for event in stripe.events() if event["id"] not in seen]


def test_a_webhook_credits(client, checkout, stripe, events, cast, now):
    stripe.pay(checkout().session_url)
    for event in events():
        assert deliver(client, event).status_code == 200
    work(now)
    assert queries.available_units(cast.buyer.pk) == 4 * NTC
    assert not StripeEvent.objects.filter(processed_at=None).exists()


def test_every_event_may_come_twice(client, checkout, stripe, events, cast, now):
    stripe.pay(checkout().session_url)
    for event in events() * 3:
        assert deliver(client, event).status_code == 200
    work(now)
    assert StripeEvent.objects.count() == len(events())
    assert queries.available_units(cast.buyer.pk) == 4 * NTC
    assert Transaction.objects.filter(kind="ntc_purchase").count() == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_any_order_comes_to_the_same(client, checkout, stripe, events, cast, now, order):
    """Payment, partial refund and dispute, heard of in every order; and worked on one by one."""
    payment = checkout()
    stripe.pay(payment.session_url)
    session = stripe.get(f"checkout/sessions/{payment.session_id}")
    charge = stripe.get(f"payment_intents/{session['payment_intent']}")["latest_charge"]
    stripe.act("refund", charge, amount="2.50")
    stripe.act("dispute", charge)
    kinds = ("checkout.session.completed", "charge.refunded", "charge.dispute.created")
    by_kind = {event["type"]: event for event in events()}
    for position in order:
        deliver(client, by_kind[kinds[position]])
        work(now)
    found = queries.balances(cast.buyer.pk)
    assert (found.available, found.frozen, found.owed) == (0, 3 * NTC, 0)
    assert queries.platform_balance("desk_inventory") == 997 * NTC


def test_a_dispute_heard_of_first_brings_the_payment_with_it(client, checkout, stripe, events, cast, now):
    stripe.pay(checkout().session_url, "4000000000000259")
    for _ in range(100):
        if found := [event for event in events() if event["type"] == "charge.dispute.created"]:
            break
        time.sleep(0.05)
    deliver(client, found[0])
    work(now)
    assert Dispute.objects.get().units == 4 * NTC
    assert queries.balances(cast.buyer.pk).frozen == 4 * NTC


def test_an_expiry_frees_the_stock(client, checkout, stripe, events, now):
    payment = checkout()
    gateway.expire_checkout(payment.session_id)
    [event] = events()
    deliver(client, event)
    work(now)
    payment.refresh_from_db()
    assert payment.state == PaymentState.EXPIRED


def test_the_session_is_learned_from_the_webhook_when_its_answer_was_lost(client, checkout, stripe, events, cast, now):
    payment = checkout()
    stripe.pay(payment.session_url)
    Payment.objects.filter(pk=payment.pk).update(state="created", session_id=None, session_url="")
    deliver(client, next(e for e in events() if e["type"] == "checkout.session.completed"))
    work(now)
    assert queries.available_units(cast.buyer.pk) == 4 * NTC


@pytest.mark.parametrize(
    "forge",
    [
        {"secret": "whsec_wrong"},
        {"at": int(time.time()) - 3600},
    ],
    ids=["another secret", "replayed an hour later"],
)
def test_what_stripe_did_not_sign_now_is_refused(client, checkout, stripe, events, forge):
    stripe.pay(checkout().session_url)
    answer = deliver(client, events()[-1], **forge)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_signature"
    assert not StripeEvent.objects.exists()
    assert AuditEvent.objects.filter(action="webhook_refused").exists()


def test_a_stranger_cannot_fill_the_audit_trail(client, stripe, db):
    for _ in range(5):
        assert client.post(reverse("stripe_webhook"), b"{}", content_type="application/json").status_code == 400
    assert AuditEvent.objects.filter(action="webhook_refused").count() == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id": "evt_1"}', b"\xff"], ids=repr)
def test_signed_nonsense_is_refused(client, stripe, db, body):
    header = signature(body, WEBHOOK_SECRET, int(time.time()))
    answer = client.post(
        reverse("stripe_webhook"), body, content_type="application/json", headers={"Stripe-Signature": header}
    )
    assert answer.status_code == 400
    assert not StripeEvent.objects.exists()


def test_an_event_of_the_other_mode_is_refused(client, checkout, stripe, events):
    stripe.pay(checkout().session_url)
    assert deliver(client, {**events()[-1], "livemode": True}).status_code == 400


def test_the_body_is_not_believed(client, checkout, stripe, events, cast, now):
    """Even a signed event only says where to look: a paid session in the body of an unpaid one credits nothing."""
    payment = checkout()
    session = stripe.get(f"checkout/sessions/{payment.session_id}")
    lie = {
        "id": "evt_lie",
        "object": "event",
        "type": "checkout.session.completed",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {**session, "payment_status": "paid", "status": "complete"}},
    }
    assert deliver(client, lie).status_code == 200
    work(now)
    assert queries.available_units(cast.buyer.pk) == 0


def test_somebody_elses_event_is_noted_and_left(client, stripe, stocked_desk, now):
    event = {
        "id": "evt_other",
        "object": "event",
        "type": "charge.refunded",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": "ch_unknown", "object": "charge"}},
    }
    deliver(client, event)
    tasks.process_stripe_event.apply(args=["evt_other"])
    row = StripeEvent.objects.get()
    assert row.processed_at
    assert "No such charge" in row.error


def test_events_nobody_asked_for_are_stored_and_done(client, stripe, db):
    event = {
        "id": "evt_x",
        "object": "event",
        "type": "customer.created",
        "created": 1,
        "livemode": False,
        "data": {"object": {"id": "cus_1", "object": "customer"}},
    }
    deliver(client, event)
    assert StripeEvent.objects.get().processed_at


def test_while_stripe_is_down_the_event_waits_for_the_sweep(client, checkout, stripe, events, cast, now, settings):
    stripe.pay(checkout().session_url)
    deliver(client, events()[-1])
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    with pytest.raises(gateway.StripeUnavailable) as error:
        work(now)
    assert not error.value.permanent
    row = StripeEvent.objects.get()
    assert (row.processed_at, row.attempts) == (None, 1)
    settings.STRIPE_API_BASE = stripe.url
    sweeps.sweep_payments(now=now + timedelta(seconds=30))
    assert queries.available_units(cast.buyer.pk) == 4 * NTC


def test_a_dead_queue_does_not_refuse_the_webhook(
    client, checkout, stripe, events, cast, now, monkeypatch, django_capture_on_commit_callbacks
):
    def broken(*args, **kwargs):
        raise OSError("no broker")

    monkeypatch.setattr(tasks.process_stripe_event, "apply_async", broken)
    stripe.pay(checkout().session_url)
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver(client, events()[-1]).status_code == 200
    sweeps.sweep_payments(now=now + timedelta(seconds=30))
    assert queries.available_units(cast.buyer.pk) == 4 * NTC


def test_the_door_takes_posts_only(client, stripe):
    assert client.get(reverse("stripe_webhook")).status_code == 405


def test_without_keys_nothing_is_sold(stocked_desk, cast, now, settings):
    from billing.services import desk

    settings.STRIPE_SECRET_KEY = ""
    quote = desk.quote(user=cast.buyer, cents=1000, now=now)
    with pytest.raises(gateway.StripeNotSetUp, match="STRIPE_SECRET_KEY"):
        topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=now)


def test_a_key_stripe_does_not_know(stripe, stocked_desk, cast, now, settings):
    from billing.services import desk

    settings.STRIPE_SECRET_KEY = "sk_wrong"
    quote = desk.quote(user=cast.buyer, cents=1000, now=now)
    with pytest.raises(gateway.StripeNotSetUp, match="does not accept"):
        topups.start_checkout(quote_id=quote.pk, user=cast.buyer, now=now)


def test_the_pages_of_the_stand_in_are_its_own(stripe):
    assert httpx.get(f"{stripe.url}/c/pay/cs_test_nothing").status_code == 404
