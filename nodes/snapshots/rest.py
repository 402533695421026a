"""restic's REST protocol (https://restic.readthedocs.io, "REST backend", version 2), append-only for devices.

Every upload but `config` must be named by its SHA-256, so that a repository cannot be filled with rubbish under good names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tempfile
from typing import IO, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from nodes.body_limit import SNAPSHOT_BYTES
from nodes.errors import Busy, StorageAway, TooLarge
from nodes.models import SnapshotRepository
from nodes.services import snapshot_storage
from nodes.snapshots import grants
from nodes.snapshots.grants import Grant
from nodes.snapshots.store import Repository
from nodes.streaming import CHUNK_BYTES, streamed

MEDIA_TYPE = "application/vnd.x.restic.rest.v2"
MEMORY_BYTES = 2 * 2**20  # of a body; the rest lies on disk while it arrives
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
        except StorageAway as error:
            snapshot_storage.note_away(error)
            return HttpResponse(error.message, status=error.status)

    def head(self, request: HttpRequest, workload_id: UUID, kind: str, name: str = "") -> HttpResponse:
        return HttpResponse(headers={"Content-Length": str(self.repository.size(kind, name))})

    def get(self, request: HttpRequest, workload_id: UUID, kind: str, name: str = "") -> HttpResponseBase:
        if not name and kind != "config":
            listed = [{"name": item.name, "size": item.size} for item in self.repository.items(kind)]
            return HttpResponse(json.dumps(listed), content_type=MEDIA_TYPE)
        whole = self.repository.size(kind, name)
        wanted = _RANGE.match(request.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]), whole - 1) if wanted and wanted[2] else whole - 1
        if first > last and whole:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{whole}"})
        size = last - first + 1
        headers = {"Content-Length": str(size)}
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{last}/{whole}"
        chunks = self.repository.read(kind, name, first, size)
        status = 206 if wanted else 200
        return streamed(request, chunks, content_type="application/octet-stream", headers=headers, status=status)

    def post(self, request: HttpRequest, workload_id: UUID, kind: str = "", name: str = "") -> HttpResponse:
        if not kind:
            return HttpResponse(status=200)  # ?create=true: folders need not be made
        if not name and kind != "config":
            return HttpResponse("Not found", status=404)
        if kind == "config" and self.repository.exists("config", ""):
            return HttpResponse("There is one already", status=403)
        if kind != "config" and self._full(request):
            return HttpResponse("This app's snapshots hold as much as they may.", status=413)
        with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as content:
            try:
                digest = _take(request, content)
            except TooLarge:
                return HttpResponse(f"At most {SNAPSHOT_BYTES} bytes may be sent here.", status=413)
            if kind != "config" and digest != name:
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


def _take(body: HttpRequest, content: IO[bytes]) -> str:
    """Copy the body to a file, which is left at its beginning, some at a time; returns its SHA-256.

    Raises:
        TooLarge: it is more than restic ever sends.
    """
    digest, size = hashlib.sha256(), 0
    while chunk := body.read(CHUNK_BYTES):
        size += len(chunk)
        if size > SNAPSHOT_BYTES:
            raise TooLarge
        digest.update(chunk)
        content.write(chunk)
    content.seek(0)
    return digest.hexdigest()
