"""What was measured: signed batches as evidence, and the cumulative totals drawn from them."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from nodes.agent import protocol
from nodes.models.device import Device
from nodes.models.lease import Lease


class ReadingBatch(models.Model):
    """One signed message of a device, kept as it came. Its id is remembered for ever, so a resend changes nothing."""

    device = models.ForeignKey(Device, on_delete=models.PROTECT, related_name="batches")
    batch_id = models.UUIDField(help_text="Chosen by the agent; the same when resent.")
    jws = models.TextField(help_text="Compact JWS over protocol.ReadingBatch.")
    created_at = models.DateTimeField(help_text="The agent's clock.")
    received_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "reading batches"
        constraints = (models.UniqueConstraint(fields=["device", "batch_id"], name="batch_once"),)

    def __str__(self) -> str:
        return str(self.batch_id)


class MeterTotal(models.Model):
    """How much a lease has used so far, in the meter's base unit. Never falls (nodes/services/metering.py)."""

    lease = models.ForeignKey(Lease, on_delete=models.PROTECT, related_name="totals")
    meter = models.CharField(max_length=12, choices=[(meter.value, meter.value) for meter in protocol.Meter])
    total = models.BigIntegerField(default=0)
    method = models.CharField(max_length=12)
    at = models.DateTimeField(help_text="When the device (or the gateway) read it.")
    sequence = models.BigIntegerField(help_text="Place of its last change in the order of all changes.")
    batch = models.ForeignKey(ReadingBatch, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    capped = models.BooleanField(default=False, help_text="The device claimed more than was possible.")

    class Meta:
        ordering = ("lease", "meter")
        indexes = (models.Index(fields=["sequence"], name="total_by_sequence"),)
        constraints = (
            models.UniqueConstraint(fields=["lease", "meter"], name="total_once"),
            models.CheckConstraint(condition=Q(total__gte=0), name="total_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.meter}: {self.total}"


class CappedClaim(models.Model):
    """That a device claimed more of a meter than was possible, on one day of the portal's clock: how often, and the worst.

    Written by nodes/services/metering.py in the transaction that stores the batch, so a resend counts once; read by whoever
    judges how far a device can be trusted.
    """

    device = models.ForeignKey(Device, on_delete=models.PROTECT, related_name="capped_claims")
    day = models.DateField(help_text="UTC, when the portal received it.")
    meter = models.CharField(max_length=12, choices=[(meter.value, meter.value) for meter in protocol.Meter])
    claims = models.PositiveIntegerField(help_text="Readings that were capped.")
    claimed = models.BigIntegerField(
        help_text="Total that the reading furthest above its bound claimed, in base units."
    )
    allowed = models.BigIntegerField(help_text="What that reading was capped to.")
    last_at = models.DateTimeField(help_text="When the last of them came.")

    class Meta:
        ordering = ("-day", "device", "meter")
        constraints = (
            models.UniqueConstraint(fields=["device", "day", "meter"], name="capped_claim_once"),
            models.CheckConstraint(condition=Q(claims__gte=1), name="capped_claim_counted"),
            models.CheckConstraint(condition=Q(claimed__gt=F("allowed"), allowed__gte=0), name="capped_claim_above"),
        )

    def __str__(self) -> str:
        return f"{self.meter} of {self.device_id} on {self.day}"


class ReadingSequence(models.Model):
    """One row: the last number given to a change of a total. Its lock makes numbers commit in the order they are given."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.BigIntegerField(default=0)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="sequence_is_one_row"),)

    def __str__(self) -> str:
        return str(self.value)


class WipeReceipt(models.Model):
    """A device's signed word that nothing of a lease is left on it."""

    lease = models.OneToOneField(Lease, on_delete=models.PROTECT, related_name="receipt")
    jws = models.TextField(help_text="Compact JWS over protocol.WipeReceipt.")
    wiped_at = models.DateTimeField(help_text="The agent's clock.")
    volume_bytes = models.BigIntegerField()
    received_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints = (models.CheckConstraint(condition=Q(volume_bytes__gte=0), name="receipt_bytes_not_negative"),)

    def __str__(self) -> str:
        return f"of {self.lease_id}"


class GatewayCount(models.Model):
    """What the gateway saw of one workload in one UTC month: distinct clients and bytes. Neither ever falls."""

    workload_id = models.UUIDField()
    month = models.DateField(help_text="Its first day.")
    users = models.BigIntegerField(default=0)
    users_credited = models.BigIntegerField(default=0, help_text="How many of them stand in a lease's total.")
    bytes = models.BigIntegerField(default=0)
    sketch = models.BinaryField(blank=True, default=b"", help_text="The HyperLogLog, so that Redis may be lost.")
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ("-month", "workload_id")
        constraints = (
            models.UniqueConstraint(fields=["workload_id", "month"], name="gateway_count_once"),
            models.CheckConstraint(
                condition=Q(users_credited__gte=0, users_credited__lte=F("users")),
                name="gateway_credit_not_above_count",
            ),
            models.CheckConstraint(condition=Q(bytes__gte=0), name="gateway_bytes_not_negative"),
        )

    def __str__(self) -> str:
        return f"{self.workload_id} {self.month:%Y-%m}"
