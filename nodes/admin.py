"""Staff look at devices, leases and readings; by hand they change only how many devices get a version of the agent."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from interchain_site.core import audit
from interchain_site.core.admin import ReadOnlyAdmin
from interchain_site.core.models import User
from nodes.models import (
    AgentRelease,
    CappedClaim,
    Device,
    DeviceHistory,
    DeviceKey,
    GatewayCount,
    Lease,
    MeterTotal,
    ReadingBatch,
    ReleaseKey,
    ReplicaSet,
    RouteDomain,
    RouteOptions,
    SpotCheck,
    WipeReceipt,
)
from nodes.services import releases, route_options, trust
from nodes.states import DeviceState


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = (
        "name", "owner", "region", "state", "reliability", "agent_version", "last_seen_at", "created_at",
    )  # fmt: skip
    list_filter = ("state", "region")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__email", "id")


@admin.register(SpotCheck)
class SpotCheckAdmin(ReadOnlyAdmin):
    list_display = ("device", "state", "issued_at", "decided_at", "proven_rate", "note")
    list_filter = ("state",)
    list_select_related = ("device",)
    search_fields = ("device__id", "device__name")


@admin.register(DeviceHistory)
class DeviceHistoryAdmin(ReadOnlyAdmin):
    list_display = ("device", *trust.SUMS, "passed_in_a_row", "observed_at")
    list_select_related = ("device",)
    search_fields = ("device__id", "device__name")


@admin.register(AgentRelease)
class AgentReleaseAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Staff say how many of a hundred devices should run a version; everything else was signed."""

    list_display = ("version", "percent", "devices", "failures", "created_at")
    fields = ("version", "percent", "sha256", "size", "key", "created_at")
    readonly_fields = ("version", "sha256", "size", "key", "created_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: AgentRelease, form: Any, change: bool) -> None:
        release = AgentRelease.objects.get(pk=obj.pk)
        releases.set_percent(release=release, percent=obj.percent, by=cast(User, request.user))

    @admin.display(description="devices that run it")
    def devices(self, release: AgentRelease) -> int:
        return Device.objects.filter(agent_version=release.version).exclude(state=DeviceState.REVOKED).count()

    @admin.display(description="devices where it did not come up")
    def failures(self, release: AgentRelease) -> int:
        return Device.objects.filter(update_failure__startswith=f"{release.version} ").count()


@admin.register(RouteOptions)
class RouteOptionsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Staff give a name limits unlike the others'."""

    list_display = ("name", "max_body_bytes", "requests_per_second", "grace_ends_at")
    search_fields = ("name",)
    readonly_fields = ("grace_ends_at",)

    def save_model(self, request: HttpRequest, obj: RouteOptions, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            audit.record(
                "route_limits_set",
                subject=f"name:{obj.name}",
                by=cast(User, request.user),
                max_body_bytes=obj.max_body_bytes,
                requests_per_second=obj.requests_per_second,
            )
            route_options.publish(obj.name)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(RouteDomain)
class RouteDomainAdmin(ReadOnlyAdmin):
    list_display = ("host", "name")
    search_fields = ("host", "name")


@admin.register(ReleaseKey)
class ReleaseKeyAdmin(ReadOnlyAdmin):
    list_display = ("public_key", "created_at")


@admin.register(DeviceKey)
class DeviceKeyAdmin(ReadOnlyAdmin):
    list_display = ("device", "public_key", "began_at", "ended_at")
    list_select_related = ("device",)
    search_fields = ("device__name", "device__id", "public_key")


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "slot",
        "generation",
        "device",
        "state",
        "action",
        "reason",
        "opened_at",
        "state_changed_at",
    )
    list_filter = ("state", "reason")
    list_select_related = ("device",)
    search_fields = ("name", "workload_id", "id")
    exclude = ("environment_encrypted",)


@admin.register(ReplicaSet)
class ReplicaSetAdmin(ReadOnlyAdmin):
    list_display = ("name", "wanted", "replicas", "standby", "generation", "due_at", "tries")
    list_filter = ("wanted", "standby")
    search_fields = ("name", "workload_id")
    exclude = ("environment_encrypted",)


@admin.register(MeterTotal)
class MeterTotalAdmin(ReadOnlyAdmin):
    list_display = ("lease", "meter", "total", "method", "at", "capped")
    list_filter = ("meter", "capped")
    list_select_related = ("lease",)
    search_fields = ("lease__id", "lease__workload_id", "lease__name")


@admin.register(ReadingBatch)
class ReadingBatchAdmin(ReadOnlyAdmin):
    list_display = ("batch_id", "device", "created_at", "received_at")
    list_select_related = ("device",)
    search_fields = ("batch_id", "device__name")
    show_full_result_count = False


@admin.register(CappedClaim)
class CappedClaimAdmin(ReadOnlyAdmin):
    list_display = ("device", "day", "meter", "claims", "claimed", "allowed", "last_at")
    list_filter = ("meter",)
    list_select_related = ("device",)
    search_fields = ("device__name", "device__id")


@admin.register(WipeReceipt)
class WipeReceiptAdmin(ReadOnlyAdmin):
    list_display = ("lease", "wiped_at", "volume_bytes", "received_at")
    list_select_related = ("lease",)


@admin.register(GatewayCount)
class GatewayCountAdmin(ReadOnlyAdmin):
    list_display = ("workload_id", "month", "users", "bytes", "updated_at")
    search_fields = ("workload_id",)
    exclude = ("sketch",)
