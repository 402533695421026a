"""An app's data: its snapshots, taken, put back and downloaded."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_POST

from interchain_site.core.errors import DomainError, Invalid
from interchain_site.core.models import User
from marketplace import policies, queries
from marketplace.models import App
from marketplace.services import volumes
from marketplace.views.people import person
from nodes import data_queries

INTERVALS = (
    (3600, "every hour"), (21_600, "every six hours"), (86_400, "every day"), (604_800, "every week"), (0, "only when asked"),
)  # fmt: skip


@login_required
@require_GET
def app_data(request: HttpRequest, slug: str) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    deployment = queries.live_deployment(app)
    data = data_queries.data_of(deployment.pk) if deployment else None
    can = policies.can_change_app(request.user, app)
    at_rest = data_queries.at_rest(deployment.pk) if deployment else None
    context = {"app": app, "data": data, "can_change": can, "intervals": INTERVALS, "at_rest": at_rest}
    name = "marketplace/_app_data.html" if request.headers.get("HX-Request") else "marketplace/app_data.html"
    return render(request, name, context)


@login_required
@require_POST
def snapshot_take(request: HttpRequest, slug: str) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    return _done(
        request, slug, "Its device copies the data now.", lambda: volumes.take_snapshot(app=app, by=person(request))
    )


@login_required
@require_POST
def snapshot_restore(request: HttpRequest, slug: str, snapshot_id: UUID) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    said = "The data is put back. The app starts with it."
    return _done(request, slug, said, lambda: volumes.restore(app=app, snapshot_id=snapshot_id, by=person(request)))


@login_required
@require_POST
def snapshot_interval(request: HttpRequest, slug: str) -> HttpResponse:
    app, given = queries.app_for(person(request), slug), request.POST.get("every_seconds", "")
    seconds = int(given) if given.isdecimal() and len(given) < 9 else -1
    said = "Saved."
    return _done(request, slug, said, lambda: volumes.set_interval(app=app, every_seconds=seconds, by=person(request)))


@login_required
@require_GET
def snapshot_download(request: HttpRequest, slug: str, snapshot_id: UUID) -> HttpResponseBase:
    """All files of a snapshot as a tar, streamed while restic reads it."""
    return download(queries.app_for(person(request), slug), snapshot_id, by=request.user)


def download(app: App, snapshot_id: UUID, *, by: User | AnonymousUser) -> HttpResponseBase:
    """Return the files of a snapshot as a tar.

    Raises:
        NotYours, NotFound.
    """
    policies.check_can_change_app(by, app)
    taken_at, chunks = data_queries.download_of(queries.deployment_ids(app), snapshot_id)
    name = f"{slugify(app.slug)}-{taken_at:%Y-%m-%d-%H%M}.tar"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(chunks, content_type="application/x-tar", headers=headers)


@login_required
@require_GET
def snapshot_key(request: HttpRequest, slug: str) -> HttpResponse:
    """The password of the app's restic repository, for whoever keeps copies of it elsewhere."""
    app = queries.app_for(person(request), slug)
    policies.check_can_change_app(request.user, app)
    headers = {
        "Content-Disposition": f'attachment; filename="{slugify(app.slug)}-restic-password.txt"',
        "Cache-Control": "no-store",
    }
    return HttpResponse(data_queries.key_of(queries.deployment_ids(app)), content_type="text/plain", headers=headers)


def _done(request: HttpRequest, slug: str, said: str, order: Callable[[], object]) -> HttpResponse:
    try:
        order()
    except Invalid as error:
        messages.error(request, " ".join(error.fields.values()) or error.message)
    except DomainError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, said)
    return redirect("app_data", slug)
