"""NTC on their way in and out: deposits people told us of, deposits nobody owns, withdrawals. Amounts in base units."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from billing.chain.states import WithdrawalState
from billing.models.chain import ChainEvent
from billing.models.settlement import Epoch
from billing.models.wallet import Wallet

SETTLED_STATES = (WithdrawalState.COMMITTED, WithdrawalState.CLAIMABLE, WithdrawalState.PAID)


class Withdrawal(models.Model):
    """A person's NTC leave to an address of theirs, with the next epoch's payouts.

    From `held` or `confirmed` to `committed` the NTC are on the person's `withdrawing` account, then on `settled`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="withdrawals")
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="withdrawals")
    units = models.BigIntegerField(help_text="Base units of NTC.")
    state = models.CharField(max_length=10, choices=WithdrawalState.choices, default=WithdrawalState.ASKED)
    asked_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True)
    held_until = models.DateTimeField(null=True, help_text="It waits until then, because its address is new.")
    epoch = models.ForeignKey(Epoch, null=True, on_delete=models.PROTECT, related_name="withdrawals")
    returned = models.PositiveSmallIntegerField(
        default=0, help_text="How often a veto took it out of an epoch; it goes into a later one."
    )
    transaction_hash = models.CharField(max_length=66, blank=True, help_text="Of the payment to the address.")
    paid_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200, blank=True, help_text="Why it was cancelled.")

    class Meta:
        ordering = ("-asked_at", "-id")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user", "asked_at"], name="billing_withdrawal_of_user"),
            models.Index(fields=["state"], name="billing_withdrawal_state"),
        ]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(units__gt=0), name="billing_withdrawal_above_zero"),
            models.CheckConstraint(
                condition=Q(state__in=SETTLED_STATES, epoch__isnull=False)
                | (~Q(state__in=SETTLED_STATES) & Q(epoch=None)),
                name="billing_withdrawal_in_an_epoch",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[WithdrawalState.ASKED, WithdrawalState.CANCELLED])
                | Q(confirmed_at__isnull=False),
                name="billing_withdrawal_confirmed",
            ),
        ]

    def __str__(self) -> str:
        return f"Withdrawal {self.pk} of user {self.user_id}"


class SentDeposit(models.Model):
    """A deposit a person's browser wallet has sent: shown until the chain shows it. It credits nothing."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    transaction_hash = models.CharField(max_length=66)
    units = models.BigIntegerField()
    sent_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user", "transaction_hash"], name="billing_sent_deposit_once"),
            models.CheckConstraint(condition=Q(units__gt=0), name="billing_sent_deposit_above_zero"),
        ]

    def __str__(self) -> str:
        return self.transaction_hash


class UnassignedDeposit(models.Model):
    """A deposit under a reference nobody has, until staff find out whose it is."""

    event = models.OneToOneField(ChainEvent, on_delete=models.PROTECT, related_name="unassigned")
    units = models.BigIntegerField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Whom staff gave it to.",
    )
    assigned_at = models.DateTimeField(null=True)
    assigned_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(user=None, assigned_at=None, assigned_by=None)
                | Q(user__isnull=False, assigned_at__isnull=False, assigned_by__isnull=False),
                name="billing_unassigned_deposit_whole",
            )
        ]

    def __str__(self) -> str:
        return f"Deposit in {self.event.transaction_hash}"


class GasQuote(models.Model):
    """What gas costs, as the chain worker saw it last: one row. The payout planner counts with it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    wei_per_gas = models.BigIntegerField()
    nano_usd_per_ether = models.BigIntegerField(null=True, help_text="Empty: no price feed answers.")
    taken_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(id=1), name="billing_gas_quote_one"),
            models.CheckConstraint(
                condition=Q(wei_per_gas__gte=0) & (Q(nano_usd_per_ether=None) | Q(nano_usd_per_ether__gt=0)),
                name="billing_gas_quote_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.wei_per_gas} wei at {self.taken_at:%Y-%m-%d %H:%M}"
