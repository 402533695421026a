"""The page of a person's API token. The token is shown in the answer that makes it, and never again."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from marketplace.services import tokens
from marketplace.views.people import person


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def api_token(request: HttpRequest) -> HttpResponse:
    fresh = ""
    if request.method == "POST" and "revoke" in request.POST:
        tokens.revoke_token(by=person(request))
        messages.success(request, "The token is revoked. Programs that use it are refused from now on.")
        return redirect("api_token")
    if request.method == "POST":
        fresh = tokens.replace_token(by=person(request))
    context = {"fresh": fresh, "exists": tokens.token_exists(person(request))}
    return render(request, "marketplace/api_token.html", context)
