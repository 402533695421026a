"""The public status page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_GET

from nodes import public_status


@cache_control(private=True, max_age=public_status.FRESH_SECONDS)
@require_GET
def status(request: HttpRequest) -> HttpResponse:
    """How many apps run, where, and how failovers went today; for everybody."""
    return render(request, "nodes/status.html", {"now": public_status.current(), "map": public_status})
