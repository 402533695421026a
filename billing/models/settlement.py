"""Epochs: what was earned and used in a window, committed to Ethereum as two Merkle roots. Amounts in base units."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from billing.chain.states import ClaimState, EpochState
from billing.models.chain import ChainTransaction
from billing.models.wallet import Wallet


class Epoch(models.Model):
    """A window of time. Exactly one is open; its number is the one the contract expects next after the others."""

    sequence = models.PositiveIntegerField(unique=True)
    state = models.CharField(max_length=10, choices=EpochState.choices, default=EpochState.OPEN)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    payout_root = models.CharField(max_length=66, blank=True)
    usage_root = models.CharField(max_length=66, blank=True)
    earned_units = models.BigIntegerField(default=0, help_text="Earnings this epoch adds.")
    withdrawal_units = models.BigIntegerField(default=0, help_text="Withdrawals this epoch adds.")
    cumulative_units = models.BigIntegerField(default=0, help_text="Sum of all leaves: everything ever settled.")
    accounts = models.PositiveIntegerField(default=0, help_text="Leaves of the payout tree.")
    statements_count = models.PositiveIntegerField(default=0, help_text="Leaves of the usage tree.")
    meters = models.JSONField(default=list, help_text="Sums of the statements' meters, in their order and base units.")
    contract = models.CharField(max_length=42, blank=True, help_text="The Settlement contract it was posted to.")
    posting = models.ForeignKey(ChainTransaction, null=True, on_delete=models.PROTECT, related_name="epochs")
    attempts = models.PositiveSmallIntegerField(
        default=0, help_text="Transactions made for it; more than one only when refused."
    )
    error = models.CharField(max_length=300, blank=True, help_text="Why posting it does not work yet.")
    mined_at = models.DateTimeField(null=True)
    claimable_at = models.DateTimeField(null=True, help_text="When the guardian's time for a veto is over.")
    final_at = models.DateTimeField(null=True, help_text="When it was final, or vetoed.")
    veto_seen = models.BooleanField(default=False, help_text="The contract holds a veto of it.")
    reviewed_at = models.DateTimeField(null=True, help_text="When staff looked at its veto and let settlement go on.")

    class Meta:
        ordering = ("-sequence",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state=EpochState.OPEN), name="billing_epoch_one_open"
            ),
            models.CheckConstraint(
                condition=Q(state=EpochState.OPEN)
                | (Q(closed_at__isnull=False) & ~Q(payout_root="") & ~Q(usage_root="")),
                name="billing_epoch_closed_with_roots",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[EpochState.OPEN, EpochState.CLOSED]) | Q(posting__isnull=False),
                name="billing_epoch_posted_with_transaction",
            ),
            models.CheckConstraint(
                condition=Q(earned_units__gte=0, withdrawal_units__gte=0)
                & Q(cumulative_units__gte=models.F("earned_units") + models.F("withdrawal_units")),
                name="billing_epoch_cumulative",
            ),
        ]

    def __str__(self) -> str:
        return f"Epoch {self.sequence}"


class PayoutLeaf(models.Model):
    """All that was ever committed to a wallet, earnings and withdrawals, written in the epochs in which it grew.

    The payout tree of an epoch holds each wallet's newest leaf of that epoch or before, without the leaves that a veto
    took out before that epoch was closed (`billing.settlement_queries.leaves_of`).
    """

    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="leaves")
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="leaves")
    cumulative_units = models.BigIntegerField()
    earned_units = models.BigIntegerField(help_text="Earnings this epoch added.")
    withdrawal_units = models.BigIntegerField(default=0, help_text="Withdrawals this epoch added.")
    withdrawn_from = models.PositiveIntegerField(
        null=True, help_text="First epoch whose tree is without it, after a veto. Empty: it stands."
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["epoch", "wallet"], name="billing_payout_leaf_once"),
            models.CheckConstraint(
                condition=Q(earned_units__gte=0, withdrawal_units__gte=0)
                & (Q(earned_units__gt=0) | Q(withdrawal_units__gt=0))
                & Q(cumulative_units__gte=models.F("earned_units") + models.F("withdrawal_units")),
                name="billing_payout_leaf_grows",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.wallet_id}: {self.cumulative_units}"

    @property
    def added_units(self) -> int:
        """What the epoch added for this wallet."""
        return self.earned_units + self.withdrawal_units


class UsageStatement(models.Model):
    """Evidence of a charge, as canonical JSON. Its SHA-256 is a leaf of the next epoch's usage tree. Never edited."""

    key = models.CharField(max_length=200, unique=True)
    sha256 = models.CharField(max_length=64, db_index=True, help_text="Of its `UsageDocument`.")
    meters = models.CharField(
        max_length=200, blank=True, help_text="What was used of each meter, whole base units separated by spaces."
    )
    created_at = models.DateTimeField()
    epoch = models.ForeignKey(Epoch, null=True, on_delete=models.PROTECT, related_name="statements")

    def __str__(self) -> str:
        return self.key

    @property
    def document(self) -> str:
        """Canonical JSON (RFC 8785), exactly the bytes that are hashed."""
        return UsageDocument.objects.get(pk=self.sha256).text


class UsageDocument(models.Model):
    """The bytes behind a statement's hash, kept apart from it: an epoch is given to 100,000 statements without moving them."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    text = models.TextField(help_text="Canonical JSON (RFC 8785).")

    def __str__(self) -> str:
        return self.sha256


class Claim(models.Model):
    """One payment from the Settlement contract to a wallet, asked for here or seen on the chain."""

    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="claims")
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="claims")
    state = models.CharField(max_length=10, choices=ClaimState.choices, default=ClaimState.REQUESTED)
    units = models.BigIntegerField(help_text="Asked for; once final, what was paid.")
    cumulative_units = models.BigIntegerField(help_text="All the wallet was ever paid once this is paid.")
    sending = models.ForeignKey(ChainTransaction, null=True, on_delete=models.PROTECT, related_name="claims")
    transaction_hash = models.CharField(max_length=66, blank=True)
    error = models.CharField(max_length=300, blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Empty: somebody sent the claim without the portal.",
    )
    requested_at = models.DateTimeField()
    final_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["wallet"],
                condition=Q(state__in=[ClaimState.REQUESTED, ClaimState.SENT]),
                name="billing_claim_one_under_way",
            ),
            models.UniqueConstraint(
                fields=["wallet", "cumulative_units"],
                condition=Q(state=ClaimState.FINAL),
                name="billing_claim_paid_once",
            ),
            models.CheckConstraint(
                condition=Q(units__gt=0) & Q(cumulative_units__gte=models.F("units")), name="billing_claim_above_zero"
            ),
        ]

    def __str__(self) -> str:
        return f"Claim {self.pk} of {self.wallet_id}"
