"""What has been charged: cumulative per lease and price period, and one row for each step."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from marketplace.models.deployment import Deployment
from marketplace.models.price_list import PriceList


class ChargePeriod(models.Model):
    """One lease under one price list. The charge to date is a function of `totals − baseline`; readings may come twice or late."""

    lease_id = models.UUIDField()
    number = models.PositiveIntegerField(default=1)
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="charge_periods")
    price_list = models.ForeignKey(PriceList, on_delete=models.PROTECT, related_name="+")
    publisher = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    device_id = models.CharField(max_length=64)
    baseline = models.JSONField(default=dict, help_text="Quantities of the lease when the period began, base units.")
    totals = models.JSONField(default=dict, help_text="Quantities of the lease charged up to, base units.")
    evidence = models.JSONField(
        default=dict, help_text="Signed batch behind each total charged up to, {meter: {batch, capped}}."
    )
    nano_usd = models.BigIntegerField(default=0, help_text="Charged in this period, nano-dollars, without commission.")
    carry_atto_usd = models.BigIntegerField(
        default=0, help_text="Charged dollars that made no whole base unit of NTC yet."
    )
    commission_carry = models.PositiveSmallIntegerField(default=0, help_text="In 1/10,000 base units of commission.")
    owner_units = models.BigIntegerField(default=0)
    commission_units = models.BigIntegerField(default=0)
    step = models.PositiveIntegerField(default=0, help_text="How many charges were made; names the next one.")
    opened_at = models.DateTimeField()
    charged_at = models.DateTimeField(help_text="Use before this moment is charged.")
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("lease_id", "number")
        constraints = (
            models.UniqueConstraint(fields=("lease_id", "number"), name="charge_period_number_once"),
            models.UniqueConstraint(
                fields=("lease_id",), condition=models.Q(closed_at__isnull=True), name="charge_period_one_open"
            ),
            models.CheckConstraint(
                name="charge_period_not_negative",
                condition=models.Q(nano_usd__gte=0, carry_atto_usd__gte=0, owner_units__gte=0, commission_units__gte=0),
            ),
        )

    def __str__(self) -> str:
        return f"lease {self.lease_id} period {self.number}"


class Charge(models.Model):
    """One step of a period: what was used and charged since the step before. Never changed."""

    period = models.ForeignKey(ChargePeriod, on_delete=models.PROTECT, related_name="charges")
    deployment = models.ForeignKey(Deployment, on_delete=models.PROTECT, related_name="charges")
    key = models.CharField(max_length=120, unique=True)
    since = models.DateTimeField()
    at = models.DateTimeField(db_index=True)
    seconds = models.PositiveIntegerField(help_text="From `since` to `at`.")
    transfer = models.BigIntegerField(default=0)
    storage = models.BigIntegerField(default=0)
    compute = models.BigIntegerField(default=0)
    uptime = models.BigIntegerField(default=0)
    active_user = models.BigIntegerField(default=0)
    nano_usd = models.BigIntegerField()
    rate = models.DecimalField(max_digits=15, decimal_places=9, help_text="US dollars per NTC.")
    owner_units = models.BigIntegerField()
    commission_units = models.BigIntegerField()
    shortfall_units = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("-at", "-id")
        indexes = (models.Index(fields=("deployment", "-at")),)

    def __str__(self) -> str:
        return self.key


class ChargeCursor(models.Model):
    """How far charging has read. Its one row is also the lock that lets one worker charge at a time."""

    name = models.CharField(max_length=20, unique=True)
    sequence = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} at {self.sequence}"
