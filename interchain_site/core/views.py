"""Pages that belong to no app: the way in after login, the account, and the health answer for load balancers."""

from __future__ import annotations

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.crypto import constant_time_compare
from django_prometheus.exports import ExportToDjangoView

from interchain_site.core import redis


@login_required
def home(request: HttpRequest) -> HttpResponse:
    return redirect("apps")


@login_required
def account_home(request: HttpRequest) -> HttpResponse:
    """Show what a person can change about the account itself."""
    return render(request, "account/home.html", {"second_factor": is_mfa_enabled(request.user)})


def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when the database and Redis answer, else 503 naming the one that does not."""
    failing = []
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception:
        failing.append("database")
    try:
        redis.connection().ping()
    except Exception:
        failing.append("redis")
    return JsonResponse({"ok": not failing, "failing": failing}, status=503 if failing else 200)


def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus' numbers, for whoever sends METRICS_TOKEN; while that is empty, for nobody."""
    wanted, given = f"Bearer {settings.METRICS_TOKEN}", request.headers.get("Authorization", "")
    if not settings.METRICS_TOKEN or not constant_time_compare(given, wanted):
        raise Http404
    answer: HttpResponse = ExportToDjangoView(request)
    return answer
