"""Card payments for NTC, their disputes, and the Stripe events that told us."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from billing import money
from billing.models.desk import Quote
from billing.states import DisputeState, PaymentState


class Payment(models.Model):
    """One checkout: what was promised, what Stripe says about it, and what the ledger has done because of it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="payments")
    quote = models.OneToOneField(Quote, on_delete=models.PROTECT, related_name="payment")
    units = models.BigIntegerField(help_text="Base units of NTC sold.")
    cents = models.BigIntegerField(help_text="US cents charged.")
    state = models.CharField(max_length=10, choices=PaymentState.choices, default=PaymentState.CREATED)
    session_id = models.CharField(max_length=120, null=True, unique=True)
    session_url = models.URLField(max_length=1000, blank=True)
    payment_intent_id = models.CharField(max_length=120, blank=True, db_index=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="The desk keeps the NTC for this buyer until then.")
    paid_at = models.DateTimeField(null=True)
    credited_at = models.DateTimeField(null=True, help_text="When the NTC reached the buyer's balance.")
    receipt_sent_at = models.DateTimeField(null=True)
    checked_at = models.DateTimeField(null=True, help_text="When Stripe was last asked about it.")
    refunded_cents = models.BigIntegerField(default=0, help_text="Refunded so far, as Stripe says.")
    refunded_units = models.BigIntegerField(default=0, help_text="NTC taken back for refunds so far.")
    version = models.PositiveIntegerField(default=0, help_text="Grows with each change, so that old news is noticed.")

    class Meta:
        ordering = ("-created_at",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user", "-created_at"], name="billing_payment_of_user"),
            models.Index(fields=["state", "expires_at"], name="billing_payment_waiting"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(refunded_cents__gte=0, refunded_units__gte=0)
                & Q(refunded_cents__lte=models.F("cents"), refunded_units__lte=models.F("units")),
                name="billing_payment_refund_within",
            ),
        ]

    def __str__(self) -> str:
        return f"{money.format_usd_cents(self.cents)} for {money.format_ntc(self.units)}, {self.state}"

    def get_absolute_url(self) -> str:
        purchase = getattr(self, "sale_purchase", None)
        return purchase.get_absolute_url() if purchase else reverse("payment_detail", args=[self.pk])

    @property
    def for_sale_round(self) -> bool:
        """Whether it pays for NTC of the token sale, which the chain delivers, and not for the desk's."""
        return self.quote.sale_round_id is not None


class Dispute(models.Model):
    """A cardholder's bank took the money back, for now or for good. While open, the NTC is frozen."""

    id = models.CharField(primary_key=True, max_length=120)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="disputes")
    cents = models.BigIntegerField()
    units = models.BigIntegerField(help_text="Base units of NTC frozen, owed back if the dispute is lost.")
    state = models.CharField(max_length=10, choices=DisputeState.choices, default=DisputeState.SEEN)
    reason = models.CharField(max_length=60, blank=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.id} {self.state}"


class StripeEvent(models.Model):
    """A verified webhook, stored once by Stripe's id. It is only a hint to look: the object is read again from the API."""

    id = models.CharField(primary_key=True, max_length=120)
    type = models.CharField(max_length=80)
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=120)
    account = models.CharField(max_length=120, blank=True, help_text="Stripe's connected account; empty: our own.")
    created_at = models.DateTimeField(help_text="By Stripe's clock.")
    received_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True, db_index=True)
    attempts = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ("-received_at",)

    def __str__(self) -> str:
        return f"{self.type} {self.object_id}"
