"""REST framework's side of device authentication; the rules are in nodes/services/identity.py."""

from __future__ import annotations

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from nodes.errors import Unauthenticated
from nodes.models import Device
from nodes.services import identity, liveness


class DeviceAuthentication(BaseAuthentication):
    """`Authorization: Bearer <JWT>` signed by the device; `request.user` becomes the Device."""

    def authenticate(self, request: Request) -> tuple[Device, None]:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("Send Authorization: Bearer with a JWT signed by the device.")
        device = identity.authenticate(token)
        liveness.mark_online(device)
        return device, None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"
