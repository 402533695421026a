"""Deploying, watching and paying for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from interchain_site.core.errors import Invalid
from marketplace import queries, screens
from marketplace.api import serializers
from marketplace.api.base import REFUSALS, AppView, person
from marketplace.errors import NotDeployed
from marketplace.models import App, Deployment, Release
from marketplace.services import deployments, releasing

ANSWERS: dict[int, Any] = {**REFUSALS, 200: serializers.DeploymentOut}
ACCEPTED: dict[int, Any] = {**REFUSALS, 202: serializers.DeploymentOut}


class EstimateView(AppView):
    @extend_schema(
        request=serializers.ExpectedUseIn,
        responses={**REFUSALS, 200: serializers.EstimateOut},
        operation_id="apps_estimate",
    )
    def post(self, request: Request, slug: str) -> Response:
        """What the expected use would cost, per hour, day and month."""
        app = self.app(request, slug)
        given = serializers.ExpectedUseIn(data=request.data)
        given.is_valid(raise_exception=True)
        screen = screens.estimate_screen(use=given.use(), publisher_id=app.publisher_id, now=timezone.now())
        return Response(serializers.EstimateOut(screen).data)


class DeploymentView(AppView):
    @extend_schema(responses=ANSWERS, operation_id="deployment_read")
    def get(self, request: Request, slug: str) -> Response:
        """How the app's deployment is: state, reason in words, last log lines, address."""
        return Response(_shown(self.app(request, slug)))

    @extend_schema(
        request=serializers.DeployIn,
        responses={**REFUSALS, 201: serializers.DeploymentOut},
        operation_id="deployment_create",
    )
    def post(self, request: Request, slug: str) -> Response:
        """Deploy a release (the newest unless named)."""
        app = self.app(request, slug)
        given = serializers.DeployIn(data=request.data)
        given.is_valid(raise_exception=True)
        release = _release(app, given.validated_data.get("release"))
        standby = given.validated_data["standby"]
        deployments.deploy(app=app, release=release, expected=given.use(), standby=standby, by=person(request))
        return Response(_shown(app), status=201)

    @extend_schema(responses=ACCEPTED, operation_id="deployment_delete")
    def delete(self, request: Request, slug: str) -> Response:
        """Stop the app and wipe its data. The signed receipt appears in `wipe_receipts` once the device has done it."""
        app = self.app(request, slug)
        deployments.delete(app=app, by=person(request))
        return Response(_shown(app), status=202)


class _OrderView(AppView):
    def order(self, request: Request, slug: str, service: Callable[..., Deployment], **arguments: Any) -> Response:
        app = self.app(request, slug)
        service(app=app, by=person(request), **arguments)
        return Response(_shown(app), status=202)


class StartView(_OrderView):
    @extend_schema(request=None, responses=ACCEPTED, operation_id="deployment_start")
    def post(self, request: Request, slug: str) -> Response:
        """Run a stopped, failed or waiting app again."""
        return self.order(request, slug, deployments.start)


class StopView(_OrderView):
    @extend_schema(request=None, responses=ACCEPTED, operation_id="deployment_stop")
    def post(self, request: Request, slug: str) -> Response:
        """Stop the app; its data is kept."""
        return self.order(request, slug, deployments.stop)


class RedeployView(_OrderView):
    @extend_schema(request=serializers.RedeployIn, responses=ACCEPTED, operation_id="deployment_redeploy")
    def post(self, request: Request, slug: str) -> Response:
        """Let another release (the newest unless named) take over, copy by copy; it goes back by itself if it does not come up."""
        given = serializers.RedeployIn(data=request.data)
        given.is_valid(raise_exception=True)
        release = _release(self.app(request, slug), given.validated_data.get("release"))
        return self.order(request, slug, releasing.redeploy, release=release)


class RollBackView(_OrderView):
    @extend_schema(request=None, responses=ACCEPTED, operation_id="deployment_roll_back")
    def post(self, request: Request, slug: str) -> Response:
        """Go back to the release that ran before this one."""
        return self.order(request, slug, releasing.roll_back)


class ScaleView(_OrderView):
    @extend_schema(request=serializers.ScaleIn, responses=ACCEPTED, operation_id="deployment_scale")
    def post(self, request: Request, slug: str) -> Response:
        """Run the app on so many devices; what is more than that stops."""
        given = serializers.ScaleIn(data=request.data)
        given.is_valid(raise_exception=True)
        return self.order(request, slug, deployments.scale, **given.validated_data)


class UsageView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.UsageOut}, operation_id="deployment_usage")
    def get(self, request: Request, slug: str) -> Response:
        """What the deployment has used and cost so far, its burn rate and the time left."""
        screen = screens.app_screen(self.app(request, slug), by=request.user, now=timezone.now())
        if screen.deployment is None:
            raise NotDeployed
        return Response(serializers.UsageOut(screen).data)


class EventsView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.EventOut(many=True)}, operation_id="deployment_events")
    def get(self, request: Request, slug: str) -> Response:
        """The last hundred events of the deployment, newest first."""
        deployment = queries.latest_deployment(self.app(request, slug))
        if deployment is None:
            raise NotDeployed
        return Response(serializers.EventOut(deployment.events.all()[:100], many=True).data)


class PriceListsView(APIView):
    @extend_schema(responses=serializers.PriceListOut(many=True), operation_id="price_lists_in_force")
    def get(self, request: Request) -> Response:
        """The prices in force, one list for each region."""
        lists = queries.price_lists_in_force(timezone.now())
        return Response(serializers.PriceListOut(lists, many=True).data)


def _shown(app: App) -> Any:
    screen = screens.deployment_screen(app)
    if screen is None:
        raise NotDeployed
    return serializers.DeploymentOut(screen).data


def _release(app: App, number: int | None) -> Release | None:
    release = queries.release_of(app, number)
    if release is None and number is not None:
        raise Invalid(fields={"release": "This app has no such release."})
    return release
