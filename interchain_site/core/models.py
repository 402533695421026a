"""People and the audit trail."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    """A person; may be publisher, owner and token buyer at once. The e-mail address is the login."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.email


class AuditEvent(models.Model):
    """Who did what to what, and when. Written in the same transaction as the change; never edited."""

    at = models.DateTimeField(db_index=True)
    by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    actor = models.CharField(
        max_length=80, help_text="Who acted when it was not a person: device:<id>, system, stripe."
    )
    action = models.CharField(max_length=80, db_index=True, help_text="Past tense, e.g. price_list_published.")
    subject = models.CharField(max_length=120, db_index=True, help_text="kind:id of what was changed.")
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ("-at", "-id")

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"


class StaffAlertQuerySet(models.QuerySet["StaffAlert"]):
    def standing(self) -> StaffAlertQuerySet:
        """Those that still hold."""
        return self.filter(cleared_at=None)


class StaffAlert(models.Model):
    """Something staff must look at. One row per cause while it lasts; `interchain_site.core.alerts` writes it."""

    code = models.CharField(max_length=60, help_text="Short stable name, e.g. gas_money_low.")
    subject = models.CharField(max_length=120, blank=True, help_text="What it is about, e.g. an address.")
    message = models.TextField(help_text="What is wrong.")
    mend = models.TextField(help_text="What to do about it.")
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="When it was last found to be so.")
    mailed_at = models.DateTimeField(null=True, help_text="When staff were told by e-mail, once.")
    cleared_at = models.DateTimeField(null=True, help_text="When it was over. Empty: it lasts.")

    objects = StaffAlertQuerySet.as_manager()

    class Meta:
        ordering = ("-opened_at", "-id")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["code", "subject"], condition=models.Q(cleared_at=None), name="core_staff_alert_one_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.subject}".strip()
