"""Devices for their owner's programs: list them, add one, pause it, remove it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar, cast
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from interchain_site.core.models import User
from nodes import queries, screens
from nodes.agent.protocol import Limits, Mode, Profile, from_json
from nodes.models import Device
from nodes.regions import Region
from nodes.services import devices, enrolment, owner_limits


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
            "local_mode",
            "local_reason",
            "agent_version",
            "cpu_millis",
            "memory_bytes",
            "disk_bytes",
            "leases",
            "created_at",
            "enrolled_at",
            "last_seen_at",
        ]


class HoursSerializer(serializers.Serializer[Any]):
    day = serializers.IntegerField(min_value=0, max_value=6, help_text="0 is Monday.")
    opens = serializers.IntegerField(min_value=0, max_value=1439, default=0, help_text="Minute of the day.")
    closes = serializers.IntegerField(
        min_value=0, max_value=1440, default=1440, help_text="Not after `opens`: it ends the next day."
    )


class LimitsSerializer(serializers.Serializer[Any]):
    """What an owner lends; 0 means no limit, no hours mean always."""

    cpu_millis = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
    memory_bytes = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
    disk_bytes = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
    transfer_bytes_per_month = serializers.IntegerField(min_value=0, max_value=2**62, default=0)
    hours = HoursSerializer(many=True, default=list)
    time_zone = serializers.CharField(max_length=64, default="UTC")
    drain_minutes = serializers.IntegerField(min_value=0, max_value=240, default=10)
    profiles = serializers.ListField(
        child=serializers.ChoiceField(choices=[profile.value for profile in Profile]),
        default=[profile.value for profile in Profile],
    )
    outbound = serializers.BooleanField(default=True)
    blocked_images = serializers.ListField(child=serializers.CharField(max_length=300), default=list, max_length=200)


class ModeInput(serializers.Serializer[Any]):
    mode = serializers.ChoiceField(choices=[Mode.OPEN.value, Mode.PAUSED.value, Mode.DRAINING.value])


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


class DeviceLimits(APIView):
    """What you lend of a device. The limits in the device's own file hold as well."""

    @extend_schema(responses=LimitsSerializer, operation_id="device_limits_read")
    def get(self, request: Request, device_id: UUID) -> Response:
        device = queries.device_of(_owner(request), device_id)
        return Response(LimitsSerializer(dataclasses.asdict(device.both_limits[0])).data)

    @extend_schema(request=LimitsSerializer, responses=LimitsSerializer, operation_id="device_limits_set")
    def put(self, request: Request, device_id: UUID) -> Response:
        device = queries.device_of(_owner(request), device_id)
        given = LimitsSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        limits = from_json(Limits, json.loads(json.dumps(given.validated_data)))
        owner_limits.set_limits(device=device, limits=limits, by=_owner(request))
        return Response(LimitsSerializer(dataclasses.asdict(limits)).data)


class DeviceMode(APIView):
    """Pause a device, drain it, or open it again."""

    @extend_schema(request=ModeInput, responses=DeviceOutput, operation_id="device_mode_set")
    def put(self, request: Request, device_id: UUID) -> Response:
        device = queries.device_of(_owner(request), device_id)
        given = ModeInput(data=request.data)
        given.is_valid(raise_exception=True)
        devices.wish_mode(device=device, mode=Mode(given.validated_data["mode"]))
        return Response(DeviceOutput(queries.device_of(_owner(request), device_id)).data)


def _owner(request: Request) -> User:
    return cast(User, request.user)
