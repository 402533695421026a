"""A person's API token: made, shown once, replaced, taken away."""

from __future__ import annotations

from django.db import transaction
from rest_framework.authtoken.models import Token

from interchain_site.core import audit
from interchain_site.core.models import User


def token_exists(user: User) -> bool:
    return Token.objects.filter(user=user).exists()


@transaction.atomic
def replace_token(*, by: User) -> str:
    """Return a new token of `by`; the one before stops working at once."""
    Token.objects.filter(user=by).delete()
    token = Token.objects.create(user=by)
    audit.record("api_token_made", subject=f"user:{by.pk}", by=by)
    return str(token.key)


@transaction.atomic
def revoke_token(*, by: User) -> None:
    """Take a person's token away; none is fine."""
    if Token.objects.filter(user=by).delete()[0]:
        audit.record("api_token_revoked", subject=f"user:{by.pk}", by=by)
