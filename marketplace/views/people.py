"""Who is asking."""

from __future__ import annotations

from django.http import HttpRequest

from interchain_site.core.models import User


def person(request: HttpRequest) -> User:
    """Return the signed-in person of a view behind `login_required`."""
    assert isinstance(request.user, User)  # noqa: S101
    return request.user
