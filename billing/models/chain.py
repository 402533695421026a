"""What we send to Ethereum, and what we read there.

The signed bytes of a transaction are stored before they are sent, so that a restart sends the same ones. Events are kept
with the block they were seen in, so that a reorganisation is noticed and undone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.chain.states import EventState, TransactionState


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
                condition=Q(state__in=[TransactionState.BUILT, TransactionState.SENT, TransactionState.DISPLACED])
                | ~Q(mined_hash=""),
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
    """Up to which block our contracts' events have been read. Reading some again is harmless."""

    contract = models.CharField(max_length=42, unique=True, help_text="The Settlement contract, which names them all.")
    next_block = models.BigIntegerField(default=0)
    checked_block = models.BigIntegerField(
        default=0, help_text="Up to which block the events add up to what the contracts themselves count."
    )

    def __str__(self) -> str:
        return f"{self.contract} from block {self.next_block}"


class ChainBlock(models.Model):
    """A block as it was when its events were read: another hash under its number means a reorganisation."""

    number = models.BigIntegerField(unique=True)
    hash = models.CharField(max_length=66)

    class Meta:
        ordering = ("number",)

    def __str__(self) -> str:
        return f"{self.number} {self.hash}"


class ChainEvent(models.Model):
    """An event of one of our contracts. The same event of the same transaction is one row, in whatever block it is.

    `billing.services.chain_reading` and `chain_events` are the only writers.
    """

    contract = models.CharField(max_length=20, help_text="The contract's name, e.g. Settlement.")
    address = models.CharField(max_length=42)
    name = models.CharField(max_length=40, help_text="The event's name, e.g. Deposited.")
    values = models.JSONField(help_text="By name; whole numbers as text, bytes as 0x…, addresses in EIP-55 form.")
    block_number = models.BigIntegerField(db_index=True)
    block_hash = models.CharField(max_length=66)
    block_time = models.DateTimeField()
    block_index = models.PositiveIntegerField(help_text="Which event of its block, from 0.")
    transaction_hash = models.CharField(max_length=66)
    log_index = models.PositiveIntegerField(
        help_text="Which event of its transaction, from 0; the same in every block the transaction is in."
    )
    state = models.CharField(max_length=10, choices=EventState.choices, default=EventState.SEEN)
    seen_at = models.DateTimeField()
    booked_at = models.DateTimeField(null=True, help_text="When it was deep enough and what it means was written down.")
    unbooked = models.PositiveSmallIntegerField(
        default=0, help_text="How often that was undone, because even a final block vanished."
    )
    error = models.CharField(max_length=300, blank=True, help_text="Why it cannot be booked yet.")

    class Meta:
        ordering = ("-block_number", "-id")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["transaction_hash", "log_index"],
                condition=Q(state__in=[EventState.SEEN, EventState.FINAL]),
                name="billing_chain_event_once",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[EventState.FINAL, EventState.DOUBTED], booked_at__isnull=False)
                | Q(state__in=[EventState.SEEN, EventState.VANISHED], booked_at=None),
                name="billing_chain_event_booked_when_final",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["contract", "name"], name="billing_chain_event_kind"),
            models.Index(fields=["state", "block_number"], name="billing_chain_event_state"),
        ]

    def __str__(self) -> str:
        return f"{self.contract}.{self.name} in block {self.block_number}"

    @property
    def key(self) -> str:
        """What names this booking in the ledger: another one after it was undone."""
        again = f":{self.unbooked}" if self.unbooked else ""
        return f"{self.transaction_hash}:{self.log_index}{again}"
