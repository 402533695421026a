"""What is wanted of a workload: how many replicas, of what, and the counter its leases take their generations from."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from interchain_site.core import secrets
from nodes.agent import protocol

MOST_REPLICAS = 100


class ReplicaSet(models.Model):
    """One row per workload. Whoever moves a workload locks this row first, then its leases, then one device."""

    workload_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, help_text="Label of the stable host name.")
    wanted = models.BooleanField(default=True, help_text="Whether it is to run.")
    replicas = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(MOST_REPLICAS)]
    )
    standby = models.BooleanField(default=False, help_text="Whether one more device keeps it ready to start.")
    region = models.CharField(max_length=16, blank=True, help_text="Where it should rather run; empty: anywhere.")
    generation = models.PositiveIntegerField(default=0, help_text="The last one given to a lease.")
    version = models.PositiveIntegerField(
        default=0, help_text="Which of the workloads it was to run so far; only grows."
    )
    workload_public = models.JSONField(help_text="protocol.Workload without its environment: what new leases get.")
    environment_encrypted = models.TextField(help_text="The environment, secrets included (core.secrets).")
    has_volume = models.BooleanField()
    due_at = models.DateTimeField(
        null=True, blank=True, help_text="When the sweep looks at it; empty: all is as wanted."
    )
    tries = models.PositiveSmallIntegerField(default=0, help_text="Looks in a row that found no device.")

    class Meta:
        ordering = ("name",)
        indexes = (models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="replica_set_due"),)
        constraints = (
            models.UniqueConstraint(fields=["name"], condition=Q(wanted=True), name="replica_set_name_once"),
            models.CheckConstraint(
                condition=Q(replicas__gte=1, replicas__lte=MOST_REPLICAS), name="replica_set_replicas_in_range"
            ),
            # Two would each have data of their own.
            models.CheckConstraint(condition=Q(has_volume=False) | Q(replicas=1), name="replica_set_data_is_one"),
        )

    def __str__(self) -> str:
        return f"{self.name} × {self.replicas}"

    @property
    def workload(self) -> protocol.Workload:
        """The whole workload, environment decrypted."""
        return read_workload(self.workload_public, self.environment_encrypted)

    @property
    def public_workload(self) -> protocol.Workload:
        """The workload without its environment: nothing is decrypted."""
        return protocol.from_json(protocol.Workload, {**self.workload_public, "environment": {}})


def read_workload(public: dict[str, Any], environment_encrypted: str) -> protocol.Workload:
    """Return a workload from its two stored parts."""
    data = dict(public) | {"environment": json.loads(secrets.decrypt(environment_encrypted))}
    return protocol.from_json(protocol.Workload, data)
