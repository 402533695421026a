"""What every template may use."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, object]:
    return {"portal_url": settings.PORTAL_URL, "gateway_domain": settings.GATEWAY_DOMAIN, "demo": settings.DEBUG}
