"""What became of each slot that lost its device: when that was noticed, who took over, and when it ran again."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from nodes.models.lease import Lease


class Failover(models.Model):
    """One loss of a slot's device, from the notice until a replica runs in the slot again. Written by nodes/services/failovers.py."""

    class Outcome(models.TextChoices):
        UNDER_WAY = "under_way", "under way"
        REPLACED = "replaced", "started on another device"
        PROMOTED = "promoted", "taken over by the warm standby"
        RETURNED = "returned", "its device came back"
        CALLED_OFF = "called_off", "no longer wanted"

    workload_id = models.UUIDField()
    slot = models.PositiveSmallIntegerField()
    lost_lease = models.ForeignKey(Lease, on_delete=models.CASCADE, related_name="+")
    lost_generation = models.PositiveIntegerField(help_text="Of the lost lease then: a promoted lease changes its own.")
    reason = models.CharField(max_length=20, blank=True, help_text="protocol.Reason; empty: nothing was heard of it.")
    served_meanwhile = models.BooleanField(
        help_text="Whether another replica was healthy then, so clients were served."
    )
    heard_at = models.DateTimeField(null=True, blank=True, help_text="When the device was last heard before.")
    noticed_at = models.DateTimeField()
    elected_at = models.DateTimeField(null=True, blank=True, help_text="When another device was given the slot.")
    ended_at = models.DateTimeField(null=True, blank=True, help_text="When a replica ran in the slot again.")
    new_lease = models.ForeignKey(Lease, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    new_generation = models.PositiveIntegerField(null=True, blank=True)
    promoted = models.BooleanField(default=False, help_text="Whether the slot was given to the warm standby.")
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.UNDER_WAY)

    class Meta:
        ordering = ("-noticed_at", "-id")
        indexes = (
            models.Index(fields=["workload_id", "-noticed_at"], name="failover_by_workload"),
            models.Index(fields=["noticed_at"], name="failover_by_time"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=["workload_id", "slot"], condition=Q(ended_at__isnull=True), name="failover_one_open_per_slot"
            ),
            models.CheckConstraint(
                condition=Q(outcome="under_way", ended_at__isnull=True)
                | ~Q(outcome="under_way") & Q(ended_at__isnull=False),
                name="failover_ended_has_outcome",
            ),
        )

    def __str__(self) -> str:
        return f"{self.workload_id} slot {self.slot}: {self.get_outcome_display()}"

    @property
    def recovery_seconds(self) -> float | None:
        """From the notice until the slot ran again; None while it does not, and when it was called off."""
        if self.ended_at is None or self.outcome == self.Outcome.CALLED_OFF:
            return None
        return (self.ended_at - self.noticed_at).total_seconds()
