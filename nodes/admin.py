"""Staff look at devices, leases and readings; nothing here is edited by hand."""

from __future__ import annotations

from django.contrib import admin

from interchain_site.core.admin import ReadOnlyAdmin
from nodes.models import Device, GatewayCount, Lease, MeterTotal, ReadingBatch, WipeReceipt


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = ("name", "owner", "region", "state", "agent_version", "last_seen_at", "created_at")
    list_filter = ("state", "region")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__email", "id")


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("name", "generation", "device", "state", "action", "reason", "opened_at", "state_changed_at")
    list_filter = ("state", "reason")
    list_select_related = ("device",)
    search_fields = ("name", "workload_id", "id")
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


@admin.register(WipeReceipt)
class WipeReceiptAdmin(ReadOnlyAdmin):
    list_display = ("lease", "wiped_at", "volume_bytes", "received_at")
    list_select_related = ("lease",)


@admin.register(GatewayCount)
class GatewayCountAdmin(ReadOnlyAdmin):
    list_display = ("workload_id", "month", "users", "bytes", "updated_at")
    search_fields = ("workload_id",)
    exclude = ("sketch",)
