"""What the gateway asks the portal, from inside: whether a certificate may be had for a name."""

from __future__ import annotations

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from nodes.models import Lease
from nodes.services import route_options
from nodes.states import LeaseState

MINUTE_SECONDS = 60


@require_GET
def tls_ask(request: HttpRequest) -> HttpResponse:
    """Caddy, before it asks for a certificate: 200 when the name is an app's or a proven domain of one, 404 otherwise.

    Only from inside: what came through a proxy is refused. Asked too often in a minute (429), Caddy asks again at the
    next handshake; so a flood of invented names costs neither queries nor certificates.
    """
    if "HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META:
        return HttpResponse(status=404)
    key = f"gateway:asked:{int(timezone.now().timestamp()) // MINUTE_SECONDS}"
    cache.add(key, 0, timeout=2 * MINUTE_SECONDS)
    if cache.incr(key) > settings.GATEWAY_ASKS_PER_MINUTE:
        return HttpResponse(status=429, headers={"Retry-After": str(MINUTE_SECONDS)})
    host = request.GET.get("domain", "").lower().rstrip(".")
    name, _, domain = host.partition(".")
    if domain == settings.GATEWAY_DOMAIN.lower():
        known = Lease.objects.filter(name=name, is_newest=True).exclude(state=LeaseState.WIPED).exists()
    else:
        known = route_options.is_served(host)
    return HttpResponse(status=200 if known else 404)
