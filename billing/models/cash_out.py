"""Owners' accounts at Stripe, the dollars sent to them for NTC, staff's rules for it, and Stripe's own books as read."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from billing import money
from billing.states import CashOutState


class ConnectAccount(models.Model):
    """A person's own account at Stripe, where Stripe keeps their name and bank. A copy of what Stripe last said."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="connect_account")
    stripe_id = models.CharField(max_length=120, null=True, unique=True, help_text="Empty until Stripe answered.")
    country = models.CharField(max_length=2)
    currency = models.CharField(max_length=3, blank=True, help_text="Of the bank account, as Stripe says.")
    bank = models.CharField(max_length=120, blank=True, help_text="Name and last four digits.")
    submitted = models.BooleanField(default=False, help_text="The person has answered Stripe's questions.")
    payable = models.BooleanField(default=False, help_text="Stripe lets us send dollars to it and on to its bank.")
    bank_failed = models.BooleanField(default=False, help_text="The last payout to this bank came back.")
    wanted = models.JSONField(default=list, help_text="What Stripe still wants, by Stripe's names.")
    pending = models.BooleanField(default=False, help_text="Stripe is checking.")
    disabled_reason = models.CharField(max_length=80, blank=True)
    problem = models.CharField(max_length=300, blank=True, help_text="What Stripe could not verify, in its words.")
    created_at = models.DateTimeField()
    checked_at = models.DateTimeField(null=True, help_text="When Stripe was last asked about it.")

    def __str__(self) -> str:
        return f"{self.stripe_id or 'not opened yet'} of {self.user}"


class CashOut(models.Model):
    """NTC sold to the desk, and the dollars on their way to the person's bank. Every step is a state; each can be repeated."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="cash_outs")
    account = models.ForeignKey(ConnectAccount, on_delete=models.PROTECT, related_name="cash_outs")
    rate = models.DecimalField(max_digits=15, decimal_places=money.RATE_DECIMALS)
    units = models.BigIntegerField(help_text="Base units of NTC sold.")
    cents = models.BigIntegerField(help_text="US cents paid for them.")
    state = models.CharField(max_length=12, choices=CashOutState.choices, default=CashOutState.ASKED)
    bank = models.CharField(max_length=120, blank=True, help_text="Where it goes, as it was when asked for.")
    reason = models.CharField(max_length=300, blank=True, help_text="Why it waits, or why it failed.")
    failure_code = models.CharField(max_length=60, blank=True, help_text="Stripe's name for what the bank said.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="The price is locked until then.")
    reserved_at = models.DateTimeField(null=True)
    transferred_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    dollars_back_at = models.DateTimeField(
        null=True, help_text="When the dollars of a failed one were the desk's again."
    )
    closed_at = models.DateTimeField(
        null=True, help_text="When nothing more could happen, except a bank's late return."
    )
    arrives_on = models.DateField(null=True)
    transfer_id = models.CharField(max_length=120, null=True, unique=True)
    payout_id = models.CharField(max_length=120, null=True, unique=True)
    tries = models.PositiveIntegerField(default=0, help_text="Refusals by Stripe; each gives the next try a new key.")
    checked_at = models.DateTimeField(null=True, help_text="When the current step was last tried.")
    claimed_until = models.DateTimeField(
        null=True, help_text="One worker is at it; longer than any call to Stripe takes."
    )
    in_doubt = models.BooleanField(
        default=False, help_text="Stripe was asked to move dollars; its answer is not known."
    )
    told = models.CharField(max_length=12, blank=True, help_text="The last state the person was e-mailed about.")

    class Meta:
        ordering = ("-created_at",)
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user", "-created_at"], name="billing_cash_out_of_user"),
            models.Index(fields=["state", "checked_at"], name="billing_cash_out_waiting"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(units__gt=0, cents__gt=0), name="billing_cash_out_above_zero"),
            models.CheckConstraint(
                condition=~Q(state__in=["transferred", "on_the_way", "paid"]) | Q(transfer_id__isnull=False),
                name="billing_cash_out_has_transfer",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["on_the_way", "paid"]) | Q(payout_id__isnull=False),
                name="billing_cash_out_has_payout",
            ),
        ]

    def __str__(self) -> str:
        return f"{money.format_ntc(self.units)} for {money.format_usd_cents(self.cents)}, {self.state}"

    def get_absolute_url(self) -> str:
        return reverse("cash_out_detail", args=[self.pk])

    @property
    def subject(self) -> str:
        """What the confirmation, the ledger and the audit trail call it."""
        return f"cash_out:{self.pk}"


class CashOutRules(models.Model):
    """What staff allow: the newest row is in force, and what was set stays on record. Without a row, the settings count."""

    paused = models.BooleanField(default=False, help_text="Nobody can cash out; what is on its way goes on.")
    least_cents = models.PositiveBigIntegerField("least, US cents")
    daily_cents = models.PositiveBigIntegerField("most per person in 24 hours, US cents")
    reserve_cents = models.PositiveBigIntegerField("kept at Stripe for refunds, US cents", default=0)
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "cash-out rules"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(least_cents__gte=1, daily_cents__gte=F("least_cents")),
                name="billing_cash_out_rules_in_order",
            )
        ]

    def __str__(self) -> str:
        state = "paused" if self.paused else "open"
        return (
            f"{state}, {money.format_usd_cents(self.least_cents)} to {money.format_usd_cents(self.daily_cents)} a day"
        )


class StripeMovement(models.Model):
    """One line of Stripe's own books about our balance, stored once by Stripe's id; what our ledger did about it."""

    id = models.CharField(primary_key=True, max_length=120)
    kind = models.CharField(max_length=60, help_text="Stripe's type: charge, refund, adjustment, transfer, payout, …")
    cents = models.BigIntegerField()
    fee_cents = models.BigIntegerField(default=0)
    source = models.CharField(max_length=120, blank=True, help_text="Stripe's id of what caused it.")
    text = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_index=True, help_text="By Stripe's clock.")
    seen_at = models.DateTimeField()
    followed_at = models.DateTimeField(
        null=True, db_index=True, help_text="When our rows were brought in line with it."
    )
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")

    def __str__(self) -> str:
        return f"{self.kind} {money.format_usd_cents(self.cents)}"
