"""REST framework's side of device authentication; the rules are in nodes/services/identity.py."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from nodes.api.frequent import caller
from nodes.models import Device


class DeviceAuthentication(BaseAuthentication):
    """`Authorization: Bearer <JWT>` signed by the device; `request.user` becomes the Device."""

    def authenticate(self, request: Request) -> tuple[Device, None]:
        return caller(request.headers.get("Authorization", "")), None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
