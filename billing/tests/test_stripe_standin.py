"""The stand-in behaves as Stripe does, seen through the official SDK."""

from __future__ import annotations

import time

import httpx
import pytest
import stripe as sdk
from stripe import StripeClient

from interchain_site.testing.servers import free_port
from interchain_site.testing.stripe import stand_in

pytestmark = pytest.mark.verification


@pytest.fixture
def client(stripe) -> StripeClient:
    return StripeClient("sk_test_contract", base_addresses={"api": stripe.url}, max_network_retries=0)


def session_params(**more) -> dict:
    return {
        "mode": "payment",
        "payment_method_types": ["card"],
        "client_reference_id": "ref-1",
        "customer_email": "buyer@example.com",
        "success_url": "http://shop.example/ok?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://shop.example/no",
        "metadata": {"payment_id": "p1"},
        "payment_intent_data": {"metadata": {"payment_id": "p1"}},
        "line_items": [
            {
                "quantity": 1,
                "price_data": {"currency": "usd", "unit_amount": 1000, "product_data": {"name": "4.00 NTC"}},
            }
        ],
        **more,
    }


def paid(client, stripe, card="4242424242424242"):
    session = client.v1.checkout.sessions.create(session_params())
    assert stripe.pay(session.url, card).status_code == 303
    return client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent.latest_charge"]})


def test_a_session_is_created_and_read(client):
    session = client.v1.checkout.sessions.create(session_params())
    again = client.v1.checkout.sessions.retrieve(session.id)
    assert (again.status, again.payment_status, again.amount_total, again.currency) == ("open", "unpaid", 1000, "usd")
    assert (again.client_reference_id, again.metadata["payment_id"]) == ("ref-1", "p1")
    assert again.url.endswith(session.id)


def test_paying_completes_it_and_sends_the_person_back(client, stripe):
    session = client.v1.checkout.sessions.create(session_params())
    page = httpx.get(session.url)
    assert page.status_code == 200
    assert "Pay $10.00" in page.text
    answer = stripe.pay(session.url)
    assert answer.headers["location"] == f"http://shop.example/ok?session={session.id}"
    session = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent.latest_charge"]})
    assert (session.status, session.payment_status, session.payment_intent.status) == ("complete", "paid", "succeeded")
    assert session.payment_intent.latest_charge.payment_method_details.card.last4 == "4242"
    assert stripe.pay(page.url.__str__()).headers["location"].startswith("http://shop.example/ok")


@pytest.mark.parametrize(
    ("card", "words", "code"),
    [
        ("4000000000000002", "declined", "card_declined"),
        ("4000000000009995", "insufficient funds", "card_declined"),
        ("4000000000000069", "expired", "expired_card"),
        ("4000000000000127", "security code is incorrect", "incorrect_cvc"),
        ("4000000000000119", "error occurred while processing", "processing_error"),
    ],
)
def test_declines(client, stripe, card, words, code):
    session = client.v1.checkout.sessions.create(session_params())
    answer = stripe.pay(session.url, card)
    assert answer.status_code == 402
    assert words in answer.text.replace("&#x27;", "'")
    session = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["payment_intent"]})
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert session.payment_intent.last_payment_error.code == code
    assert stripe.pay(session.url).status_code == 303  # another card may be tried


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"card": "4242424242424241"}, "card number is incorrect"),
        ({"card": "4111111111111111"}, "test cards only"),
        ({"expiry": "01 / 20"}, "in the past"),
        ({"expiry": "13/40"}, "MM / YY"),
        ({"cvc": "12"}, "security code is incomplete"),
    ],
)
def test_typing_mistakes(client, stripe, fields, words):
    session = client.v1.checkout.sessions.create(session_params())
    answer = stripe.pay(session.url, **fields)
    assert answer.status_code == 402
    assert words in answer.text.replace("&#x27;", "'")
    assert 'role="alert"' in answer.text


def test_the_bank_is_asked_first(client, stripe):
    session = client.v1.checkout.sessions.create(session_params())
    asked = stripe.pay(session.url, "4000002500003155")
    assert "Do you approve" in asked.text
    form = {"number": "4000002500003155", "answer": "refuse"}
    assert "did not approve" in httpx.post(f"{session.url}/bank", data=form).text
    assert httpx.post(f"{session.url}/bank", data={**form, "answer": "approve"}).status_code == 303


def test_the_same_idempotency_key_gives_the_same_answer(client):
    first = client.v1.checkout.sessions.create(session_params(), {"idempotency_key": "k-1"})
    second = client.v1.checkout.sessions.create(session_params(), {"idempotency_key": "k-1"})
    assert first.id == second.id
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(sdk.IdempotencyError):
        client.v1.checkout.sessions.create(session_params(cancel_url="http://x"), {"idempotency_key": "k-1"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"success_url": ""}, "success_url"),
        ({"coupon_code": "x"}, "unknown parameter"),
        ({"expires_at": int(time.time()) + 60}, "expires_at"),
        ({"line_items": [{"quantity": 1}]}, "price_data"),
        ({"mode": "subscription"}, "mode=payment"),
    ],
)
def test_bad_sessions_are_refused(client, change, words):
    with pytest.raises(sdk.InvalidRequestError, match=words):
        client.v1.checkout.sessions.create(session_params(**change))


