"""Staff's view of reserve snapshots and of the comparisons of all books. All to read; a comparison can be asked for."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from billing import money
from billing.models import ReconcileRun, ReserveSnapshot
from billing.services import reconcile
from billing.tasks import proofs
from billing.tasks.money import start
from interchain_site.core.admin import ReadOnlyAdmin


@admin.register(ReserveSnapshot)
class ReserveSnapshotAdmin(ReadOnlyAdmin):
    list_display = ("taken_at", "covered", "people", "owed", "held", "block_number", "root")
    ordering = ("-taken_at",)
    actions = ("take_now",)

    @admin.display(boolean=True)
    def covered(self, row: ReserveSnapshot) -> bool:
        return row.is_covered

    def owed(self, row: ReserveSnapshot) -> str:
        return money.format_ntc(row.owed_units)

    def held(self, row: ReserveSnapshot) -> str:
        return "not read" if row.contract_units is None else money.format_ntc(row.contract_units)

    @admin.action(description="Take a new snapshot now")
    def take_now(self, request: HttpRequest, queryset: QuerySet[ReserveSnapshot]) -> None:
        start(proofs.take_reserves_now)
        messages.success(request, "The chain worker takes a snapshot now. Reload in a moment.")


@admin.register(ReconcileRun)
class ReconcileRunAdmin(ReadOnlyAdmin):
    list_display = ("started_at", "outcome", "first_finding", "by")
    list_filter = ("outcome",)
    list_select_related = ("by",)
    readonly_fields = ("report",)
    ordering = ("-started_at",)
    actions = ("compare_now",)

    def first_finding(self, row: ReconcileRun) -> str:
        return next(iter(row.findings), "")

    def report(self, row: ReconcileRun) -> str:
        return reconcile.report(row)

    @admin.action(description="Compare all books again now")
    def compare_now(self, request: HttpRequest, queryset: QuerySet[ReconcileRun]) -> None:
        start(proofs.reconcile_now)
        messages.success(request, "The chain worker compares all books now. Reload in a moment.")
