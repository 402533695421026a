"""System checks about Stripe's keys."""

from __future__ import annotations

import pytest

from billing.checks import check_stripe


@pytest.mark.parametrize(
    ("key", "secret", "base", "debug", "ids"),
    [
        ("", "", "", True, []),
        ("sk_test_x", "whsec_x", "http://127.0.0.1:8002", True, []),
        ("sk_live_x", "whsec_x", "", False, []),
        ("sk_live_x", "whsec_x", "http://127.0.0.1:8002", False, ["interchain.E010"]),
        ("sk_live_x", "whsec_x", "", True, ["interchain.E011"]),
        ("sk_test_x", "", "", True, ["interchain.E012"]),
        ("", "whsec_x", "", True, ["interchain.E012"]),
        ("pk_test_x", "whsec_x", "", True, ["interchain.E013"]),
        ("", "", "", False, ["interchain.W014"]),
    ],
)
def test_dangerous_or_half_set_keys_are_named(settings, key, secret, base, debug, ids):
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_API_BASE = key, secret, base
    settings.DEBUG, settings.STRIPE_CONNECT_WEBHOOK_SECRET = debug, "whsec_y"
    found = check_stripe()
    assert [message.id for message in found] == ids
    assert all(message.hint for message in found)


def test_live_cash_outs_want_the_endpoint_of_connected_accounts(settings):
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_API_BASE = "sk_live_x", "whsec_x", ""
    settings.DEBUG, settings.STRIPE_CONNECT_WEBHOOK_SECRET = False, ""
    assert [message.id for message in check_stripe()] == ["interchain.W015"]
