"""An app's data: its snapshots, taken, put back, downloaded; how often, and the key to them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace import policies, queries
from marketplace.api import serializers
from marketplace.api.base import REFUSALS, AppView, person
from marketplace.errors import NotDeployed
from marketplace.models import App
from marketplace.screens import deployment_screen
from marketplace.services import volumes
from marketplace.views.volumes import download
from nodes import data_queries


class SnapshotsView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.SnapshotsOut}, operation_id="snapshots_list")
    def get(self, request: Request, slug: str) -> Response:
        """The app's snapshots, how often they are taken and what they may hold."""
        return Response(_shown(self.app(request, slug)))

    @extend_schema(request=None, responses={**REFUSALS, 202: serializers.SnapshotOut}, operation_id="snapshots_take")
    def post(self, request: Request, slug: str) -> Response:
        """Have the device copy the app's data now; one that is under way is returned. Ask for it until `state` is `taken`."""
        snapshot = volumes.take_snapshot(app=self.app(request, slug), by=person(request))
        return Response(serializers.SnapshotOut(snapshot).data, status=202)

    @extend_schema(
        request=serializers.SnapshotScheduleIn,
        responses={**REFUSALS, 200: serializers.SnapshotsOut},
        operation_id="snapshots_schedule",
    )
    def patch(self, request: Request, slug: str) -> Response:
        """Say how often a snapshot is taken."""
        app, given = self.app(request, slug), serializers.SnapshotScheduleIn(data=request.data)
        given.is_valid(raise_exception=True)
        volumes.set_interval(app=app, by=person(request), **given.validated_data)
        return Response(_shown(app))


class SnapshotView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.SnapshotOut}, operation_id="snapshots_read")
    def get(self, request: Request, slug: str, snapshot_id: UUID) -> Response:
        """One snapshot."""
        found = data_queries.snapshot_of(queries.deployment_ids(self.app(request, slug)), snapshot_id)
        return Response(serializers.SnapshotOut(found).data)


class SnapshotRestoreView(AppView):
    @extend_schema(
        request=None, responses={**REFUSALS, 202: serializers.DeploymentOut}, operation_id="snapshots_restore"
    )
    def post(self, request: Request, slug: str, snapshot_id: UUID) -> Response:
        """Put this state of the data back: what runs is restarted with it, what is stopped begins with it. What was written since is lost."""
        app = self.app(request, slug)
        volumes.restore(app=app, snapshot_id=snapshot_id, by=person(request))
        return Response(serializers.DeploymentOut(deployment_screen(app)).data, status=202)


class SnapshotDownloadView(AppView):
    @extend_schema(
        responses={**REFUSALS, (200, "application/x-tar"): OpenApiTypes.BINARY}, operation_id="snapshots_download"
    )
    def get(self, request: Request, slug: str, snapshot_id: UUID) -> HttpResponseBase:
        """All files of the snapshot as a tar. One that breaks off in the middle is not whole."""
        return download(self.app(request, slug), snapshot_id, by=request.user)


class SnapshotKeyView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.SnapshotKeyOut}, operation_id="snapshots_key")
    def get(self, request: Request, slug: str) -> Response:
        """The password with which the app's snapshots are encrypted, for whoever keeps copies of them elsewhere."""
        app = self.app(request, slug)
        policies.check_can_change_app(request.user, app)
        answer = {"password": data_queries.key_of(queries.deployment_ids(app))}
        return Response(serializers.SnapshotKeyOut(answer).data, headers={"Cache-Control": "no-store"})


def _shown(app: App) -> Any:
    deployment = queries.live_deployment(app)
    if deployment is None:
        raise NotDeployed
    data = data_queries.required_data_of(deployment.pk)
    return serializers.SnapshotsOut(data).data
