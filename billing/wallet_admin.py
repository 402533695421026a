"""Staff's view of wallets, withdrawals and deposits. All to read; a deposit without an owner to give to one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone

from billing import money
from billing.models import AutoClaim, GasQuote, UnassignedDeposit, Wallet, Withdrawal
from billing.services import auto_claims, deposits
from interchain_site.core.admin import ReadOnlyAdmin
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    list_display = ("address", "user", "proof", "active", "active_from", "linked_at", "stopped_at")
    list_filter = ("active", "proof")
    search_fields = ("address", "user__email")
    list_select_related = ("user",)
    readonly_fields = ("payout", "sent_by_itself_from")

    @admin.display(description="Payout now")
    def payout(self, wallet: Wallet) -> str:
        """What the planner says, in the words the owner reads."""
        plan = auto_claims.plan_for(wallet_id=wallet.pk, now=timezone.now())
        return f"{'Push' if plan.push else 'Pull'}. {plan.reason}" if plan else "Nothing to pay."

    @admin.display(description="Sent by itself from")
    def sent_by_itself_from(self, wallet: Wallet) -> str:
        units = AutoClaim.objects.filter(user_id=wallet.user_id).values_list("threshold_units", flat=True).first()
        return money.format_ntc(units) if units else "Only when asked."


@admin.register(Withdrawal)
class WithdrawalAdmin(ReadOnlyAdmin):
    list_display = ("asked_at", "user", "ntc", "state", "wallet", "held_until", "epoch", "returned", "transaction_hash")
    list_filter = ("state",)
    search_fields = ("user__email", "wallet__address", "transaction_hash")
    list_select_related = ("user", "wallet", "epoch")
    date_hierarchy = "asked_at"

    @admin.display(description="NTC", ordering="units")
    def ntc(self, withdrawal: Withdrawal) -> str:
        return money.format_ntc(withdrawal.units)


@admin.register(GasQuote)
class GasQuoteAdmin(ReadOnlyAdmin):
    """What the payout planner counts with."""

    list_display = ("taken_at", "gwei_per_gas", "usd_per_ether")

    @admin.display(description="Gwei per gas")
    def gwei_per_gas(self, quote: GasQuote) -> str:
        whole, part = divmod(quote.wei_per_gas, 10**9)
        return f"{whole}.{part:09d}"

    @admin.display(description="USD per ether")
    def usd_per_ether(self, quote: GasQuote) -> str:
        return money.format_nano_usd(quote.nano_usd_per_ether) if quote.nano_usd_per_ether else "no feed answers"


@admin.register(UnassignedDeposit)
class UnassignedDepositAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Deposits under a reference nobody has. Choosing a person gives it to them, once."""

    list_display = ("event", "ntc", "user", "assigned_at", "assigned_by")
    list_filter = (("user", admin.EmptyFieldListFilter),)
    list_select_related = ("event", "user", "assigned_by")
    search_fields = ("event__transaction_hash", "user__email")
    fields = ("transaction", "reference", "payer", "ntc", "user", "assigned_at", "assigned_by")
    raw_id_fields = ("user",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = ("transaction", "reference", "payer", "ntc", "assigned_at", "assigned_by")
        return fixed if obj is not None and obj.user_id is None else (*fixed, "user")

    @admin.display(description="NTC", ordering="units")
    def ntc(self, deposit: UnassignedDeposit) -> str:
        return money.format_ntc(deposit.units)

    @admin.display()
    def transaction(self, deposit: UnassignedDeposit) -> str:
        return deposit.event.transaction_hash

    @admin.display()
    def reference(self, deposit: UnassignedDeposit) -> str:
        return str(deposit.event.values["account"])

    @admin.display()
    def payer(self, deposit: UnassignedDeposit) -> str:
        return str(deposit.event.values["payer"])

    def save_model(
        self, request: HttpRequest, obj: UnassignedDeposit, form: forms.ModelForm[Any], change: bool
    ) -> None:
        """Give the deposit to the chosen person."""
        if not isinstance(request.user, User) or obj.user is None:
            return
        try:
            deposits.assign(deposit_id=obj.pk, user=obj.user, by=request.user, now=timezone.now())
        except DomainError as error:
            messages.error(request, error.message)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
