"""Staff's view of cashing out: what is allowed, what is on its way, people's accounts at Stripe, Stripe's own books."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from billing import money
from billing.models import CashOut, CashOutRules, ConnectAccount, StripeMovement
from billing.services import cash_out_rules, cash_out_steps, connect_accounts
from interchain_site.core.admin import ReadOnlyAdmin
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User


@admin.register(CashOut)
class CashOutAdmin(ReadOnlyAdmin):
    """All steps go by themselves. Staff can have the next one tried now, or give back what Stripe would not send."""

    list_display = ("created_at", "user", "state", "dollars", "ntc", "bank", "arrives_on", "tries", "reason")
    list_filter = ("state",)
    search_fields = ("user__email", "id", "transfer_id", "payout_id")
    list_select_related = ("user",)
    actions = ("try_now", "give_back")

    @admin.display(description="dollars", ordering="cents")
    def dollars(self, cash_out: CashOut) -> str:
        return money.format_usd_cents(cash_out.cents)

    @admin.display(description="NTC", ordering="units")
    def ntc(self, cash_out: CashOut) -> str:
        return money.format_ntc(cash_out.units)

    @admin.action(description="Try the next step of the selected cash-outs now", permissions=["act"])
    def try_now(self, request: HttpRequest, queryset: QuerySet[CashOut]) -> None:
        _each(request, queryset, lambda row: cash_out_steps.advance(cash_out_id=row.pk, now=timezone.now()))

    @admin.action(description="Give the NTC back where Stripe has refused to send the dollars", permissions=["act"])
    def give_back(self, request: HttpRequest, queryset: QuerySet[CashOut]) -> None:
        by, now = _staff(request), timezone.now()
        _each(request, queryset, lambda row: cash_out_steps.give_back(cash_out_id=row.pk, by=by, now=now))

    def has_act_permission(self, request: HttpRequest) -> bool:
        return _staff(request).has_perm("billing.change_cashout")


@admin.register(CashOutRules)
class CashOutRulesAdmin(ReadOnlyAdmin):
    """Staff add rules; the newest are in force, and what was set stays on record."""

    list_display = ("created_at", "paused", "least", "daily", "reserve", "set_by")
    list_select_related = ("set_by",)
    fields = ("paused", "least_cents", "daily_cents", "reserve_cents")

    @admin.display(ordering="least_cents")
    def least(self, rules: CashOutRules) -> str:
        return money.format_usd_cents(rules.least_cents)

    @admin.display(description="a day", ordering="daily_cents")
    def daily(self, rules: CashOutRules) -> str:
        return money.format_usd_cents(rules.daily_cents)

    @admin.display(description="kept back", ordering="reserve_cents")
    def reserve(self, rules: CashOutRules) -> str:
        return money.format_usd_cents(rules.reserve_cents)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        now = cash_out_rules.rules()
        return {name: getattr(now, name) for name in self.fields}

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return _staff(request).has_perm("billing.add_cashoutrules")

    def save_model(self, request: HttpRequest, obj: CashOutRules, form: Any, change: bool) -> None:
        wanted = {name: getattr(obj, name) for name in self.fields}
        saved = cash_out_rules.set_rules(**wanted, by=_staff(request), now=timezone.now())
        obj.pk, obj.set_by, obj.created_at = saved.pk, saved.set_by, saved.created_at


@admin.register(ConnectAccount)
class ConnectAccountAdmin(ReadOnlyAdmin):
    list_display = ("user", "stripe_id", "country", "bank", "payable", "bank_failed", "disabled_reason", "checked_at")
    list_filter = ("payable", "bank_failed", "country")
    search_fields = ("user__email", "stripe_id")
    list_select_related = ("user",)
    actions = ("ask_stripe_again",)

    @admin.action(description="Ask Stripe again about the selected accounts", permissions=["act"])
    def ask_stripe_again(self, request: HttpRequest, queryset: QuerySet[ConnectAccount]) -> None:
        _each(request, queryset, lambda row: connect_accounts.sync(account_id=row.pk, now=timezone.now()))

    def has_act_permission(self, request: HttpRequest) -> bool:
        return _staff(request).has_perm("billing.change_connectaccount")


@admin.register(StripeMovement)
class StripeMovementAdmin(ReadOnlyAdmin):
    """Stripe's own books. A line that is not followed says why; it is tried again by itself."""

    list_display = ("created_at", "kind", "dollars", "fee", "source", "followed_at", "error")
    list_filter = ("kind", ("followed_at", admin.EmptyFieldListFilter))
    search_fields = ("id", "source")
    show_full_result_count = False

    @admin.display(description="amount", ordering="cents")
    def dollars(self, row: StripeMovement) -> str:
        return money.format_usd_cents(row.cents)

    @admin.display(ordering="fee_cents")
    def fee(self, row: StripeMovement) -> str:
        return money.format_usd_cents(row.fee_cents)


def _each(request: HttpRequest, rows: QuerySet[Any], act: Callable[[Any], object]) -> None:
    """Do something for each row; one that refuses stops no other."""
    for row in rows:
        try:
            act(row)
            row.refresh_from_db()
            messages.success(request, f"{row}")
        except DomainError as error:
            messages.error(request, f"{row}: {error.message}")


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  (for the type checker: the admin is for staff)
    return request.user
