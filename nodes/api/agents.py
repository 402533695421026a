"""What agents call (paths and messages: nodes/agent/protocol.py; prose: docs/agent-protocol.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle, BaseThrottle
from rest_framework.views import APIView

from interchain_site.core.errors import DomainError
from nodes.agent import protocol
from nodes.api import frequent
from nodes.api.authentication import DeviceAuthentication
from nodes.api.files import stream
from nodes.errors import Malformed, TooLarge
from nodes.models import Device
from nodes.services import (
    archives,
    checkups,
    device_keys,
    devices,
    directory_keys,
    enrolment,
    link_keys,
    liveness,
    receipts,
    refusals,
    releases,
    snapshot_reports,
    spot_checks,
)

T = TypeVar("T")


class AgentView(APIView):
    """A view only a device may call. Bodies are read raw and held to protocol.MAX_BODY_BYTES; refusals are audited."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (DeviceAuthentication,)
    parser_classes = ()
    schema = None

    def device(self, request: Request) -> Device:
        return cast(Device, request.user)  # DeviceAuthentication is the only way in

    def body(self, request: Request) -> bytes:
        if int(request.META.get("CONTENT_LENGTH") or 0) > protocol.MAX_BODY_BYTES:
            raise TooLarge
        return bytes(request.body)

    def message(self, request: Request, kind: type[T]) -> T:
        try:
            return protocol.from_json(kind, self.body(request))
        except protocol.ProtocolError as error:
            raise Malformed(str(error)) from None

    def jws(self, request: Request) -> str:
        return frequent.compact_jws(self.body(request))

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, DomainError) and exc.status < 500:
            caller = getattr(self.request, "_user", None)
            refusals.record(exc, device=caller if isinstance(caller, Device) else None, path=self.request.path)
        return super().handle_exception(exc)


class EnrolmentThrottle(AnonRateThrottle):
    rate = "60/min"


class Enrol(AgentView):
    """POST Enrolment → 201 Enrolled; the token in it is what proves the right to."""

    authentication_classes = ()
    permission_classes: Sequence[Any] = ()
    throttle_classes: Sequence[type[BaseThrottle]] = (EnrolmentThrottle,)

    def post(self, request: Request) -> HttpResponse:
        message = self.message(request, protocol.Enrolment)
        device = enrolment.enrol(enrolment=message, seen_address=EnrolmentThrottle().get_ident(request))
        liveness.heard([device.pk])
        # What to run holds secrets: only a request signed by the device gets it, and a token alone proves no key.
        key = releases.key_in_force()
        answer = protocol.Enrolled(
            device_id=str(device.pk),
            portal_url=settings.PORTAL_URL,
            link_url=_link_url(),
            release_key=key.public_key if key else "",
            directory_key=directory_keys.chain()[0],
            link_key=link_keys.in_force().public_key,
        )
        return HttpResponse(protocol.to_json(answer), content_type="application/json", status=201)


class InstallChecks(AgentView):
    """POST CheckReport with an unused token → 204: what the install command found so far, live on the device's page."""

    authentication_classes = ()
    permission_classes: Sequence[Any] = ()
    throttle_classes: Sequence[type[BaseThrottle]] = (EnrolmentThrottle,)

    def post(self, request: Request) -> HttpResponse:
        report = self.message(request, protocol.CheckReport)
        checkups.take_with_token(token=report.token, checks=report.checks)
        return HttpResponse(status=204)


class Checks(AgentView):
    """POST CheckReport → 204."""

    def post(self, request: Request) -> HttpResponse:
        report = self.message(request, protocol.CheckReport)
        checkups.take(device=self.device(request), checks=report.checks)
        return HttpResponse(status=204)


class DesiredView(AgentView):
    """GET → 200 Desired with an ETag, or 304 when the agent has just that. The web process answers it before Django does."""

    def get(self, request: Request) -> HttpResponse:
        known = request.headers.get("If-None-Match", "")
        return _said(frequent.desired(self.device(request), known=known))


class ReportView(AgentView):
    """POST Report → 204. The web process answers it before Django does."""

    def post(self, request: Request) -> HttpResponse:
        return _said(frequent.report(self.device(request), self.body(request)))


class ModeView(AgentView):
    """POST ModeWish → 204: typed at the device, so its key speaks for the owner."""

    def post(self, request: Request) -> HttpResponse:
        wish = self.message(request, protocol.ModeWish)
        devices.wish_mode(device=self.device(request), mode=wish.mode)
        return HttpResponse(status=204)


class Key(AgentView):
    """POST a JWS over KeyChange, signed with the old key → 204."""

    def post(self, request: Request) -> HttpResponse:
        device_keys.change(device=self.device(request), jws=self.jws(request))
        return HttpResponse(status=204)


class Leave(AgentView):
    """POST → 204: the owner removes the device at the device itself."""

    def post(self, request: Request) -> HttpResponse:
        device = self.device(request)
        devices.revoke_device(device=device, by=device.owner)
        return HttpResponse(status=204)


class Readings(AgentView):
    """POST a JWS over ReadingBatch → 200 Accepted. The web process answers it before Django does."""

    def post(self, request: Request) -> HttpResponse:
        return _said(frequent.readings(self.device(request), self.body(request)))


class Receipts(AgentView):
    """POST a JWS over WipeReceipt → 204."""

    def post(self, request: Request) -> HttpResponse:
        receipts.take(device=self.device(request), jws=self.jws(request))
        return HttpResponse(status=204)


class SnapshotAccess(AgentView):
    """POST SnapshotAccessWish → SnapshotAccess."""

    def post(self, request: Request) -> HttpResponse:
        wish = self.message(request, protocol.SnapshotAccessWish)
        opened = snapshot_reports.open_for(device=self.device(request), lease_id=_uuid(wish.lease_id, "lease_id"))
        return HttpResponse(protocol.to_json(opened), content_type="application/json")


class Snapshots(AgentView):
    """POST a JWS over SnapshotReport → 204."""

    def post(self, request: Request) -> HttpResponse:
        snapshot_reports.take_report(device=self.device(request), jws=self.jws(request))
        return HttpResponse(status=204)


class SpotCheck(AgentView):
    """POST a JWS over SpotCheckAnswer → 204."""

    def post(self, request: Request) -> HttpResponse:
        spot_checks.take_answer(device=self.device(request), jws=self.jws(request))
        return HttpResponse(status=204)


class Release(AgentView):
    """GET → ReleaseOffer: the version this device should change to, signed."""

    def get(self, request: Request) -> HttpResponse:
        offer = releases.offer_for(self.device(request))
        return HttpResponse(protocol.to_json(offer), content_type="application/json")


class ReleaseFile(AgentView):
    """GET → a version's wheel."""

    def get(self, request: Request, sha256: str) -> HttpResponseBase:
        return stream(request, releases.file_of(sha256), content_type="application/zip")


class Archive(AgentView):
    """GET → the image archive of a workload leased to this device."""

    def get(self, request: Request, sha256: str) -> HttpResponseBase:
        path = archives.path_for_device(device=self.device(request), sha256=sha256)
        return stream(request, path, content_type="application/x-tar")


def _uuid(text: str, name: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Malformed(f"{name}: not a UUID.") from None


def _said(answer: frequent.Answer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)


def _link_url() -> str:
    parts = urlsplit(settings.PORTAL_URL)
    return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{protocol.LINK_PATH}"
