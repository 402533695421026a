"""The SDK's client and what its answers and errors become; shared by the modules of this folder.

Every failure is one of:

- `StripeUnavailable` (`permanent` false): no answer, a rate limit, or Stripe's own trouble. The same call may work later; a call that
  changes something carries an idempotency key, so repeating it is safe.
- `StripeRefused` (`permanent` true): Stripe understood and said no (a wrong id, an amount above what is left). `reason` is its code;
  it is empty only where the answer does not prove that nothing was done.
- `StripeNotSetUp` (`permanent` true): no key, or a key Stripe does not accept.
- `BadSignature`: a webhook that Stripe did not sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import stripe
from django.conf import settings
from stripe import StripeClient

from interchain_site.core.errors import DomainError

TIMEOUT_SECONDS = 10
PAGE = 100


class StripeUnavailable(DomainError):
    code, status, permanent = "stripe_unavailable", 503, False
    message = "Card payments are not answering. Nothing was charged; try again in a moment."


class StripeRefused(DomainError):
    code, status = "stripe_refused", 400
    message = "Stripe did not accept this."
    reason = ""


class StripeNotSetUp(DomainError):
    code, status = "stripe_not_set_up", 503
    message = "Card payments are not set up. An administrator sets STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET."


class BadSignature(DomainError):
    code, status = "bad_signature", 400
    message = "This was not signed by Stripe with our webhook secret."


def is_live() -> bool:
    """Return whether the key moves real money."""
    return "_live_" in settings.STRIPE_SECRET_KEY


def client() -> StripeClient:
    """Return the SDK's client for the key in force.

    Raises:
        StripeNotSetUp: there is no key.
    """
    if not settings.STRIPE_SECRET_KEY:
        raise StripeNotSetUp
    return _client_for(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)


@contextmanager
def errors() -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    try:
        yield
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise StripeNotSetUp(f"Stripe does not accept STRIPE_SECRET_KEY: {error.user_message}") from error
    except stripe.IdempotencyError as error:
        if error.code == "idempotency_key_in_use":  # the same call is under way elsewhere: its outcome is not known yet
            raise StripeUnavailable from error
        raise StripeRefused(f"Stripe did not accept this: {error.user_message}") from error
    except (stripe.InvalidRequestError, stripe.CardError) as error:
        refused = StripeRefused(f"Stripe did not accept this: {error.user_message}")
        refused.reason = str(error.code or "invalid_request")
        raise refused from error
    except stripe.StripeError as error:
        raise StripeUnavailable from error


def every(listing: Any, params: dict[str, Any], options: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Yield every object of one of the SDK's list calls, newest first, a page of a hundred at a time."""
    after: dict[str, Any] = {}
    while True:
        with errors():
            page = listing({**params, **after, "limit": PAGE}, options or {}).to_dict()
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"starting_after": page["data"][-1]["id"]}


def moment(seconds: int) -> datetime:
    """Return Stripe's seconds as a time."""
    return datetime.fromtimestamp(seconds, UTC)


@lru_cache(maxsize=4)
def _client_for(key: str, base: str) -> StripeClient:
    where: Any = {"base_addresses": {"api": base}} if base else {}
    http = stripe.RequestsClient(timeout=TIMEOUT_SECONDS)
    return StripeClient(key, max_network_retries=2, http_client=http, **where)
