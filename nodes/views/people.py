"""Who is looking: pages of nodes are for people who are signed in."""

from __future__ import annotations

from typing import cast

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest

from interchain_site.core.models import User

signed_in = login_required


def owner_of(request: HttpRequest) -> User:
    """Return the person behind a request of a `signed_in` view."""
    return cast(User, request.user)
