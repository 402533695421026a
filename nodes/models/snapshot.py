"""Copies of volumes, kept where no single device can lose them: a restic repository for each workload, and what is in it."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from interchain_site.core import secrets
from nodes.models.lease import Lease
from nodes.states import SnapshotState


class SnapshotRepository(models.Model):
    """Where a workload's snapshots are, and the key they are encrypted with: the publisher's, who can download it."""

    workload_id = models.UUIDField(primary_key=True)
    key_encrypted = models.TextField(help_text="restic's password (core.secrets).")
    every_seconds = models.PositiveIntegerField(help_text="How often a snapshot is taken; 0: only when asked for.")
    limit_bytes = models.BigIntegerField(help_text="How much the repository may hold; more is refused.")
    bytes = models.BigIntegerField(default=0, help_text="What it held when it was last counted.")
    restore_wanted = models.ForeignKey(
        "nodes.Snapshot",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="What the next lease is to begin with, wherever it runs: the publisher chose it.",
    )
    tidied_at = models.DateTimeField(help_text="When snapshots past their time were last removed.")
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "snapshot repositories"
        constraints = (
            models.CheckConstraint(condition=Q(bytes__gte=0, limit_bytes__gt=0), name="snapshot_repository_bytes"),
        )

    def __str__(self) -> str:
        return str(self.workload_id)

    @property
    def key(self) -> str:
        return secrets.decrypt(self.key_encrypted)


class Snapshot(models.Model):
    """One copy of a volume: wanted of the lease that holds it, then taken or failed."""

    class Cause(models.TextChoices):
        SCHEDULE = "schedule", "on schedule"
        DEMAND = "demand", "asked for"
        MOVE = "move", "before a move"
        RELEASE = "release", "before a release"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    repository = models.ForeignKey(SnapshotRepository, on_delete=models.CASCADE, related_name="snapshots")
    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="snapshots")
    cause = models.CharField(max_length=10, choices=Cause.choices)
    state = models.CharField(max_length=10, choices=SnapshotState.choices, default=SnapshotState.WANTED)
    restic_id = models.CharField(max_length=64, blank=True)
    volume_bytes = models.BigIntegerField(default=0, help_text="What the volume held.")
    added_bytes = models.BigIntegerField(default=0, help_text="What was new in it.")
    message = models.CharField(max_length=300, blank=True, help_text="Why it failed, in words.")
    wanted_at = models.DateTimeField()
    taken_at = models.DateTimeField(null=True, blank=True, help_text="By the device's clock, held to the portal's.")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-wanted_at",)
        constraints = (
            models.UniqueConstraint(fields=["repository"], condition=Q(state="wanted"), name="snapshot_one_wanted"),
            models.CheckConstraint(condition=Q(state__in=SnapshotState.values), name="snapshot_state_known"),
            models.CheckConstraint(condition=~Q(state="taken") | ~Q(restic_id=""), name="snapshot_taken_has_an_id"),
        )
        indexes = (models.Index(fields=["repository", "state", "-taken_at"], name="snapshot_newest"),)

    def __str__(self) -> str:
        return f"{self.state} {self.pk}"
