"""What proves that nothing is missing: snapshots of what the portal owes, and the runs that compare all books."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from billing.states import ReconcileOutcome


class ReserveSnapshot(models.Model):
    """What everybody was owed at one moment, as the root of a Merkle sum tree, beside what the contract held.

    The root stays for ever; the leaves only of the newest `RESERVES_KEEP` snapshots, because proofs show sums.
    """

    taken_at = models.DateTimeField()
    root = models.CharField(max_length=64, help_text="Hash of the tree's top node, hex (billing/sum_tree.py).")
    people_units = models.BigIntegerField(help_text="Sum of the tree: all that people are owed, in base units.")
    people = models.PositiveIntegerField(help_text="How many people the tree holds.")
    leaves_count = models.PositiveIntegerField()
    platform = models.JSONField(help_text="The platform's own NTC by account, {kind: base units}.")
    debts_units = models.BigIntegerField(help_text="What people owe the platform, in base units; not netted.")
    chain_id = models.BigIntegerField(null=True, help_text="Empty: the chain could not be read.")
    contract = models.CharField(max_length=42, blank=True, help_text="The Settlement contract.")
    contract_units = models.BigIntegerField(null=True, help_text="NTC the contract held, by the token, in base units.")
    deposited_units = models.BigIntegerField(null=True, help_text="Ever deposited, by the contract.")
    paid_units = models.BigIntegerField(null=True, help_text="Ever paid out, by the contract.")
    arriving_units = models.BigIntegerField(
        default=0, help_text="Deposited there, not deep enough to be credited here."
    )
    leaving_units = models.BigIntegerField(default=0, help_text="Paid out there, not deep enough to be booked here.")
    block_number = models.BigIntegerField(null=True)
    block_hash = models.CharField(max_length=66, blank=True)
    block_time = models.DateTimeField(null=True)
    statement_key = models.CharField(
        max_length=200, blank=True, help_text="The statement that carries it into an epoch."
    )

    class Meta:
        ordering = ("-taken_at", "-id")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(people_units__gte=0), name="billing_reserves_not_negative"),
            models.CheckConstraint(condition=Q(debts_units__gte=0), name="billing_reserves_debts"),
            models.CheckConstraint(
                condition=Q(contract_units__isnull=True) | (Q(block_number__isnull=False) & ~Q(contract="")),
                name="billing_reserves_with_block",
            ),
        ]

    def __str__(self) -> str:
        return f"Reserves of {self.taken_at:%Y-%m-%d %H:%M}"

    @property
    def platform_units(self) -> int:
        return sum(int(units) for units in self.platform.values())

    @property
    def owed_units(self) -> int:
        """Everything the contract must hold: what people are owed and the platform's own, less what people owe."""
        return self.people_units + self.platform_units - self.debts_units

    @property
    def is_covered(self) -> bool:
        """What the contract holds, as far as the ledger knows of it, is enough."""
        if self.contract_units is None:
            return False
        return self.contract_units - self.arriving_units + self.leaving_units >= self.owed_units


class ReserveLeaf(models.Model):
    """One leaf of a snapshot's tree: a part of a person's balance, or padding that belongs to nobody."""

    snapshot = models.ForeignKey(ReserveSnapshot, on_delete=models.CASCADE, related_name="leaves")
    position = models.PositiveIntegerField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    units = models.BigIntegerField()
    salt = models.CharField(max_length=64, help_text="Hex. Only the person learns it.")
    document = models.TextField(help_text="Canonical JSON, exactly the bytes that are hashed.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["snapshot", "position"], name="billing_reserve_leaf_once"),
            models.CheckConstraint(condition=Q(units__gte=0), name="billing_reserve_leaf_not_negative"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["user", "snapshot"], name="billing_reserve_leaf_of_user")
        ]

    def __str__(self) -> str:
        return f"{self.snapshot_id}/{self.position}"


class ReconcileRun(models.Model):
    """One comparison of ledger, contracts and Stripe, with what it found in words."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    outcome = models.CharField(max_length=10, choices=ReconcileOutcome.choices)
    checks = models.JSONField(help_text="[{name, outcome, findings}], in order.")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+", help_text="Empty: daily."
    )

    class Meta:
        ordering = ("-started_at", "-id")

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M} {self.outcome}"

    @property
    def findings(self) -> list[str]:
        """Every difference, in words."""
        return [
            line
            for check in self.checks
            if check["outcome"] == ReconcileOutcome.DIFFERENCE
            for line in check["findings"]
        ]
