"""The publisher's pages: the list, one app and its releases."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from interchain_site.core.errors import DomainError
from marketplace import policies, queries, screens
from marketplace.forms import AppForm, ReleaseForm
from marketplace.models import Domain
from marketplace.services import publishing
from marketplace.views.people import person
from nodes import traffic_check

EVENTS_SHOWN = 30


@login_required
@require_GET
def apps(request: HttpRequest) -> HttpResponse:
    return render(request, "marketplace/apps.html", {"apps": queries.apps_of(person(request))})


@login_required
@require_http_methods(["GET", "POST"])
def app_new(request: HttpRequest) -> HttpResponse:
    form = AppForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            app = publishing.register_app(**form.cleaned_data, by=person(request))
        except DomainError as error:
            form.refuse(error.message, error.fields)
        else:
            messages.success(request, f"{app.name} is registered. Now give it a release.")
            return redirect("release_new", app.slug)
    return render(request, "marketplace/app_new.html", {"form": form}, status=400 if form.errors else 200)


@login_required
@require_GET
def app_detail(request: HttpRequest, slug: str) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    screen = screens.app_screen(app, by=request.user, now=timezone.now())
    charges = queries.recent_charges(screen.deployment) if screen.deployment else []
    context = {
        "screen": screen,
        "app": app,
        "traffic": traffic_check.of_workloads([screen.deployment.pk])[screen.deployment.pk]
        if screen.deployment
        else None,
        "domains": Domain.objects.filter(app=app),
        "gateway_domain": settings.GATEWAY_DOMAIN,
        "connect_line": f"interchain connect {app.slug} --portal {settings.PORTAL_URL} --port 8000",
        "releases": app.releases.order_by("-number"),
        "events": screen.deployment.events.select_related("by")[:EVENTS_SHOWN] if screen.deployment else [],
        "charges": charges[::-1],
        "chart": screens.chart(charges),
    }
    return render(request, "marketplace/app_detail.html", context)


@login_required
@require_GET
def app_status(request: HttpRequest, slug: str) -> HttpResponse:
    """The live part of an app's page; 204 while nothing changed, so that htmx leaves page and focus alone."""
    app = queries.app_for(person(request), slug)
    screen = screens.app_screen(app, by=request.user, now=timezone.now())
    if request.GET.get("seen") == screen.version:
        return HttpResponse(status=204)
    return render(request, "marketplace/_app_status.html", {"screen": screen, "app": app})


@login_required
@require_http_methods(["GET", "POST"])
def release_new(request: HttpRequest, slug: str) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    policies.check_can_change_app(request.user, app)
    newest = queries.newest_release(app)
    initial = ReleaseForm.initial_from(newest) if newest else {}
    form = ReleaseForm(request.POST or None, request.FILES or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        upload = form.cleaned_data["archive"]
        try:
            release = publishing.add_release(app=app, spec=form.spec(), archive=upload, by=person(request))
        except DomainError as error:
            form.refuse(error.message, error.fields)
        else:
            messages.success(request, f"Release {release.number} is added.")
            return redirect("app_deploy" if not queries.live_deployment(app) else "app_detail", app.slug)
    context = {"form": form, "app": app, "newest": newest}
    return render(request, "marketplace/release_new.html", context, status=400 if form.errors else 200)
