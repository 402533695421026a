"""System checks about Stripe's keys: a half-set or dangerous combination says how to mend it, at start."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register("interchain")
def check_stripe(**_: Any) -> list[CheckMessage]:
    """E010 to E013, W014, W015."""
    key, secret, base = settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET, settings.STRIPE_API_BASE
    found: list[CheckMessage] = []
    if "_live_" in key and base:
        hint = "Leave STRIPE_API_BASE empty with a live key, or use a key that begins with sk_test_."
        found.append(Error("A live Stripe key would be sent to a stand-in.", hint=hint, id="interchain.E010"))
    if "_live_" in key and settings.DEBUG:
        hint = "Set DEBUG=0, or use a key that begins with sk_test_."
        found.append(Error("A live Stripe key while DEBUG is on.", hint=hint, id="interchain.E011"))
    if bool(key) != bool(secret):
        hint = "Set both STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET, or neither."
        found.append(Error("Only one of Stripe's two secrets is set.", hint=hint, id="interchain.E012"))
    if key and not key.startswith(("sk_", "rk_")):
        hint = "Take the secret key (sk_… or rk_…) from Stripe's dashboard; pk_… is the publishable one."
        found.append(Error("STRIPE_SECRET_KEY is not a secret key.", hint=hint, id="interchain.E013"))
    if "_live_" in key and not settings.STRIPE_CONNECT_WEBHOOK_SECRET:
        hint = (
            "Add a webhook endpoint for connected accounts at the same address and set STRIPE_CONNECT_WEBHOOK_SECRET."
        )
        message = "Nobody tells us of payouts that failed: they are only noticed when we ask, up to half an hour later."
        found.append(Warning(message, hint=hint, id="interchain.W015"))
    if not key and not settings.DEBUG:
        hint = "Set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET."
        found.append(Warning("Nobody can buy NTC: Stripe is not set up.", hint=hint, id="interchain.W014"))
    return found
