"""A rollout: one change of what a workload runs, taken from copy to copy, and what to go back to if it fails."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from nodes.agent import protocol
from nodes.models.replica_set import read_workload
from nodes.states import RolloutState


class Rollout(models.Model):
    """One row per change. While it is under way it keeps the workload before, environment included; afterwards no secret."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workload_id = models.UUIDField()
    state = models.CharField(max_length=12, choices=RolloutState.choices, default=RolloutState.ROLLING)
    from_version = models.PositiveIntegerField()
    to_version = models.PositiveIntegerField()
    from_public = models.JSONField(help_text="The workload before, without its environment.")
    from_environment_encrypted = models.TextField(blank=True, help_text="Its environment; empty once it is over.")
    reason = models.CharField(max_length=20, blank=True, help_text="One word: why it was rolled back.")
    message = models.CharField(max_length=500, blank=True, help_text="The same in words.")
    log_tail = models.TextField(blank=True, help_text="Last lines of the copy that failed.")
    began_at = models.DateTimeField()
    progress_at = models.DateTimeField(help_text="When a copy last took over, or it began.")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-began_at",)
        indexes = (models.Index(fields=["workload_id", "-began_at"], name="rollout_of_workload"),)
        constraints = (
            models.UniqueConstraint(fields=["workload_id"], condition=Q(state="rolling"), name="rollout_one_at_a_time"),
            models.CheckConstraint(condition=Q(state__in=RolloutState.values), name="rollout_state_known"),
            models.CheckConstraint(
                condition=Q(state="rolling") | Q(ended_at__isnull=False), name="rollout_end_has_a_time"
            ),
        )

    def __str__(self) -> str:
        return f"{self.workload_id}: {self.from_version} → {self.to_version}"

    @property
    def before(self) -> protocol.Workload:
        """The whole workload to go back to; only while it is under way."""
        return read_workload(self.from_public, self.from_environment_encrypted)
