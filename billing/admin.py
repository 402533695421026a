"""Staff's view of money: the ledger to read, the rate to set, payments to refund."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from billing import (  # noqa: F401  (most of them register their pages)
    cash_out_admin,
    chain_admin,
    money,
    proof_admin,
    sale_admin,
    wallet_admin,
)
from billing.models import Account, DeskRate, Dispute, Entry, HeldEarning, Payment, Quote, StripeEvent, Transaction
from billing.services import charges, desk, topups
from interchain_site.core.admin import ReadOnlyAdmin
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User


class EntryInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Entry
    extra = 0
    can_delete = False
    fields = readonly_fields = ("account", "shown_amount", "shown_balance")

    @admin.display(description="amount")
    def shown_amount(self, entry: Entry) -> str:
        return money.format_amount(entry.amount, entry.account.currency)

    @admin.display(description="balance after")
    def shown_balance(self, entry: Entry) -> str:
        return money.format_amount(entry.balance_after, entry.account.currency)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entry]:
        return super().get_queryset(request).select_related("account__user")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "currency", "user", "shown_balance")
    list_filter = ("kind", "currency")
    search_fields = ("user__email", "kind")
    list_select_related = ("user",)

    @admin.display(description="balance", ordering="balance")
    def shown_balance(self, account: Account) -> str:
        return money.format_amount(account.balance, account.currency)


@admin.register(Transaction)
class TransactionAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "key", "effective_at", "memo", "reference")
    list_filter = ("kind",)
    search_fields = ("key", "reference", "memo")
    inlines = (EntryInline,)
    show_full_result_count = False
    ordering = ("-id",)


@admin.register(HeldEarning)
class HeldEarningAdmin(ReadOnlyAdmin):
    """Earnings in their hold. Unpaid ones wait for their publisher, or for staff who looked at them."""

    list_display = ("id", "owner", "publisher", "effective_at", "unpaid", "shown_units")
    list_filter = ("unpaid",)
    search_fields = ("account__user__email", "publisher__email")
    list_select_related = ("account__user", "publisher")
    actions = ("let_go",)
    ordering = ("effective_at", "id")

    @admin.display(description="owner")
    def owner(self, held: HeldEarning) -> str:
        return str(held.account.user)

    @admin.display(description="amount", ordering="units")
    def shown_units(self, held: HeldEarning) -> str:
        return money.format_ntc(held.units)

    @admin.action(description="Let unpaid earnings go: the platform bears the loss", permissions=["let_go"])
    def let_go(self, request: HttpRequest, queryset: QuerySet[HeldEarning]) -> None:
        units = charges.let_go_unpaid(held_ids=[row.pk for row in queryset], by=_staff(request))
        self.message_user(request, f"{money.format_ntc(units)} leave their hold when its time is over.")

    def has_let_go_permission(self, request: HttpRequest) -> bool:
        return _staff(request).has_perm("billing.change_heldearning")


class RateForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = DeskRate
        fields = ("rate", "starts_at")

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if found.get("starts_at") and found["starts_at"] < timezone.now():
            self.add_error("starts_at", "A rate cannot start in the past. Choose a moment that is still to come.")
        return found


@admin.register(DeskRate)
class DeskRateAdmin(ReadOnlyAdmin):
    """Staff add rates; what was set stays as it was."""

    form = RateForm
    list_display = ("rate", "starts_at", "set_by", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return isinstance(request.user, User) and request.user.has_perm("billing.add_deskrate")

    def save_model(self, request: HttpRequest, obj: DeskRate, form: Any, change: bool) -> None:
        assert isinstance(request.user, User)  # noqa: S101  (for the type checker: the admin is for staff)
        saved = desk.set_rate(rate=obj.rate, starts_at=obj.starts_at, by=request.user, now=timezone.now())
        obj.pk, obj.set_by, obj.created_at = saved.pk, saved.set_by, saved.created_at


class DisputeInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Dispute
    extra = 0
    can_delete = False
    readonly_fields = ("id", "cents", "units", "state", "reason", "opened_at", "closed_at")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Payment)
class PaymentAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "user", "state", "dollars", "ntc", "refunded", "credited_at")
    list_filter = ("state",)
    search_fields = ("user__email", "id", "session_id", "payment_intent_id")
    list_select_related = ("user",)
    inlines = (DisputeInline,)
    actions = ("refund_in_full", "ask_stripe_again")

    @admin.display(description="paid", ordering="cents")
    def dollars(self, payment: Payment) -> str:
        return money.format_usd_cents(payment.cents)

    @admin.display(description="NTC", ordering="units")
    def ntc(self, payment: Payment) -> str:
        return money.format_ntc(payment.units)

    @admin.display(ordering="refunded_cents")
    def refunded(self, payment: Payment) -> str:
        return money.format_usd_cents(payment.refunded_cents)

    @admin.action(description="Refund what is left of the selected payments", permissions=["refund"])
    def refund_in_full(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        for payment in queryset:
            try:
                topups.refund_payment(payment_id=payment.pk, cents=None, by=_staff(request), now=timezone.now())
                messages.success(request, f"{payment.pk}: refunded.")
            except DomainError as error:
                messages.error(request, f"{payment.pk}: {error.message}")

    @admin.action(description="Ask Stripe again about the selected payments", permissions=["refund"])
    def ask_stripe_again(self, request: HttpRequest, queryset: QuerySet[Payment]) -> None:
        for payment in queryset:
            try:
                topups.sync_payment(payment_id=payment.pk, now=timezone.now())
            except DomainError as error:
                messages.error(request, f"{payment.pk}: {error.message}")

    def has_refund_permission(self, request: HttpRequest) -> bool:
        return _staff(request).has_perm("billing.change_payment")


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnlyAdmin):
    list_display = ("id", "type", "object_id", "received_at", "processed_at", "attempts", "error")
    list_filter = ("type",)
    search_fields = ("id", "object_id")


@admin.register(Quote)
class QuoteAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "user", "rate", "expires_at")
    list_select_related = ("user",)


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  (for the type checker: the admin is for staff)
    return request.user
