"""The token sale: its rounds, what staff ordered, who bought what, and the rules staff can switch on.

Rounds and `TokenFacts` are copies of what the chain says, renewed by the chain worker, so that no page waits for a node.
Amounts of NTC in base units, prices in nano-dollars per NTC.
"""

from __future__ import annotations

import secrets
import uuid
from decimal import Decimal
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse

from billing import money
from billing.models.chain import ChainEvent, ChainTransaction
from billing.models.payment import Payment
from billing.sale_tables import PRICE_FACTOR
from billing.states import SaleOrderState, SalePurchaseState


class SaleRound(models.Model):
    """A round of Table 1 with the contract's view of it."""

    number = models.PositiveSmallIntegerField(primary_key=True)
    target_units = models.BigIntegerField(help_text="Base units of NTC to sell (whitepaper, Table 1).")
    trigger = models.CharField(max_length=80, help_text="What has to have happened (whitepaper, Table 1).")
    planned_on = models.DateField(help_text="The whitepaper's date. Shown, never enforced.")
    carried_units = models.BigIntegerField(default=0, help_text="Added from the round before by a staff decision.")
    sold_units = models.BigIntegerField(default=0)
    price_nano_usd = models.BigIntegerField(null=True, help_text="Nano-dollars per NTC, fixed at the opening.")
    opened_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    unsold_decision = models.CharField(max_length=20, blank=True, help_text="What becomes of what was not sold.")
    unsold_reason = models.CharField(max_length=300, blank=True)
    checked_at = models.DateTimeField(null=True, help_text="When the chain worker last compared it with the contract.")

    class Meta:
        ordering = ("number",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(target_units__gt=0, carried_units__gte=0, sold_units__gte=0)
                & Q(sold_units__lte=F("target_units") + F("carried_units")),
                name="billing_sale_round_within",
            ),
            models.CheckConstraint(
                condition=Q(opened_at=None, closed_at=None) | Q(opened_at__isnull=False, price_nano_usd__gt=0),
                name="billing_sale_round_priced_when_open",
            ),
        ]

    def __str__(self) -> str:
        return f"Round {self.number}"

    @property
    def offered_units(self) -> int:
        return self.target_units + self.carried_units

    @property
    def unsold_units(self) -> int:
        return self.offered_units - self.sold_units

    @property
    def open(self) -> bool:
        return self.opened_at is not None and self.closed_at is None

    @property
    def price(self) -> Decimal | None:
        """USD per NTC."""
        return None if self.price_nano_usd is None else Decimal(self.price_nano_usd).scaleb(-money.RATE_DECIMALS)

    @property
    def next_cap_nano_usd(self) -> int | None:
        """The most the next round may cost, in nano-dollars per NTC (whitepaper §4)."""
        return None if self.price_nano_usd is None else PRICE_FACTOR * self.price_nano_usd


class SaleOrder(models.Model):
    """What staff told the sale contract to do: open, close, or decide about the unsold. The chain worker carries it out."""

    OPEN, CLOSE, UNSOLD = "open", "close", "unsold"
    KINDS = ((OPEN, "Open the round"), (CLOSE, "Close the round"), (UNSOLD, "Decide about what was not sold"))

    sale_round = models.ForeignKey(SaleRound, on_delete=models.PROTECT, related_name="orders")
    kind = models.CharField(max_length=10, choices=KINDS)
    price_nano_usd = models.BigIntegerField(null=True)
    decision = models.CharField(max_length=20, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=10, choices=SaleOrderState.choices, default=SaleOrderState.ASKED)
    error = models.CharField(max_length=300, blank=True)
    ordered_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    ordered_at = models.DateTimeField()
    sending = models.ForeignKey(ChainTransaction, null=True, on_delete=models.PROTECT, related_name="+")
    done_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["sale_round", "kind"],
                condition=Q(state__in=[SaleOrderState.ASKED, SaleOrderState.SENT]),
                name="billing_sale_order_one_under_way",
            ),
            models.CheckConstraint(
                condition=~Q(kind="open") | Q(price_nano_usd__gt=0), name="billing_sale_order_open_has_price"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.sale_round_id}"


def new_reference() -> str:
    """Return 32 random bytes in hex: what names a card payment on the chain, and tells nobody whose it is."""
    return "0x" + secrets.token_hex(32)


class SaleAsset(models.TextChoices):
    CARD = "card", "Card"
    STABLECOIN = "stablecoin", "Stablecoin"
    ETHER = "ether", "Ether"


