"""restic's REST protocol (https://restic.readthedocs.io, "REST backend", version 2), append-only for devices.

Every upload but `config` must be named by its SHA-256, so that a repository cannot be filled with rubbish under good names.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shutil
import tempfile
from typing import IO, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from nodes.errors import Busy
from nodes.models import SnapshotRepository
from nodes.snapshots import grants
from nodes.snapshots.grants import Grant
from nodes.snapshots.store import Repository, is_named_by_content

MEDIA_TYPE = "application/vnd.x.restic.rest.v2"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


@method_decorator(csrf_exempt, name="dispatch")
class RepositoryView(View):
    """Everything under one repository: `config`, `<kind>/`, `<kind>/<name>`."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            grant = _grant(request)
        except Busy as error:
            return HttpResponse(error.message, status=503)
        if grant is None or grant.workload_id != str(kwargs["workload_id"]):
            return HttpResponse("Unauthorized", status=401, headers={"WWW-Authenticate": "Basic"})
        self.grant = grant
        self.repository = Repository(kwargs["workload_id"])
        try:
            return super().dispatch(request, *args, **kwargs)
        except FileNotFoundError:
            return HttpResponse("Not found", status=404)

    def head(self, request: HttpRequest, workload_id: UUID, kind: str, name: str = "") -> HttpResponse:
        return HttpResponse(headers={"Content-Length": str(self.repository.size(kind, name))})

    def get(self, request: HttpRequest, workload_id: UUID, kind: str, name: str = "") -> HttpResponse:
        if not name and kind != "config":
            listed = [{"name": item.name, "size": item.size} for item in self.repository.items(kind)]
            return HttpResponse(json.dumps(listed), content_type=MEDIA_TYPE)
        with self.repository.open(kind, name) as file:
            wanted = _RANGE.match(request.headers.get("Range", ""))
            if wanted is None:
                return HttpResponse(file.read(), content_type="application/octet-stream")
            first, last = int(wanted[1]), wanted[2]
            file.seek(first)
            data = file.read(int(last) - first + 1) if last else file.read()
            return HttpResponse(data, status=206, content_type="application/octet-stream")

    def post(self, request: HttpRequest, workload_id: UUID, kind: str = "", name: str = "") -> HttpResponse:
        if not kind:
            return HttpResponse(status=200)  # ?create=true: folders need not be made
        if not name and kind != "config":
            return HttpResponse("Not found", status=404)
        if kind == "config" and self.repository.exists("config", ""):
            return HttpResponse("There is one already", status=403)
        body: IO[bytes] = request  # type: ignore[assignment]  # read in chunks, from memory or Django's spooled file
        if kind == "config":
            self.repository.save(kind, name, _spooled(body))
            return HttpResponse(status=200)
        if self._full(request):
            return HttpResponse("This app's snapshots hold as much as they may.", status=413)
        content = _spooled(body)
        if not is_named_by_content(name, content):
            return HttpResponse("The name is not the SHA-256 of what was sent", status=400)
        self.repository.save(kind, name, content)
        return HttpResponse(status=200)

    def delete(self, request: HttpRequest, workload_id: UUID, kind: str, name: str = "") -> HttpResponse:
        # A lock only keeps others waiting, and who took it must be able to let go.
        if kind != "locks" and not self.grant.may_remove:
            return HttpResponse("Only the portal removes snapshots", status=403)
        self.repository.delete(kind, name)
        return HttpResponse(status=200)

    def _full(self, request: HttpRequest) -> bool:
        if self.grant.may_remove:
            return False
        row = SnapshotRepository.objects.filter(pk=self.grant.workload_id).first()
        return row is None or row.bytes + int(request.headers.get("Content-Length") or 0) > row.limit_bytes


def _grant(request: HttpRequest) -> Grant | None:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return grants.find(user, password)


def _spooled(body: IO[bytes]) -> IO[bytes]:
    """Return the body as a file that can be read twice; more than two megabytes lie on disk."""
    file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=2 * 2**20)  # noqa: SIM115
    shutil.copyfileobj(body, file, 256 * 1024)
    file.seek(0)
    return file
