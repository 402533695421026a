"""Apps and releases for programs."""

from __future__ import annotations

import json
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from interchain_site.core.errors import Invalid, NotFound
from marketplace import queries
from marketplace.api import serializers
from marketplace.api.base import REFUSALS, AppView, person
from marketplace.services import publishing


class AppsView(APIView):
    @extend_schema(responses=serializers.AppOut(many=True), operation_id="apps_list")
    def get(self, request: Request) -> Response:
        """Your apps."""
        return Response(serializers.AppOut(queries.apps_of(person(request)), many=True).data)

    @extend_schema(
        request=serializers.AppIn, responses={**REFUSALS, 201: serializers.AppOut}, operation_id="apps_create"
    )
    def post(self, request: Request) -> Response:
        """Register an app."""
        given = serializers.AppIn(data=request.data)
        given.is_valid(raise_exception=True)
        app = publishing.register_app(by=person(request), **given.validated_data)
        return Response(serializers.AppOut(app).data, status=201)


class OneAppView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.AppOut}, operation_id="apps_read")
    def get(self, request: Request, slug: str) -> Response:
        """One app."""
        return Response(serializers.AppOut(self.app(request, slug)).data)


class ReleasesView(AppView):
    parser_classes = (JSONParser, MultiPartParser)

    @extend_schema(responses={**REFUSALS, 200: serializers.ReleaseOut(many=True)}, operation_id="releases_list")
    def get(self, request: Request, slug: str) -> Response:
        """The releases of an app, newest first."""
        releases = self.app(request, slug).releases.order_by("-number")
        return Response(serializers.ReleaseOut(releases, many=True).data)

    @extend_schema(
        request={"application/json": serializers.ReleaseIn, "multipart/form-data": serializers.ReleaseUploadIn},
        responses={**REFUSALS, 201: serializers.ReleaseOut},
        operation_id="releases_create",
    )
    def post(self, request: Request, slug: str) -> Response:
        """Add a release: an image by digest, or an archive in a multipart form."""
        app = self.app(request, slug)
        given = serializers.ReleaseUploadIn(data=_with_dictionaries(request))
        given.is_valid(raise_exception=True)
        archive = given.validated_data.get("archive")
        release = publishing.add_release(app=app, spec=given.spec(), archive=archive, by=person(request))
        return Response(serializers.ReleaseOut(release).data, status=201)


class ReleaseView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.ReleaseOut}, operation_id="releases_read")
    def get(self, request: Request, slug: str, number: int) -> Response:
        """One release."""
        release = queries.release_of(self.app(request, slug), number)
        if release is None:
            raise NotFound("This app has no such release.")
        return Response(serializers.ReleaseOut(release).data)


def _with_dictionaries(request: Request) -> Any:
    """Return the sent data; in a multipart form the two dictionaries come as JSON text."""
    if not str(request.content_type).startswith("multipart/"):
        return request.data
    sent: Any = request.data
    data = sent.dict()
    for name in ("environment", "secrets"):
        if name not in data:
            continue
        try:
            data[name] = json.loads(str(data[name]))
        except (ValueError, RecursionError):
            raise Invalid(fields={name: 'Send an object as JSON text, such as {"NAME": "value"}.'}) from None
    return data