class SalePurchase(models.Model):
    """NTC bought in a round. A card purchase begins here and ends on the chain; a wallet's begins on the chain.

    Attributes:
        paid: US cents for a card, base units of the stablecoin or wei otherwise; decimal text, for wei need 78 digits.
        attempt: counts the cashier's tries, because a transaction the contract refused has used up its key.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="sale_purchases"
    )
    sale_round = models.ForeignKey(SaleRound, on_delete=models.PROTECT, related_name="purchases")
    asset = models.CharField(max_length=10, choices=SaleAsset.choices)
    units = models.BigIntegerField(help_text="Base units of NTC.")
    paid = models.CharField(max_length=78, default="0")
    state = models.CharField(max_length=10, choices=SalePurchaseState.choices)
    reference = models.CharField(max_length=66, unique=True, default=new_reference)
    payment = models.OneToOneField(Payment, null=True, on_delete=models.PROTECT, related_name="sale_purchase")
    account = models.CharField(max_length=66, blank=True, help_text="The portal account's reference the NTC go to.")
    wallet = models.CharField(max_length=42, blank=True, help_text="The wallet that paid, or the NTC went to.")
    attempt = models.PositiveIntegerField(default=1)
    sending = models.ForeignKey(ChainTransaction, null=True, on_delete=models.PROTECT, related_name="+")
    transaction_hash = models.CharField(max_length=66, blank=True, db_index=True)
    event = models.OneToOneField(
        ChainEvent, null=True, on_delete=models.PROTECT, related_name="sale_purchase", help_text="The chain's own word."
    )
    country = models.CharField(max_length=2, blank=True, help_text="Where the card was issued, as Stripe says.")
    note = models.CharField(max_length=300, blank=True, help_text="Why it failed or is paid back, in words.")
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True)
    told_at = models.DateTimeField(null=True, help_text="When the buyer was told that it is paid back.")

    class Meta:
        ordering = ("-created_at",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user", "-created_at"], name="billing_sale_of_user"),
            models.Index(fields=["state", "created_at"], name="billing_sale_waiting"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(units__gt=0), name="billing_sale_purchase_above_zero"),
            models.CheckConstraint(
                condition=Q(asset="card", payment__isnull=False) | ~Q(asset="card"),
                name="billing_sale_card_has_payment",
            ),
            models.CheckConstraint(
                condition=~Q(state=SalePurchaseState.DELIVERED) | Q(event__isnull=False),
                name="billing_sale_delivered_by_event",
            ),
        ]

    def __str__(self) -> str:
        return f"{money.format_ntc(self.units)} in round {self.sale_round_id}, {self.state}"

    def get_absolute_url(self) -> str:
        return reverse("sale_purchase", args=[self.pk])


class SaleTerms(models.Model):
    """A version of the terms of the sale. What was published stays as it was: people accepted those words."""

    version = models.CharField(max_length=20, unique=True)
    text = models.TextField()
    published_at = models.DateTimeField()
    published_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ("-published_at",)
        verbose_name_plural = "sale terms"

    def __str__(self) -> str:
        return f"Terms {self.version}"


class SaleDeclaration(models.Model):
    """What a person said before buying: where they live, and that they accept the terms. The newest counts."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sale_declarations")
    country = models.CharField(max_length=2, blank=True)
    terms = models.ForeignKey(SaleTerms, null=True, on_delete=models.PROTECT, related_name="acceptances")
    declared_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.user} {self.country}"


class SaleRules(models.Model):
    """The rules staff can switch on; one row. They bind purchases made through the portal."""

    quota_units = models.BigIntegerField(
        null=True, blank=True, help_text="The most one person may buy in a round; empty: no quota."
    )
    terms_required = models.BooleanField(default=False)
    country_required = models.BooleanField(default=False)
    refused_countries = models.CharField(
        max_length=800, blank=True, help_text="Two-letter codes, separated by spaces, e.g. US CN."
    )
    paused = models.BooleanField("card sales paused", default=False)

    class Meta:
        verbose_name = verbose_name_plural = "sale rules"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(pk=1), name="billing_sale_rules_one"),
            models.CheckConstraint(
                condition=Q(quota_units=None) | Q(quota_units__gt=0), name="billing_sale_rules_quota_above_zero"
            ),
        ]

    def __str__(self) -> str:
        return "Rules of the sale"


class TokenFacts(models.Model):
    """What the chain says about the token as a whole; one row, renewed by the chain worker.

    Attributes:
        values: numbers as decimal text, by name (`services/token_facts.py` lists the names).
    """

    values = models.JSONField(default=dict)
    block_number = models.BigIntegerField(default=0)
    checked_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(pk=1), name="billing_token_facts_one")
        ]

    def __str__(self) -> str:
        return f"Block {self.block_number}"