def test_keys_that_are_not_test_keys_are_refused(stripe):
    for key in ("sk_live_abc", "nonsense"):
        with pytest.raises(sdk.AuthenticationError):
            StripeClient(key, base_addresses={"api": stripe.url}).v1.refunds.list()


def test_unknown_things_are_404(client):
    with pytest.raises(sdk.InvalidRequestError) as error:
        client.v1.checkout.sessions.retrieve("cs_test_nothing")
    assert (error.value.http_status, error.value.code) == (404, "resource_missing")


def test_no_over_refund(client, stripe):
    intent = paid(client, stripe).payment_intent
    refund = client.v1.refunds.create({"payment_intent": intent.id, "amount": 400})
    assert (refund.status, refund.amount) == ("succeeded", 400)
    with pytest.raises(sdk.InvalidRequestError, match="greater than"):
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 601})
    client.v1.refunds.create({"payment_intent": intent.id})
    with pytest.raises(sdk.InvalidRequestError, match="already been refunded"):
        client.v1.refunds.create({"payment_intent": intent.id})
    charge = client.v1.charges.retrieve(intent.latest_charge.id)
    assert (charge.amount_refunded, charge.refunded) == (1000, True)
    assert len(client.v1.refunds.list({"payment_intent": intent.id}).data) == 2


def test_disputes(client, stripe):
    intent = paid(client, stripe).payment_intent
    stripe.act("dispute", intent.latest_charge.id)
    [dispute] = client.v1.disputes.list({"payment_intent": intent.id}).data
    assert (dispute.status, dispute.amount, dispute.reason) == ("needs_response", 1000, "fraudulent")
    assert client.v1.charges.retrieve(intent.latest_charge.id).disputed
    with pytest.raises(sdk.InvalidRequestError, match="charged back"):
        client.v1.refunds.create({"payment_intent": intent.id})
    stripe.act("win", dispute.id)
    assert client.v1.disputes.retrieve(dispute.id).status == "won"


def test_the_disputing_card_disputes(client, stripe):
    intent = paid(client, stripe, "4000000000000259").payment_intent
    for _ in range(50):
        if found := client.v1.disputes.list({"payment_intent": intent.id}).data:
            break
        time.sleep(0.05)
    assert found[0].reason == "fraudulent"


def test_expiring(client, stripe):
    session = client.v1.checkout.sessions.create(session_params())
    assert client.v1.checkout.sessions.expire(session.id).status == "expired"
    with pytest.raises(sdk.InvalidRequestError, match="only open ones"):
        client.v1.checkout.sessions.expire(session.id)
    assert "expired" in httpx.get(session.url).text
    assert httpx.get(session.url).status_code == 410


def test_a_restart_loses_nothing_and_webhooks_are_repeated_until_answered(tmp_path):
    """Kill the stand-in with an event undelivered, start it again: the session is there and the event arrives, signed."""
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    got: list[tuple[bytes, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.rfile.read(int(self.headers["Content-Length"])), self.headers["Stripe-Signature"]))
            self.send_response(500 if len(got) < 3 else 200)
            self.end_headers()

        def log_message(self, *args) -> None:
            pass

    hook_port = free_port()
    options = ("--webhook-url", f"http://127.0.0.1:{hook_port}/hook")
    with stand_in(tmp_path / "s.sqlite3", *options) as first:
        client = StripeClient("sk_test_x", base_addresses={"api": first.url})
        session = client.v1.checkout.sessions.create(session_params(), {"idempotency_key": "same"})
        first.pay(session.url)
    server = HTTPServer(("127.0.0.1", hook_port), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    with stand_in(tmp_path / "s.sqlite3", *options) as second:
        client = StripeClient("sk_test_x", base_addresses={"api": second.url})
        assert client.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"
        assert client.v1.checkout.sessions.create(session_params(), {"idempotency_key": "same"}).id == session.id
        give_up = time.monotonic() + 15
        while len(got) < 5 and time.monotonic() < give_up:
            time.sleep(0.05)
    server.shutdown()
    server.server_close()
    events = [client.construct_event(body, signature, "whsec_tests") for body, signature in got]
    assert {"charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"} <= {e.type for e in events}
    assert len(events) > len({event.id for event in events})  # the refused ones came again
    with pytest.raises(sdk.SignatureVerificationError):
        client.construct_event(got[0][0], got[0][1], "whsec_wrong")


def test_the_dashboard_refunds_by_hand(client, stripe):
    intent = paid(client, stripe).payment_intent
    page = httpx.get(f"{stripe.url}/dashboard")
    assert intent.latest_charge.id in page.text
    stripe.act("refund", intent.latest_charge.id, amount="2.50")
    assert client.v1.charges.retrieve(intent.latest_charge.id).amount_refunded == 250
    refused = stripe.act("refund", intent.latest_charge.id, amount="99")
    assert "greater" in refused.headers["location"]
    assert stripe.act("refund", intent.latest_charge.id, amount="x").status_code == 303
