"""The directory over HTTP: deltas for agents, and for anybody what every node of it answers (nodes/agent/gossip.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.throttling import AnonRateThrottle, BaseThrottle, UserRateThrottle

from nodes import tasks
from nodes.agent import protocol, records
from nodes.agent.records import DirectoryDelta, Suspicion
from nodes.api.agents import AgentView
from nodes.errors import Malformed, NotFound
from nodes.services import directory, directory_keys, peers

ANYBODY = {"Access-Control-Allow-Origin": "*"}


class SuspectThrottle(UserRateThrottle):
    """Of one device that passes on what clients say."""

    scope, rate = "suspects", "60/min"


class ResolveThrottle(AnonRateThrottle):
    scope, rate = "directory", "600/min"


class PublicSuspectThrottle(AnonRateThrottle):
    scope, rate = "public_suspects", "20/min"


class Changes(AgentView):
    """GET ?since=N → 200 DirectoryDelta with an ETag, or 304 when there is nothing new after N."""

    def get(self, request: Request) -> HttpResponse:
        since = request.query_params.get("since", "0")
        if not since.isdigit() or len(since) > 18:
            raise Malformed("since: not a whole number")
        sequence, found, more = directory.changes(since=int(since))
        first, statements = directory_keys.chain()
        some = peers.sample_for(self.device(request).pk)
        nodes = peers.signed_nodes()
        delta = DirectoryDelta(sequence, tuple(found), more, first, statements, some, nodes)
        body = protocol.to_json(delta)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        if not found and request.headers.get("If-None-Match") == etag:
            return HttpResponse(status=304, headers={"ETag": etag})
        return HttpResponse(body, content_type="application/json", headers={"ETag": etag, "Cache-Control": "no-store"})


class Suspects(AgentView):
    """POST Suspicion → 204: a client told this device that an endpoint is dead; its key vouches that somebody did."""

    throttle_classes: Sequence[type[BaseThrottle]] = (SuspectThrottle,)

    def post(self, request: Request) -> HttpResponse:
        _suspect(self.message(request, Suspicion))
        return HttpResponse(status=204)


class Open(AgentView):
    """What anybody may ask: it is signed, or only asks a device whether it is there."""

    authentication_classes = ()
    permission_classes: Sequence[Any] = ()
    throttle_classes: Sequence[type[BaseThrottle]] = (ResolveThrottle,)


class Resolve(Open):
    """GET → {"record": JWS, "statements": [JWS]}."""

    def get(self, request: Request, name: str) -> HttpResponse:
        record, (_, statements) = directory.resolve(name), directory_keys.chain()
        return JsonResponse({"record": record, "statements": list(statements)}, headers=ANYBODY)


class Nodes(Open):
    """GET → {"nodes": JWS over NodeList}."""

    def get(self, request: Request) -> HttpResponse:
        compact = peers.signed_nodes()
        if not compact:
            raise NotFound("No node serves the directory now.")
        return JsonResponse({"nodes": compact}, headers=ANYBODY)


class TrustFile(Open):
    """GET → what `interchain connect` needs to know before it trusts anybody: the directory's key, and whom to ask."""

    def get(self, request: Request) -> HttpResponse:
        first, statements = directory_keys.chain()
        compact = peers.signed_nodes()
        seeds = records.unchecked_nodes(compact).nodes if compact else ()
        document = {
            "format": "interchain-trust-1",
            "key": first,
            "statements": list(statements),
            "portal": settings.PORTAL_URL,
            "seeds": list(seeds),
        }
        answer = JsonResponse(document, headers=ANYBODY, json_dumps_params={"indent": 2})
        answer["Content-Disposition"] = 'attachment; filename="interchain-trust.json"'
        return answer


class PublicSuspect(Open):
    """POST Suspicion → 204, from a client that reaches the portal itself."""

    throttle_classes: Sequence[type[BaseThrottle]] = (PublicSuspectThrottle,)

    def post(self, request: Request) -> HttpResponse:
        _suspect(self.message(request, Suspicion))
        return HttpResponse(status=204)


def _suspect(said: Suspicion) -> None:
    """Have the device asked, if the directory knows it; a lie costs one ping."""
    if not directory.holds(workload_id=said.workload_id, endpoint=said.endpoint):
        raise NotFound("The directory has no such endpoint for this.")
    tasks.suspect_endpoint.delay(said.workload_id, said.endpoint, "client")
