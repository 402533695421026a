"""The admin's own name and door, people, and the audit trail."""

import allauth.mfa.admin  # noqa: F401  (registers what is taken away below)
import rest_framework.authtoken.admin  # noqa: F401
from allauth.account.decorators import secure_admin_login
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework.authtoken.models import TokenProxy

from interchain_site.core import audit
from interchain_site.core.alerts import clear_alert
from interchain_site.core.models import AuditEvent, StaffAlert, User

admin.site.site_header = "Interchain administration"
admin.site.site_title = "Interchain"
admin.site.index_title = "What staff look after"
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]  # or it would skip the second factor
admin.site.unregister([TokenProxy, Authenticator])  # their pages show people's keys and secrets


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """For rows that are evidence: staff look, nobody edits."""

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    ordering = ("email",)
    list_display = ("email", "first_name", "last_name", "is_staff", "date_joined")
    search_fields = ("email", "first_name", "last_name")
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        ("Person", {"fields": ("first_name", "last_name")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "password1", "password2")}),)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "action", "subject")
    list_filter = ("action",)
    search_fields = ("subject", "actor")
    date_hierarchy = "at"


class StandingFilter(admin.SimpleListFilter):
    title = "whether it lasts"
    parameter_name = "over"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("no", "It lasts"), ("yes", "It is over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[StaffAlert]) -> QuerySet[StaffAlert]:
        if self.value() == "no":
            return queryset.filter(cleared_at=None)
        return queryset.exclude(cleared_at=None) if self.value() == "yes" else queryset


@admin.register(StaffAlert)
class StaffAlertAdmin(ReadOnlyAdmin):
    list_display = ("opened_at", "code", "subject", "message", "mend", "seen_at", "cleared_at")
    list_filter = (StandingFilter, "code")
    search_fields = ("code", "subject", "message")
    actions = ("close",)

    @admin.action(description="Close: this was dealt with", permissions=["close"])
    def close(self, request: HttpRequest, queryset: QuerySet[StaffAlert]) -> None:
        """Most alerts go by themselves; those about something that happened once stand until a person has looked."""
        for alert in queryset.filter(cleared_at=None):
            clear_alert(code=alert.code, subject=alert.subject)
            by = request.user if isinstance(request.user, User) else None
            audit.record("alert_closed", subject=f"staff_alert:{alert.pk}", by=by, code=alert.code)

    def has_close_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("core.change_staffalert")
