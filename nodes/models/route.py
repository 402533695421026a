"""What the gateway does for a name beyond forwarding: its publisher's own domains, limits, and dates."""

from __future__ import annotations

from django.db import models


class RouteOptions(models.Model):
    """Of one name; absent while everything is as usual."""

    name = models.CharField(max_length=63, unique=True, help_text="Label of the stable host name.")
    max_body_bytes = models.PositiveBigIntegerField(default=0, help_text="Of one request; 0: the usual limit.")
    requests_per_second = models.PositiveIntegerField(
        default=0, help_text="Of all clients together, at one gateway; 0: the usual limit."
    )
    grace_ends_at = models.DateTimeField(null=True, blank=True, help_text="Until when a stopped app's data is kept.")

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "route options"

    def __str__(self) -> str:
        return self.name


class RouteDomain(models.Model):
    """A domain of a publisher's own that is served like a name of ours. One name at a time has it."""

    host = models.CharField(max_length=253, unique=True)
    name = models.CharField(max_length=63, db_index=True)

    class Meta:
        ordering = ("host",)

    def __str__(self) -> str:
        return self.host
