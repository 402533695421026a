"""Where an owner's NTC go."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q


class WalletProof(models.TextChoices):
    SIGNATURE = "signature", "Signed with its key"
    CONFIRMED = "confirmed", "Entered and confirmed"


class Wallet(models.Model):
    """An Ethereum address a person is paid at. One is active; earlier ones keep what was settled to them."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="wallets")
    address = models.CharField(max_length=42, unique=True, help_text="In EIP-55 form. One address, one person.")
    proof = models.CharField(max_length=10, choices=WalletProof.choices)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    linked_at = models.DateTimeField(help_text="When it last became the active one.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user"], condition=Q(active=True), name="billing_wallet_one_active")
        ]

    def __str__(self) -> str:
        return self.address


class ChainAccount(models.Model):
    """What a deposit on the chain calls a person here, or the desk: 32 random bytes that say nothing about them."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="chain_account"
    )
    name = models.CharField(max_length=20, blank=True, help_text="The platform's own, e.g. desk; empty for a person's.")
    reference = models.CharField(max_length=66, unique=True, help_text="0x and 64 hexadecimal digits.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["name"], condition=~Q(name=""), name="billing_chain_account_name"),
            models.CheckConstraint(
                condition=Q(user__isnull=False, name="") | (Q(user=None) & ~Q(name="")),
                name="billing_chain_account_whose",
            ),
        ]

    def __str__(self) -> str:
        return self.name or str(self.user)
