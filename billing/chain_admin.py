"""Staff's view of settlement: epochs, statements, claims and chain transactions. All to read; a veto to review."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from billing import money
from billing.models import ChainAccount, ChainAttempt, ChainEvent, ChainTransaction, Claim, Epoch, UsageStatement
from billing.services import vetoes
from interchain_site.core.admin import ReadOnlyAdmin
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User


@admin.register(Epoch)
class EpochAdmin(ReadOnlyAdmin):
    list_display = (
        "sequence",
        "state",
        "closed_at",
        "earned",
        "withdrawn",
        "accounts",
        "statements_count",
        "gas",
        "error",
        "reviewed_at",
    )
    list_filter = ("state",)
    list_select_related = ("posting",)
    actions = ("let_settlement_go_on",)

    @admin.display(ordering="earned_units")
    def earned(self, epoch: Epoch) -> str:
        return money.format_ntc(epoch.earned_units)

    @admin.display(ordering="withdrawal_units")
    def withdrawn(self, epoch: Epoch) -> str:
        return money.format_ntc(epoch.withdrawal_units)

    @admin.display(ordering="posting__gas_used")
    def gas(self, epoch: Epoch) -> int | None:
        return epoch.posting.gas_used if epoch.posting else None

    @admin.action(description="Let settlement go on after the selected vetoed epochs", permissions=["review"])
    def let_settlement_go_on(self, request: HttpRequest, queryset: QuerySet[Epoch]) -> None:
        assert isinstance(request.user, User)  # noqa: S101  (for the type checker: the admin is for staff)
        for epoch in queryset:
            try:
                vetoes.resume(epoch_id=epoch.pk, by=request.user, now=timezone.now())
                messages.success(request, f"{epoch}: reviewed.")
            except DomainError as error:
                messages.error(request, f"{epoch}: {error.message}")

    def has_review_permission(self, request: HttpRequest) -> bool:
        return isinstance(request.user, User) and request.user.has_perm("billing.change_epoch")


@admin.register(UsageStatement)
class UsageStatementAdmin(ReadOnlyAdmin):
    list_display = ("key", "sha256", "created_at", "epoch")
    readonly_fields = ("document",)
    search_fields = ("key", "sha256")
    list_select_related = ("epoch",)
    show_full_result_count = False
    ordering = ("-id",)


@admin.register(Claim)
class ClaimAdmin(ReadOnlyAdmin):
    list_display = ("id", "wallet", "state", "ntc", "epoch", "transaction_hash", "requested_at", "final_at", "error")
    list_filter = ("state",)
    search_fields = ("wallet__address", "wallet__user__email", "transaction_hash")
    list_select_related = ("wallet", "epoch")

    @admin.display(description="NTC", ordering="units")
    def ntc(self, claim: Claim) -> str:
        return money.format_ntc(claim.units)


class StuckFilter(admin.SimpleListFilter):
    title = "stuck"
    parameter_name = "stuck"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "In no block for too long")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ChainTransaction]) -> QuerySet[ChainTransaction]:
        if self.value() != "yes":
            return queryset
        return queryset.filter(pk__in=ChainTransaction.objects.stuck())


class AttemptInline(admin.TabularInline):  # type: ignore[type-arg]
    model = ChainAttempt
    extra = 0
    can_delete = False
    fields = readonly_fields = ("hash", "max_fee", "priority_fee", "created_at", "sent_at")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(ChainEvent)
class ChainEventAdmin(ReadOnlyAdmin):
    list_display = ("block_number", "contract", "name", "state", "transaction_hash", "block_time", "booked_at", "error")
    list_filter = ("state", "contract", "name")
    search_fields = ("transaction_hash", "block_hash")
    show_full_result_count = False


@admin.register(ChainAccount)
class ChainAccountAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "reference")
    search_fields = ("reference", "user__email")
    list_select_related = ("user",)


@admin.register(ChainTransaction)
class ChainTransactionAdmin(ReadOnlyAdmin):
    list_display = ("key", "sender", "nonce", "state", "gas_used", "created_at", "mined_at", "error")
    list_filter = (StuckFilter, "state")
    search_fields = ("key", "mined_hash", "attempts__hash")
    list_select_related = ("sender",)
    exclude = ("data",)
    inlines = (AttemptInline,)
