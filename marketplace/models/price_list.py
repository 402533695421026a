"""Price lists per region: drafted, compared, published from a moment on, then frozen (also by a database trigger)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models

from marketplace import pricing
from marketplace.errors import Frozen
from marketplace.states import PriceListState
from nodes.agent.protocol import Meter

METERS = [(meter.value, pricing.UNITS[meter].label) for meter in Meter]


class PriceList(models.Model):
    """One version of a region's prices. In force: the published one with the latest `effective_at` that has come."""

    region = models.SlugField(max_length=20)
    name = models.CharField(max_length=80)
    version = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=PriceListState.choices, default=PriceListState.DRAFT)
    effective_at = models.DateTimeField(
        null=True, blank=True, help_text="New deployments pay these prices from then on."
    )
    notice_days = models.PositiveSmallIntegerField(
        default=30, help_text="How many days after that running apps keep the prices they have."
    )
    note = models.TextField(blank=True, help_text="Shown to publishers beside the prices.")
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True, editable=False)
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, editable=False, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        ordering = ("region", "-version")
        constraints = (
            models.UniqueConstraint(fields=("region", "version"), name="price_list_version_once"),
            models.CheckConstraint(
                name="price_list_published_has_dates",
                condition=models.Q(state=PriceListState.DRAFT)
                | models.Q(state=PriceListState.PUBLISHED, effective_at__isnull=False, published_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.name}, version {self.version}"

    @property
    def is_published(self) -> bool:
        return self.state == PriceListState.PUBLISHED

    def prices_by_meter(self) -> dict[Meter, int]:
        """Return whole nano-dollars per unit of each meter; uses the prefetched `prices` where there are any."""
        return {Meter(price.meter): pricing.nano_per_unit(price.usd) for price in self.prices.all()}

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk and PriceList.objects.filter(pk=self.pk, state=PriceListState.PUBLISHED).exists():
            raise Frozen
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        if self.is_published:
            raise Frozen
        return super().delete(*args, **kwargs)


class Price(models.Model):
    """US dollars for one unit of one meter."""

    price_list = models.ForeignKey(PriceList, on_delete=models.CASCADE, related_name="prices")
    meter = models.CharField(max_length=12, choices=METERS)
    # 15 digits: SQLite keeps a Decimal as a double and loses digits beyond that (BUILDING.md).
    usd = models.DecimalField(
        "USD per unit", max_digits=15, decimal_places=9, validators=[MinValueValidator(Decimal(0))]
    )

    class Meta:
        ordering = ("price_list", "id")
        constraints = (
            models.UniqueConstraint(fields=("price_list", "meter"), name="price_meter_once"),
            models.CheckConstraint(name="price_not_negative", condition=models.Q(usd__gte=0)),
        )

    def __str__(self) -> str:
        return f"{self.get_meter_display()}: {self.usd.normalize():f} USD per {self.unit}"

    @property
    def unit(self) -> str:
        return pricing.UNITS[Meter(self.meter)].name

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._refuse_frozen()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self._refuse_frozen()
        return super().delete(*args, **kwargs)

    def _refuse_frozen(self) -> None:
        if PriceList.objects.filter(pk=self.price_list_id, state=PriceListState.PUBLISHED).exists():
            raise Frozen
