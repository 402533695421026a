"""A domain of a publisher's own for an app."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from marketplace.models.app import App


class Domain(models.Model):
    """Waits until its TXT record proves it; then it is served, as one app's only, for as long as the record is there."""

    app = models.ForeignKey(App, on_delete=models.CASCADE, related_name="domains")
    host = models.CharField(max_length=253, help_text="In small letters, as in DNS (xn--…).")
    token = models.CharField(max_length=64, help_text="What the TXT record says; this app's and no other's.")
    created_at = models.DateTimeField()
    proven_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    missing_since = models.DateTimeField(
        null=True, blank=True, help_text="Since when the record of a proven one is gone."
    )
    message = models.CharField(max_length=200, blank=True, help_text="What the last look found, for people.")

    class Meta:
        ordering = ("host", "id")
        constraints = (
            models.UniqueConstraint(fields=("app", "host"), name="domain_once_per_app"),
            models.UniqueConstraint(fields=("host",), condition=Q(proven_at__isnull=False), name="domain_proven_once"),
        )

    def __str__(self) -> str:
        return self.host

    @property
    def record_name(self) -> str:
        """Where the TXT record goes."""
        return f"_interchain-challenge.{self.host}"

    @property
    def record_text(self) -> str:
        return f"interchain-app={self.token}"
