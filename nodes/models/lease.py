"""A lease: one replica of a workload on one device, with a generation number that only grows."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from nodes.agent import protocol
from nodes.models.device import Device
from nodes.models.replica_set import read_workload
from nodes.states import LeaseState


class Lease(models.Model):
    """One replica of a workload on a device. What was leased is frozen; only the state moves (nodes/states.py).

    `uptime_from` is also when a standby was promoted: before that it did not run, whatever its device says.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workload_id = models.UUIDField()
    generation = models.PositiveIntegerField(help_text="Of its workload's counter: no two leases of it share one.")
    slot = models.PositiveSmallIntegerField(default=0, help_text="Which replica it is; the warm standby has the last.")
    device = models.ForeignKey(Device, on_delete=models.PROTECT, related_name="leases")
    is_newest = models.BooleanField(default=True, help_text="The newest generation of its slot.")
    name = models.CharField(max_length=63, help_text="Label of the stable host name.")
    state = models.CharField(max_length=10, choices=LeaseState.choices, default=LeaseState.OFFERED)
    action = models.CharField(
        max_length=10,
        choices=[(action.value, action.value) for action in protocol.Action],
        default=protocol.Action.RUN.value,
        help_text="What the portal wants of it.",
    )
    revision = models.PositiveIntegerField(default=0, help_text="Grows with each change a client of its name may see.")

    version = models.PositiveIntegerField(default=0, help_text="Which of the workload's versions it runs (ReplicaSet).")
    replaces = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="replaced_by",
        help_text="The copy of its slot that goes on until this one is ready.",
    )
    workload_public = models.JSONField(help_text="protocol.Workload without its environment.")
    environment_encrypted = models.TextField(help_text="The environment, secrets included (core.secrets).")
    image_key = models.CharField(max_length=300, help_text="The image reference, or the archive's SHA-256.")
    cpu_millis = models.BigIntegerField()
    memory_bytes = models.BigIntegerField()
    disk_bytes = models.BigIntegerField()
    has_volume = models.BooleanField()
    restore_from = models.ForeignKey(
        "nodes.Snapshot",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Whose data its volume is to begin with, in place of whatever the device has.",
    )

    host_port = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=20, blank=True)
    message = models.CharField(max_length=500, blank=True)
    log_tail = models.TextField(blank=True)
    image_id = models.CharField(max_length=80, blank=True)
    restarts = models.PositiveIntegerField(default=0)
    encrypted = models.BooleanField(
        default=False, help_text="Its data is encrypted on the device's disk, as the device says."
    )
    runtime = models.CharField(
        max_length=10, blank=True, help_text="protocol.Runtime its container has; empty: unknown."
    )

    opened_at = models.DateTimeField()
    state_changed_at = models.DateTimeField()
    running_at = models.DateTimeField(null=True, blank=True, help_text="When it last began to run.")
    closed_at = models.DateTimeField(null=True, blank=True, help_text="When the portal first wanted it stopped.")
    stopped_at = models.DateTimeField(null=True, blank=True)
    wiped_at = models.DateTimeField(null=True, blank=True)
    fenced_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When another took its slot though it may have gone on; later use never counts.",
    )
    uptime_from = models.DateTimeField(
        null=True, blank=True, help_text="When it took over from the one it replaces; its uptime before never counts."
    )
    uptime_until = models.DateTimeField(
        null=True, blank=True, help_text="When another copy took over from it; its uptime after never counts."
    )
    reinstated_at = models.DateTimeField(
        null=True, blank=True, help_text="When the copy that was to replace it was given up."
    )
    due_at = models.DateTimeField(
        null=True, blank=True, help_text="When the sweep looks for somebody to take its slot."
    )

    class Meta:
        ordering = ("opened_at", "generation")
        indexes = (
            models.Index(fields=["device", "state"], name="lease_by_device"),
            models.Index(fields=["image_key", "device"], name="lease_by_image"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="lease_due"),
        )
        constraints = (
            models.UniqueConstraint(fields=["workload_id", "generation"], name="lease_generation_once"),
            models.UniqueConstraint(
                fields=["workload_id", "slot"], condition=Q(is_newest=True), name="lease_one_newest_per_slot"
            ),
            # While a new release takes over, the one before may still be wanted.
            models.UniqueConstraint(
                fields=["workload_id", "slot", "is_newest"],
                condition=Q(action__in=["run", "standby"]),
                name="lease_one_wanted_per_slot",
            ),
            models.UniqueConstraint(
                fields=["workload_id", "device"],
                condition=Q(is_newest=True, action__in=["run", "standby"]),
                name="lease_one_slot_per_device",
            ),
            models.CheckConstraint(condition=Q(state__in=LeaseState.values), name="lease_state_known"),
            models.CheckConstraint(
                condition=Q(action__in=["run", "standby", "stop", "wipe"]), name="lease_action_known"
            ),
            models.CheckConstraint(condition=Q(host_port__lte=65535), name="lease_host_port_is_a_port"),
            models.CheckConstraint(condition=Q(generation__gte=1), name="lease_generation_from_one"),
            models.CheckConstraint(
                condition=Q(action__in=["run", "standby"]) | Q(closed_at__isnull=False), name="lease_closed_has_a_time"
            ),
            models.CheckConstraint(
                condition=~Q(action__in=["run", "standby"]) | ~Q(state__in=["draining", "stopped", "wiped"]),
                name="lease_ended_not_wanted",
            ),
            models.CheckConstraint(
                condition=Q(cpu_millis__gt=0, memory_bytes__gt=0, disk_bytes__gte=0), name="lease_asks_for_something"
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} generation {self.generation}"

    @property
    def is_pending(self) -> bool:
        """Whether it has not taken over yet from the lease it replaces."""
        return self.is_newest and self.replaces_id is not None and self.uptime_from is None

    @property
    def short_id(self) -> str:
        """Enough of the id for a person to tell leases apart."""
        return str(self.pk)[:8]

    @property
    def cpu_cores(self) -> str:
        return f"{self.cpu_millis / 1000:g}"

    @property
    def workload(self) -> protocol.Workload:
        """The whole workload, environment decrypted."""
        return read_workload(self.workload_public, self.environment_encrypted)
