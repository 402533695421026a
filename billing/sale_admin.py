"""Staff's side of the token sale: open, close and decide about rounds, the rules, the terms, and every purchase to read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from billing import money
from billing.models import SaleDeclaration, SaleOrder, SalePurchase, SaleRound, SaleRules, SaleTerms, TokenFacts
from billing.sale_forms import CloseRoundForm, OpenRoundForm, RulesForm, UnsoldForm
from billing.services import sale_gates, sale_rounds, token_facts, topups
from billing.services.sale_wallets import paid_words
from interchain_site.core.admin import ReadOnlyAdmin
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User

FORMS: dict[str, type[forms.Form]] = {
    SaleOrder.OPEN: OpenRoundForm,
    SaleOrder.CLOSE: CloseRoundForm,
    SaleOrder.UNSOLD: UnsoldForm,
}


@admin.register(SaleRound)
class SaleRoundAdmin(ReadOnlyAdmin):
    """What the contract says about the rounds, and the orders staff may give."""

    list_display = (
        "number",
        "target",
        "sold",
        "price_shown",
        "trigger",
        "planned_on",
        "opened_at",
        "closed_at",
        "orders_shown",
    )

    @admin.display(description="target", ordering="target_units")
    def target(self, row: SaleRound) -> str:
        return money.format_ntc(row.offered_units)

    @admin.display(description="sold", ordering="sold_units")
    def sold(self, row: SaleRound) -> str:
        return money.format_ntc(row.sold_units)

    @admin.display(description="price")
    def price_shown(self, row: SaleRound) -> str:
        return money.format_nano_usd(row.price_nano_usd) if row.price_nano_usd else "not fixed"

    @admin.display(description="order")
    def orders_shown(self, row: SaleRound) -> SafeString | str:
        kind, words = _order_due(row)
        return format_html('<a href="{}/{}/">{}</a>', row.pk, kind, words) if kind else words

    def get_urls(self) -> list[URLPattern]:
        order = self.admin_site.admin_view(self.order_view)
        return [path("<int:number>/<str:kind>/", order, name="sale_order"), *super().get_urls()]

    def order_view(self, request: HttpRequest, number: int, kind: str) -> HttpResponse:
        """First what the order means, in sentences; then, confirmed, the order."""
        row = get_object_or_404(SaleRound, pk=number)
        if not _staff(request).has_perm("billing.add_saleorder") or kind not in FORMS:
            messages.error(request, "Your account may not give this order.")
            return redirect("admin:billing_saleround_changelist")
        form, said = FORMS[kind](request.POST or None), list[str]()
        if request.method == "POST" and form.is_valid():
            try:
                said = _explain(row, kind, form)
                if "confirmed" in request.POST:
                    _order(row, kind, form, _staff(request))
                    messages.success(request, "Ordered. The chain worker sends it; see Sale orders for how it goes.")
                    return redirect("admin:billing_saleorder_changelist")
            except DomainError as error:
                form.add_error(None, error.message)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{dict(SaleOrder.KINDS)[kind]}: {row}",
            "row": row,
            "form": form,
            "said": [] if form.errors else said,
            "cap": sale_rounds.price_cap(row) if kind == SaleOrder.OPEN else None,
        }
        return render(request, "admin/billing/sale_order.html", context)


def _order_due(row: SaleRound) -> tuple[str, str]:
    """Return the order that can be given about a round now and its name; no order and why, else."""
    if SaleOrder.objects.filter(sale_round=row, state__in=sale_rounds.UNDER_WAY).exists():
        return "", "An order is under way"
    if row.open:
        return SaleOrder.CLOSE, "Close"
    if row.opened_at is None:
        following = sale_rounds.next_round()
        before = SaleRound.objects.filter(number=row.number - 1).first()
        ready = following == row and (before is None or before.closed_at is not None)
        return (SaleOrder.OPEN, "Open") if ready else ("", "Waits for the round before")
    if row.unsold_units and not row.unsold_decision:
        return SaleOrder.UNSOLD, "Decide about the unsold"
    return "", "Nothing to order"


def _explain(row: SaleRound, kind: str, form: forms.Form) -> list[str]:
    now = timezone.now()
    if kind == SaleOrder.OPEN:
        return sale_rounds.explain_opening(sale_round=row, price=form.cleaned_data["price"], now=now)
    left = money.format_ntc(row.unsold_units)
    if kind == SaleOrder.CLOSE:
        return [
            f"{row} is closed for good; it cannot be opened again. {left} stay unsold until you decide about them.",
            "Purchases by card that are paid and not yet written to Ethereum are paid back to their cards.",
        ]
    if form.cleaned_data["decision"] == "carry":
        return [f"{left} of {row} are sold in round {row.number + 1} too, at its price. This cannot be taken back."]
    return [f"{left} of {row} stay locked in the sale contract for good. This cannot be taken back."]


def _order(row: SaleRound, kind: str, form: forms.Form, by: User) -> SaleOrder:
    now = timezone.now()
    if kind == SaleOrder.OPEN:
        price: Decimal = form.cleaned_data["price"]
        return sale_rounds.order_open(price=price, by=by, now=now)
    if kind == SaleOrder.CLOSE:
        return sale_rounds.order_close(number=row.number, by=by, now=now)
    return sale_rounds.order_unsold(number=row.number, by=by, now=now, **form.cleaned_data)


@admin.register(SaleOrder)
class SaleOrderAdmin(ReadOnlyAdmin):
    list_display = ("ordered_at", "kind", "sale_round", "state", "ordered_by", "transaction", "done_at", "error")
    list_filter = ("kind", "state")
    list_select_related = ("sale_round", "ordered_by", "sending")

    @admin.display(description="transaction")
    def transaction(self, order: SaleOrder) -> str:
        return order.sending.hash if order.sending else ""


@admin.register(SalePurchase)
class SalePurchaseAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "user", "sale_round", "asset", "state", "ntc", "cost", "transaction_hash", "note")
    list_filter = ("state", "asset", "sale_round")
    search_fields = ("user__email", "id", "reference", "transaction_hash", "wallet")
    list_select_related = ("user", "sale_round", "payment")
    show_full_result_count = False
    actions = ("refund",)

    @admin.display(description="NTC", ordering="units")
    def ntc(self, row: SalePurchase) -> str:
        return money.format_ntc(row.units)

    @admin.display(description="paid")
    def cost(self, row: SalePurchase) -> str:
        return paid_words(row, token_facts.current())

    @admin.action(description="Refund what is left of the selected card payments", permissions=["refund"])
    def refund(self, request: HttpRequest, queryset: QuerySet[SalePurchase]) -> None:
        for row in queryset:
            try:
                if row.payment_id is None:
                    messages.error(request, f"{row.pk}: paid from a wallet; the chain gives nothing back.")
                    continue
                topups.refund_payment(payment_id=row.payment_id, cents=None, by=_staff(request), now=timezone.now())
                messages.success(request, f"{row.pk}: refunded.")
            except DomainError as error:
                messages.error(request, f"{row.pk}: {error.message}")

    def has_refund_permission(self, request: HttpRequest) -> bool:
        return _staff(request).has_perm("billing.change_payment")


@admin.register(SaleRules)
class SaleRulesAdmin(ReadOnlyAdmin):
    """The one row of rules. Saved through the service, so that every change is in the audit trail."""

    form = RulesForm
    list_display = ("__str__", "quota", "terms_required", "country_required", "refused_countries", "paused")

    @admin.display(description="quota")
    def quota(self, row: SaleRules) -> str:
        return money.format_ntc(row.quota_units) if row.quota_units else "none"

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return _staff(request).has_perm("billing.change_salerules") and not SaleRules.objects.exists()

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return _staff(request).has_perm("billing.change_salerules")

    def save_model(self, request: HttpRequest, obj: SaleRules, form: Any, change: bool) -> None:
        obj.pk = sale_gates.set_rules(by=_staff(request), **form.wanted()).pk


class TermsForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = SaleTerms
        fields = ("version", "text")


@admin.register(SaleTerms)
class SaleTermsAdmin(ReadOnlyAdmin):
    """Staff publish versions; what was published stays as it was."""

    form = TermsForm
    list_display = ("version", "published_at", "published_by")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return _staff(request).has_perm("billing.add_saleterms")

    def save_model(self, request: HttpRequest, obj: SaleTerms, form: Any, change: bool) -> None:
        saved = sale_gates.publish_terms(version=obj.version, text=obj.text, by=_staff(request), now=timezone.now())
        obj.pk, obj.published_at, obj.published_by = saved.pk, saved.published_at, saved.published_by


@admin.register(SaleDeclaration)
class SaleDeclarationAdmin(ReadOnlyAdmin):
    list_display = ("declared_at", "user", "country", "terms")
    list_filter = ("country",)
    search_fields = ("user__email",)
    list_select_related = ("user", "terms")


@admin.register(TokenFacts)
class TokenFactsAdmin(ReadOnlyAdmin):
    list_display = ("block_number", "checked_at")


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  (for the type checker: the admin is for staff)
    return request.user
