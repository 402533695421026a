"""Messages owed to people, and which balance warnings somebody already had."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Notice(models.Model):
    """One e-mail to send. A row, because the queue may lose a job; sent once."""

    key = models.CharField(max_length=160, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    subject = models.CharField(max_length=160)
    body = models.TextField()
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (models.Index(fields=("sent_at", "created_at")),)

    def __str__(self) -> str:
        return self.subject


class BalanceWatch(models.Model):
    """A publisher's position against the warning thresholds; `round` grows each time the balance recovers."""

    publisher = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    warned_hours = models.PositiveIntegerField(
        null=True, blank=True, help_text="Tightest threshold already warned about."
    )
    round = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.publisher}: warned at {self.warned_hours} h"
