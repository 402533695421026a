"""The desk: the rate in force, and prices locked for a buyer."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing import money


class DeskRate(models.Model):
    """USD per NTC from a moment on. Rows are never changed or removed: the newest start that has come is in force."""

    rate = models.DecimalField(
        "USD per NTC", max_digits=15, decimal_places=money.RATE_DECIMALS, validators=[MinValueValidator(0)]
    )
    starts_at = models.DateTimeField(db_index=True, help_text="UTC. Not in the past; another row later replaces it.")
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-starts_at", "-id")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(rate__gt=0), name="billing_desk_rate_above_zero")
        ]

    def __str__(self) -> str:
        return f"{self.rate.normalize():f} USD per NTC from {self.starts_at:%Y-%m-%d %H:%M} UTC"


class Quote(models.Model):
    """A price locked for one buyer until `expires_at`; it buys once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    sale_round = models.ForeignKey(
        "billing.SaleRound",
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: the desk sells; else this round of the token sale.",
    )
    rate = models.DecimalField(max_digits=15, decimal_places=money.RATE_DECIMALS)
    units = models.BigIntegerField(help_text="Base units of NTC the buyer gets.")
    cents = models.BigIntegerField(help_text="US cents the buyer pays.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(units__gt=0, cents__gt=0), name="billing_quote_above_zero")
        ]

    def __str__(self) -> str:
        return f"{money.format_ntc(self.units)} for {money.format_usd_cents(self.cents)}"
