"""Devices for their owner's programs: list them, add one, pause it, remove it."""

from __future__ import annotations

from typing import Any, ClassVar, cast
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from interchain_site.core.models import User
from nodes import queries, screens
from nodes.models import Device
from nodes.regions import Region
from nodes.services import devices, enrolment


class DeviceInput(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=60)
    region = serializers.ChoiceField(choices=Region.choices)


class DeviceOutput(serializers.ModelSerializer[Device]):
    leases = serializers.IntegerField(source="lease_count", read_only=True)

    class Meta:
        model = Device
        fields: ClassVar[list[str]] = [
            "id",
            "name",
            "region",
            "state",
            "agent_version",
            "cpu_millis",
            "memory_bytes",
            "disk_bytes",
            "leases",
            "created_at",
            "enrolled_at",
            "last_seen_at",
        ]


class NewDeviceOutput(serializers.Serializer[Any]):
    device = DeviceOutput()
    install_command = serializers.CharField(help_text="Type it on the computer; it works once, for 24 hours.")


class Devices(APIView):
    """Your devices."""

    @extend_schema(responses=DeviceOutput(many=True), operation_id="devices_list")
    def get(self, request: Request) -> Response:
        return Response(DeviceOutput(queries.devices_of(_owner(request)), many=True).data)

    @extend_schema(request=DeviceInput, responses={201: NewDeviceOutput}, operation_id="devices_create")
    def post(self, request: Request) -> Response:
        given = DeviceInput(data=request.data)
        given.is_valid(raise_exception=True)
        device, token = enrolment.create_device(owner=_owner(request), **given.validated_data)
        made = {
            "device": queries.device_of(_owner(request), device.pk),
            "install_command": screens.install_command(token),
        }
        return Response(NewDeviceOutput(made).data, status=201)


class DeviceView(APIView):
    """One of your devices."""

    @extend_schema(responses=DeviceOutput, operation_id="devices_read")
    def get(self, request: Request, device_id: UUID) -> Response:
        return Response(DeviceOutput(queries.device_of(_owner(request), device_id)).data)

    @extend_schema(responses={204: None}, operation_id="devices_remove")
    def delete(self, request: Request, device_id: UUID) -> Response:
        device = queries.device_of(_owner(request), device_id)
        devices.revoke_device(device=device, by=_owner(request))
        return Response(status=204)


def _owner(request: Request) -> User:
    return cast(User, request.user)
