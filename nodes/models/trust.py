"""What was seen of a device, and the checks it was given without notice."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from nodes.models.device import Device
from nodes.states import SpotCheckState


class DeviceHistory(models.Model):
    """Sums over a device's past, in which older things count less (nodes/services/trust.py)."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, primary_key=True, related_name="history")
    online_seconds = models.BigIntegerField(default=0)
    away_seconds = models.BigIntegerField(default=0, help_text="Away though its owner had not paused or drained it.")
    starts = models.BigIntegerField(default=0, help_text="Leases that came to run.")
    failed_starts = models.BigIntegerField(default=0, help_text="Leases that did not, through the device's own fault.")
    checks_passed = models.BigIntegerField(default=0)
    checks_failed = models.BigIntegerField(default=0)
    passed_in_a_row = models.PositiveIntegerField(default=0, help_text="Spot checks since the last one it failed.")
    next_chance_at = models.DateTimeField(help_text="When it is next decided whether to check it.")
    observed_at = models.DateTimeField(help_text="Up to when the sums count.")
    faded_at = models.DateTimeField(help_text="When older things were last made to count less.")

    class Meta:
        verbose_name_plural = "device histories"
        constraints = (
            models.CheckConstraint(
                condition=Q(
                    online_seconds__gte=0, away_seconds__gte=0, starts__gte=0,
                    failed_starts__gte=0, checks_passed__gte=0, checks_failed__gte=0,
                ),
                name="history_not_negative",
            ),
        )  # fmt: skip

    def __str__(self) -> str:
        return f"of {self.device_id}"


class SpotCheck(models.Model):
    """One piece of work given to a device without notice, whose answer the portal can check."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="spot_checks")
    state = models.CharField(max_length=8, choices=SpotCheckState.choices, default=SpotCheckState.ISSUED)
    seed = models.CharField(max_length=64, help_text="Hex; what the work begins from.")
    rounds = models.PositiveIntegerField()
    issued_at = models.DateTimeField()
    fetched_at = models.DateTimeField(null=True, blank=True, help_text="When the device first read it.")
    answered_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    jws = models.TextField(blank=True, help_text="The answer as signed, over protocol.SpotCheckAnswer.")
    processor_milliseconds = models.PositiveBigIntegerField(default=0, help_text="As the device says.")
    proven_rate = models.PositiveBigIntegerField(
        default=0, help_text="Instructions per second it has proven, by the portal's clock."
    )
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-issued_at",)
        constraints = (
            models.CheckConstraint(condition=Q(state__in=SpotCheckState.values), name="spot_check_state_known"),
            models.UniqueConstraint(
                fields=["device"], condition=Q(state__in=["issued", "answered"]), name="spot_check_one_open"
            ),
        )

    def __str__(self) -> str:
        return f"{self.state} {self.pk}"
