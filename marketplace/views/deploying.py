"""Deploy with an estimate, and the orders to a deployed app."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from interchain_site.core.errors import DomainError, NotFound
from marketplace import policies, queries, screens
from marketplace.estimates import ExpectedUse
from marketplace.forms import DeployForm, ExpectedUseForm, ScaleForm
from marketplace.models import App
from marketplace.services import deployments, releasing
from marketplace.views.people import person

DONE = {
    "start": "Starting.",
    "stop": "Stopping. The data is kept.",
    "redeploy": "The newest release is taking over.",
    "rollback": "Going back to the release before.",
    "delete": "Deleting: it is stopped and its data wiped.",
}


@login_required
@require_http_methods(["GET", "POST"])
def app_deploy(request: HttpRequest, slug: str) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    policies.check_can_deploy(request.user, app, queries.live_deployment(app))
    newest = queries.newest_release(app)
    if newest is None:
        messages.info(request, "Give the app a release first.")
        return redirect("release_new", app.slug)
    initial = ExpectedUseForm.initial_of(ExpectedUse()) | {"release": newest.pk}
    form = DeployForm(request.POST or None, app=app, initial=initial)
    if request.method == "POST" and form.is_valid() and "deploy" in request.POST:
        try:
            deployments.deploy(
                app=app,
                release=form.cleaned_data["release"],
                expected=form.use(),
                standby=form.cleaned_data["standby"],
                by=person(request),
            )
        except DomainError as error:
            form.refuse(error.message, error.fields)
        else:
            return redirect("app_detail", app.slug)
    use = (
        form.use()
        if form.is_bound and "monthly_active_users" in form.cleaned_data and _complete(form)
        else ExpectedUse()
    )
    context = {"form": form, "app": app, "estimate": _estimate(app, use), "unfit": deployments.would_fit(newest)}
    return render(request, "marketplace/app_deploy.html", context, status=400 if form.errors else 200)


@login_required
@require_GET
def app_estimate(request: HttpRequest, slug: str) -> HttpResponse:
    """The estimate beside the form, as the person types; 204 while the numbers make no sense."""
    app = queries.app_for(person(request), slug)
    form = ExpectedUseForm(request.GET)
    if not form.is_valid():
        return HttpResponse(status=204)
    return render(request, "marketplace/_estimate.html", {"estimate": _estimate(app, form.use())})


@login_required
@require_POST
def app_action(request: HttpRequest, slug: str, action: str) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    order = {
        "start": deployments.start,
        "stop": deployments.stop,
        "redeploy": releasing.redeploy,
        "rollback": releasing.roll_back,
        "delete": deployments.delete,
    }.get(action)
    if order is None:
        raise NotFound("There is no such order.")
    try:
        order(app=app, by=person(request))
    except DomainError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, DONE[action])
    return redirect("app_detail", app.slug)


@login_required
@require_POST
def app_scale(request: HttpRequest, slug: str) -> HttpResponse:
    app = queries.app_for(person(request), slug)
    form = ScaleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose from 1 to 100 replicas.")
        return redirect("app_detail", app.slug)
    try:
        deployments.scale(app=app, by=person(request), **form.cleaned_data)
    except DomainError as error:
        messages.error(request, " ".join([error.message, *error.fields.values()]))
    else:
        messages.success(request, "Scaling.")
    return redirect("app_detail", app.slug)


def _complete(form: DeployForm) -> bool:
    return all(name in form.cleaned_data for name in ExpectedUse.__dataclass_fields__)


def _estimate(app: App, use: ExpectedUse) -> screens.EstimateScreen:
    return screens.estimate_screen(use=use, publisher_id=app.publisher_id, now=timezone.now())
