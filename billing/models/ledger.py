"""Accounts, transactions and entries: double entry, append-only.

`billing.services.ledger.post` is the only writer. The database holds the rules as well (`billing/triggers.py`): entries
sum to zero per currency, `Account.balance` is always the sum of its entries, nothing is updated or deleted.
"""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q


class Currency(models.TextChoices):
    NTC = "NTC", "NTC"
    USD = "USD", "US dollar"


class Account(models.Model):
    """Whose money is where. A positive balance is what the platform owes to, or holds for, that party.

    Accounts that mirror the outside world (escrow, Stripe's clearing account) or hold a debt may be negative.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="ledger_accounts",
        db_index=False,  # the unique constraint below begins with it
    )
    kind = models.CharField(max_length=40)
    currency = models.CharField(max_length=3, choices=Currency.choices, default=Currency.NTC)
    balance = models.BigIntegerField(default=0, help_text="Base units of NTC, or US cents. Kept by the database.")
    may_be_negative = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["user", "kind", "currency"], condition=Q(user__isnull=False), name="billing_account_of_user"
            ),
            models.UniqueConstraint(
                fields=["kind", "currency"], condition=Q(user__isnull=True), name="billing_account_of_platform"
            ),
            models.CheckConstraint(
                condition=Q(balance__gte=0) | Q(may_be_negative=True), name="billing_account_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.currency} of {f'user {self.user_id}' if self.user_id else 'the platform'}"


class Transaction(models.Model):
    """One event that moved money; its entries sum to zero per currency.

    It carries no index that nothing reads: every one costs each posting (`bench/ledger`). So `key` is unique by a constraint
    (`unique=True` would add a second index for LIKE), and `reverses` is indexed only where it is set.
    """

    key = models.CharField(max_length=200, help_text="Idempotency key: one key, one transaction.")
    kind = models.CharField(max_length=40)
    effective_at = models.DateTimeField(help_text="When it happened; `created_at` is when it was written down.")
    created_at = models.DateTimeField()
    memo = models.CharField(max_length=200, blank=True)
    reference = models.CharField(max_length=120, blank=True, help_text="kind:id of what caused it.")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    reverses = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="reversals", db_index=False)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["key"], name="billing_transaction_key"),
            models.UniqueConstraint(
                fields=["reverses"], condition=Q(reverses__isnull=False), name="billing_transaction_reversed_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class Entry(models.Model):
    """One line of a transaction."""

    transaction = models.ForeignKey(Transaction, on_delete=models.PROTECT, related_name="entries")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="entries", db_index=False)
    amount = models.BigIntegerField(help_text="Base units of NTC, or US cents; above zero raises the balance.")
    balance_after = models.BigIntegerField(help_text="The account's balance once this entry was written.")

    class Meta:
        verbose_name_plural = "entries"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["account", "id"], name="billing_entry_statement")]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=~Q(amount=0), name="billing_entry_not_zero")
        ]

    def __str__(self) -> str:
        return f"{self.amount:+d} on account {self.account_id}"


class HeldEarning(models.Model):
    """A working list: earnings still in their hold, by the moment they were earned. Released rows are removed.

    The money itself is the owner's `earnings_held` account; the rows of an account always sum to its balance. An
    `unpaid` row is what the publisher's balance did not cover: it stays until that person owes nothing any more, or staff
    let it go. Otherwise a made-up reading against an empty account would become NTC that can leave.
    """

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    effective_at = models.DateTimeField(db_index=True)
    publisher = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="Whose use earned it."
    )
    unpaid = models.BooleanField(default=False, help_text="The publisher's balance did not cover it.")
    units = models.BigIntegerField(help_text="Base units of NTC.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["account", "effective_at", "publisher", "unpaid"], name="billing_held_earning_moment"
            ),
            models.CheckConstraint(condition=Q(units__gt=0), name="billing_held_earning_above_zero"),
        ]

    def __str__(self) -> str:
        return f"{self.units} held since {self.effective_at:%Y-%m-%d %H:%M}{' unpaid' if self.unpaid else ''}"


class EarningsDay(models.Model):
    """What an owner earned on one UTC day: a sum kept for the earnings page, derivable from the ledger."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    day = models.DateField()
    units = models.BigIntegerField(help_text="Base units of NTC.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user", "day"], name="billing_earnings_day_once")
        ]

    def __str__(self) -> str:
        return f"{self.units} on {self.day}"
