"""A publisher's own domains on the app's page."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from interchain_site.core.errors import DomainError, NotFound
from marketplace import queries
from marketplace.services import domains
from marketplace.views.people import person


@login_required
@require_POST
def domain_action(request: HttpRequest, slug: str, action: str) -> HttpResponse:
    """Add, check or remove the domain in `host`."""
    app, host = queries.app_for(person(request), slug), request.POST.get("host", "")
    try:
        if action == "add":
            domain = domains.add(app=app, host=host, by=person(request))
            messages.success(request, f"{domain.host} is added. Now put its TXT record into your DNS.")
        elif action == "check":
            domain = domains.check(app=app, host=host, by=person(request))
            messages.success(request, f"{domain.host} is proven." if domain.proven_at else domain.message)
        elif action == "remove":
            domains.remove(app=app, host=host, by=person(request))
            messages.success(request, f"{host} is removed.")
        else:
            raise NotFound("There is no such order.")
    except DomainError as error:
        messages.error(request, " ".join(error.fields.values()) or error.message)
    return redirect("app_detail", app.slug)
