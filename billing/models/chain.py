"""What we send to Ethereum. The signed bytes are stored before they are sent, so that a restart sends the same ones."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.chain.states import TransactionState


class ChainSender(models.Model):
    """A key's place on a chain. Its row is locked while a nonce is given out, so each nonce is used once."""

    chain_id = models.BigIntegerField()
    address = models.CharField(max_length=42)
    next_nonce = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["chain_id", "address"], name="billing_chain_sender_once"),
            models.CheckConstraint(condition=Q(next_nonce__gte=0), name="billing_chain_sender_nonce"),
        ]

    def __str__(self) -> str:
        return f"{self.address} on chain {self.chain_id}"


class ChainTransactionQuerySet(models.QuerySet["ChainTransaction"]):
    def outstanding(self) -> ChainTransactionQuerySet:
        """Not yet at rest in a block deep enough."""
        return self.filter(state__in=[TransactionState.BUILT, TransactionState.SENT, TransactionState.MINED])

    def stuck(self) -> ChainTransactionQuerySet:
        """Built long ago and in no block: the fee is too low, the node does not take it, or an earlier one is stuck."""
        before = timezone.now() - timedelta(seconds=settings.ETHEREUM_STUCK_SECONDS)
        return self.filter(state__in=[TransactionState.BUILT, TransactionState.SENT], created_at__lt=before)


class ChainTransaction(models.Model):
    """One thing to be done on the chain, under one nonce; each attempt is the same thing with a higher fee."""

    key = models.CharField(
        max_length=120, unique=True, help_text="Names the intent, e.g. epoch:5:1. One key, one nonce."
    )
    sender = models.ForeignKey(ChainSender, on_delete=models.PROTECT, related_name="transactions")
    nonce = models.BigIntegerField()
    to = models.CharField(max_length=42, blank=True, help_text="Empty: it creates a contract.")
    data = models.BinaryField()
    gas_limit = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=TransactionState.choices, default=TransactionState.BUILT)
    error = models.CharField(max_length=300, blank=True, help_text="What the node last said against it.")
    created_at = models.DateTimeField()
    mined_hash = models.CharField(max_length=66, blank=True, db_index=True, help_text="Of the attempt that was mined.")
    block_number = models.BigIntegerField(null=True)
    block_hash = models.CharField(max_length=66, blank=True)
    gas_used = models.BigIntegerField(null=True)
    gas_price = models.BigIntegerField(null=True, help_text="Wei per unit of gas paid.")
    contract_address = models.CharField(max_length=42, blank=True)
    mined_at = models.DateTimeField(null=True)
    final_at = models.DateTimeField(null=True)

    objects = ChainTransactionQuerySet.as_manager()

    class Meta:
        ordering = ("sender", "nonce")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["sender", "nonce"], name="billing_chain_transaction_nonce"),
            models.CheckConstraint(
                condition=Q(state__in=[TransactionState.BUILT, TransactionState.SENT]) | ~Q(mined_hash=""),
                name="billing_chain_transaction_mined_hash",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} (nonce {self.nonce})"

    @property
    def hash(self) -> str:
        """The hash people look for: the mined attempt's, else the newest one's."""
        attempts = self.attempts.all()  # may be prefetched
        return self.mined_hash or (list(attempts)[-1].hash if attempts else "")


class ChainAttempt(models.Model):
    """Signed bytes of a transaction. Stored first, sent after; all hashes are kept, any of them may be mined."""

    transaction = models.ForeignKey(ChainTransaction, on_delete=models.PROTECT, related_name="attempts")
    hash = models.CharField(max_length=66, unique=True)
    raw = models.BinaryField()
    max_fee = models.BigIntegerField(help_text="Wei per unit of gas.")
    priority_fee = models.BigIntegerField(help_text="Wei per unit of gas.")
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, help_text="When it was last handed to a node.")

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.hash


class ChainCursor(models.Model):
    """Up to which block a contract's events have been read. Reading some again is harmless."""

    contract = models.CharField(max_length=42, unique=True)
    next_block = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.contract} from block {self.next_block}"
