"""Versions of the agent and the keys that sign them."""

from __future__ import annotations

from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q


class ReleaseKey(models.Model):
    """A public key that signs versions of the agent. The newest is in force; each but the first was named by the one before."""

    public_key = models.CharField(max_length=43, unique=True, help_text="Ed25519 JWK x, base64url.")
    statement = models.TextField(blank=True, help_text="JWS over protocol.ReleaseKeyChange by the key before.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.public_key[:8]}…"


class AgentRelease(models.Model):
    """One version of the agent as it was signed. Its wheel lies in DATA_DIR/agent-releases under its SHA-256."""

    version = models.CharField(max_length=40, unique=True)
    sha256 = models.CharField(max_length=64, unique=True, help_text="Of the wheel.")
    size = models.PositiveIntegerField(help_text="Bytes of the wheel.")
    manifest = models.TextField(help_text="JWS over protocol.Manifest.")
    key = models.ForeignKey(ReleaseKey, on_delete=models.PROTECT, related_name="releases")
    percent = models.PositiveSmallIntegerField(
        default=0,
        validators=[MaxValueValidator(100)],
        help_text="How many of a hundred devices should run it. 0 stops it; devices that have it keep it.",
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)
        constraints = (models.CheckConstraint(condition=Q(percent__lte=100), name="agent_release_percent"),)

    def __str__(self) -> str:
        return self.version
