"""A passkey instead of a code: used again, since a payout was asked for (allauth's reauthentication keeps when)."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlencode

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.http import HttpRequest
from django.urls import reverse

from interchain_site.core.models import User

JUST_NOW = timedelta(minutes=5)  # one use does not confirm what is asked for much later in the same session


def has_one(user: User) -> bool:
    """Return whether this person has a passkey or security key."""
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.WEBAUTHN).exists())


def used_since(request: HttpRequest, moment: datetime, *, now: datetime) -> bool:
    """Return whether this session proved a passkey again after a moment, and just now; signing in with one does not count."""
    earliest = max(moment, now - JUST_NOW).timestamp()
    return any(
        record.get("method") == "mfa"
        and record.get("type") == Authenticator.Type.WEBAUTHN
        and record.get("reauthenticated") is True
        and record.get("at", 0) >= earliest
        for record in get_authentication_records(request, request.user)
    )


def ask_url(then: str) -> str:
    """Return the page that asks for the passkey and goes on to `then`."""
    return f"{reverse('mfa_reauthenticate_webauthn')}?{urlencode({'next': then})}"
