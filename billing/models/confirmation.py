"""What a person must confirm with a code before money leaves."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone


class Confirmation(models.Model):
    """One thing a person is asked to confirm: a code from their authenticator, or one we sent by e-mail."""

    class Method(models.TextChoices):
        AUTHENTICATOR = "authenticator", "a code from the authenticator app"
        EMAIL = "email", "a code sent by e-mail"

    subject = models.CharField(max_length=120, unique=True, help_text="kind:id of what is confirmed.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    method = models.CharField(max_length=15, choices=Method.choices)
    digest = models.CharField(max_length=64, blank=True, help_text="Keyed hash of the code sent; never the code.")
    asked_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    mails = models.PositiveIntegerField(default=0)
    tries = models.PositiveIntegerField(default=0, help_text="Wrong codes so far.")
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user", "asked_at"], name="billing_confirmation_of_user")
        ]

    def __str__(self) -> str:
        return f"{self.subject} by {self.get_method_display()}"
