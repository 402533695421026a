"""A deployment: one app asked to run. Its id is the workload id that devices know."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from marketplace.models.app import App, Release
from marketplace.models.price_list import PriceList
from marketplace.states import ASKED_TO_RUN, DeploymentState, Desired
from nodes.models import MOST_REPLICAS


class Deployment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    app = models.ForeignKey(App, on_delete=models.PROTECT, related_name="deployments")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="deployments")
    price_list = models.ForeignKey(PriceList, on_delete=models.PROTECT, related_name="deployments")
    previous_release = models.ForeignKey(
        Release,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="What ran before the present release: what a rollback goes back to.",
    )
    rolling = models.BooleanField(default=False, help_text="Whether the release is taking over from the one before.")
    rollback_message = models.TextField(
        blank=True, help_text="Why the last release was rolled back; empty: it was not."
    )
    desired = models.CharField(max_length=10, choices=Desired.choices, default=Desired.RUNNING)
    state = models.CharField(max_length=10, choices=DeploymentState.choices, default=DeploymentState.STARTING)
    state_changed_at = models.DateTimeField()
    reason = models.CharField(max_length=40, blank=True, help_text="One word for programs; empty when all is well.")
    message = models.TextField(blank=True, help_text="The same for people, with what to do next.")
    log_tail = models.TextField(blank=True, help_text="Last lines the app wrote before it failed.")
    lease_id = models.UUIDField(null=True, blank=True, db_index=True, help_text="The newest lease of this workload.")
    expected_use = models.JSONField(default=dict, help_text="What the publisher expected per hour when deploying.")
    expected_nano_usd_per_hour = models.BigIntegerField(default=0)
    replicas = models.PositiveSmallIntegerField(default=1, help_text="On how many devices it is to run.")
    standby = models.BooleanField(default=False, help_text="Whether one more device keeps it ready to start.")
    grace_started_at = models.DateTimeField(null=True, blank=True)
    grace_ends_at = models.DateTimeField(
        null=True, blank=True, help_text="The data is wiped then, unless NTC is bought before."
    )
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    deleted_at = models.DateTimeField(null=True, blank=True)
    wipe_receipts = models.JSONField(default=list, blank=True, help_text="Signed by the devices that held data.")

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.CheckConstraint(
                name="deployment_replicas_in_range",
                condition=models.Q(replicas__gte=1, replicas__lte=MOST_REPLICAS),
            ),
            models.UniqueConstraint(
                fields=("app",), condition=~models.Q(state=DeploymentState.DELETED), name="deployment_one_live_per_app"
            ),
            models.CheckConstraint(
                name="deployment_grace_has_dates",
                condition=models.Q(grace_started_at__isnull=True, grace_ends_at__isnull=True)
                | models.Q(grace_started_at__isnull=False, grace_ends_at__isnull=False),
            ),
        )
        indexes = (models.Index(fields=("state", "state_changed_at")),)

    def __str__(self) -> str:
        return f"{self.app} ({self.get_state_display().lower()})"

    @property
    def asked_to_run(self) -> bool:
        return self.state in ASKED_TO_RUN


class DeploymentEvent(models.Model):
    """What happened to a deployment, in words, newest first."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    kind = models.CharField(max_length=40)
    message = models.TextField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("-at", "-id")
        indexes = (models.Index(fields=("deployment", "-at")),)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.message}"
