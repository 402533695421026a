"""A publisher's own domains for programs."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.api import serializers
from marketplace.api.base import REFUSALS, AppView, person
from marketplace.models import Domain
from marketplace.services import domains


class DomainsView(AppView):
    @extend_schema(responses={**REFUSALS, 200: serializers.DomainOut(many=True)}, operation_id="domains_list")
    def get(self, request: Request, slug: str) -> Response:
        """The domains of an app, proven or not."""
        return Response(serializers.DomainOut(Domain.objects.filter(app=self.app(request, slug)), many=True).data)

    @extend_schema(
        request=serializers.DomainIn, responses={**REFUSALS, 201: serializers.DomainOut}, operation_id="domains_create"
    )
    def post(self, request: Request, slug: str) -> Response:
        """Add a domain; it is served once its TXT record proves it."""
        given = serializers.DomainIn(data=request.data)
        given.is_valid(raise_exception=True)
        domain = domains.add(app=self.app(request, slug), by=person(request), **given.validated_data)
        return Response(serializers.DomainOut(domain).data, status=201)


class DomainView(AppView):
    @extend_schema(request=None, responses={**REFUSALS, 200: serializers.DomainOut}, operation_id="domains_check")
    def post(self, request: Request, slug: str, host: str) -> Response:
        """Look for the domain's TXT record now."""
        domain = domains.check(app=self.app(request, slug), host=host.lower(), by=person(request))
        return Response(serializers.DomainOut(domain).data)

    @extend_schema(responses={**REFUSALS, 204: None}, operation_id="domains_remove")
    def delete(self, request: Request, slug: str, host: str) -> Response:
        """Stop serving the domain at once."""
        domains.remove(app=self.app(request, slug), host=host.lower(), by=person(request))
        return Response(status=204)
