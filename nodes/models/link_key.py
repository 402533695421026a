"""The key by which the portal proves over the link that it is the portal."""

from __future__ import annotations

from django.db import models


class LinkKey(models.Model):
    """One key of the chain. The newest is in force; each but the first was named by the one it follows.

    The private half is encrypted with FIELD_ENCRYPTION_KEYS, because every web process answers devices with it; that of a key
    no longer in force is gone.
    """

    public_key = models.CharField(max_length=43, unique=True, help_text="Ed25519 JWK x, base64url.")
    private_key_encrypted = models.TextField(blank=True, help_text="PEM (core.secrets); empty: no longer in force.")
    follows = models.CharField(max_length=43, unique=True, blank=True, help_text="The key before; empty: the first.")
    statement = models.TextField(blank=True, help_text="JWS over protocol.LinkKeyChange by the key before.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.public_key[:8]}…"
