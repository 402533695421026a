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
    linked_at = models.DateTimeField(help_text="When it last became the active one, or was last entered.")
    trusted_from = models.DateTimeField(help_text="Before this moment no withdrawal leaves to it.")
    active_from = models.DateTimeField(
        null=True, help_text="It waits to replace the active one; empty: it does not wait."
    )
    told_at = models.DateTimeField(null=True, help_text="When the person got the e-mail about it; empty: not yet.")
    stopped_at = models.DateTimeField(null=True, help_text="The person said it is not theirs; nothing leaves to it.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user"], condition=Q(active=True), name="billing_wallet_one_active"),
            models.UniqueConstraint(
                fields=["user"], condition=Q(active_from__isnull=False), name="billing_wallet_one_waiting"
            ),
            models.CheckConstraint(
                condition=Q(active=False) | Q(active_from=None, stopped_at=None), name="billing_wallet_active_stands"
            ),
            models.CheckConstraint(
                condition=Q(active_from=None) | Q(stopped_at=None), name="billing_wallet_waiting_stands"
            ),
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


class WalletChallenge(models.Model):
    """A nonce for one sign-in message (EIP-4361), for one person, used once."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    nonce = models.CharField(max_length=40, unique=True)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.nonce


class AutoClaim(models.Model):
    """From what amount on a person's settled NTC are sent to their wallet without being asked each time."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="auto_claim")
    threshold_units = models.BigIntegerField(help_text="Base units of NTC that a wallet must be able to claim.")
    set_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(threshold_units__gt=0), name="billing_auto_claim_above_zero")
        ]

    def __str__(self) -> str:
        return f"{self.user} from {self.threshold_units}"
