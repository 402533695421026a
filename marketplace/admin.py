"""What staff see and change: price lists are drafted, compared and published here; the rest is to look at."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from interchain_site.core.admin import ReadOnlyAdmin
from interchain_site.core.errors import DomainError
from interchain_site.core.models import User
from marketplace import price_comparison
from marketplace.models import App, Charge, ChargePeriod, Deployment, DeploymentEvent, Notice, Price, PriceList, Release
from marketplace.services import price_lists


class PublishForm(forms.Form):
    effective_at = forms.SplitDateTimeField(
        required=False,
        widget=AdminSplitDateTime,
        label="In force from (UTC)",
        help_text="Leave empty for now. Running apps keep their prices for the list's notice period after that.",
    )


class PriceInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Price
    extra = 0
    fields = ("meter", "usd", "unit")
    readonly_fields = ("unit",)

    def has_add_permission(self, request: HttpRequest, obj: PriceList | None = None) -> bool:
        return obj is None or not obj.is_published

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not isinstance(obj, PriceList) or not obj.is_published

    has_delete_permission = has_change_permission


@admin.register(PriceList)
class PriceListAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("__str__", "region", "state", "effective_at", "notice_days", "compare")
    list_filter = ("region", "state")
    fields = ("region", "name", "version", "notice_days", "note", "state", "effective_at", "compare")
    readonly_fields = ("state", "effective_at", "compare")
    inlines = (PriceInline,)
    actions = ("draft_next",)

    def has_change_permission(self, request: HttpRequest, obj: PriceList | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or not obj.is_published)

    def has_delete_permission(self, request: HttpRequest, obj: PriceList | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or not obj.is_published)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)  # a selection may hold published lists
        return actions

    @admin.display(description="Compare and publish")
    def compare(self, price_list: PriceList) -> SafeString | str:
        if not price_list.version:
            return "Save the draft first."
        words = "Compare" if price_list.is_published else "Compare and publish"
        return format_html('<a href="{}">{}</a>', reverse("admin:price_list_compare", args=[price_list.pk]), words)

    @admin.action(description="Draft the next version of the region")
    def draft_next(self, request: HttpRequest, chosen: QuerySet[PriceList]) -> HttpResponse | None:
        draft = None
        for region in sorted(set(chosen.values_list("region", flat=True))):
            draft = price_lists.draft(region=region, by=_staff(request))
        return redirect("admin:marketplace_pricelist_change", draft.pk) if draft else None

    def get_urls(self) -> list[URLPattern]:
        compare = self.admin_site.admin_view(self.compare_view)
        return [path("<int:price_list_id>/compare/", compare, name="price_list_compare"), *super().get_urls()]

    def compare_view(self, request: HttpRequest, price_list_id: int) -> HttpResponse:
        """Old and new price of each meter, what the last 30 days would have cost under each, and the publish button."""
        price_list = get_object_or_404(PriceList, pk=price_list_id)
        form = PublishForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                price_lists.publish(
                    price_list_id=price_list.pk, effective_at=form.cleaned_data["effective_at"], by=_staff(request)
                )
            except DomainError as error:
                form.add_error(None, " ".join([*error.fields.values()] or [error.message]))
            else:
                messages.success(request, f"{price_list} is published and frozen.")
                return redirect("admin:marketplace_pricelist_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Compare {price_list}",
            "opts": self.model._meta,
            "price_list": price_list,
            "comparison": price_comparison.compare(price_list, now=timezone.now()),
            "form": form,
        }
        return render(request, "admin/marketplace/compare.html", context)


class ReleaseInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Release
    extra = 0
    can_delete = False
    fields = readonly_fields = ("number", "image_label", "port", "memory_bytes", "cpu_millis", "profile", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: App | None = None) -> bool:
        return False


@admin.register(App)
class AppAdmin(ReadOnlyAdmin):
    list_display = ("name", "slug", "publisher", "created_at")
    search_fields = ("name", "slug", "publisher__email")
    list_select_related = ("publisher",)
    inlines = (ReleaseInline,)


class EventInline(admin.TabularInline):  # type: ignore[type-arg]
    model = DeploymentEvent
    extra = 0
    can_delete = False
    fields = readonly_fields = ("at", "kind", "message", "by")

    def has_add_permission(self, request: HttpRequest, obj: Deployment | None = None) -> bool:
        return False


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = ("app", "state", "desired", "reason", "state_changed_at", "grace_ends_at")
    list_filter = ("state", "desired")
    search_fields = ("app__slug", "app__publisher__email", "id")
    list_select_related = ("app",)
    inlines = (EventInline,)


@admin.register(ChargePeriod)
class ChargePeriodAdmin(ReadOnlyAdmin):
    list_display = ("lease_id", "number", "deployment", "nano_usd", "owner_units", "commission_units", "charged_at")
    search_fields = ("lease_id", "deployment__app__slug")
    list_select_related = ("deployment__app",)


@admin.register(Charge)
class ChargeAdmin(ReadOnlyAdmin):
    list_display = ("key", "at", "nano_usd", "owner_units", "commission_units", "shortfall_units")
    search_fields = ("key",)
    date_hierarchy = "at"
    show_full_result_count = False


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    list_display = ("subject", "user", "created_at", "sent_at")
    list_select_related = ("user",)


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101  (the admin lets only people in)
    return request.user
