"""The directory: where each name is served, as it was signed, and the keys that sign it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class DirectoryKey(models.Model):
    """A key that signs the directory. The newest is in force; each but the first was named by the one before.

    The private half is encrypted with FIELD_ENCRYPTION_KEYS, because every process that moves a lease signs; that of a key no
    longer in force is gone.
    """

    public_key = models.CharField(max_length=43, unique=True, help_text="Ed25519 JWK x, base64url.")
    private_key_encrypted = models.TextField(
        blank=True, help_text="32 bytes, base64url (core.secrets); empty: no longer in force."
    )
    statement = models.TextField(blank=True, help_text="JWS over records.KeyChange by the key before.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.public_key[:8]}…"


class DirectoryCounter(models.Model):
    """The one row whose lock orders all changes of the directory."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.BigIntegerField(default=0)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="directory_counter_is_one_row"),)

    def __str__(self) -> str:
        return str(self.value)


class DirectoryRecord(models.Model):
    """The newest record of a name. `sequence` is its place among all changes: what came after N is what an agent lacks."""

    name = models.CharField(max_length=63, primary_key=True)
    workload_id = models.UUIDField(db_index=True)
    generation = models.PositiveIntegerField()
    sequence = models.BigIntegerField(unique=True)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    served = models.BooleanField(
        default=True, help_text="It names endpoints. What names none is not renewed, and goes when it is over."
    )
    content = models.CharField(max_length=64, help_text="SHA-256 of what it says beside its times and sequence.")
    jws = models.TextField(help_text="As signed.")
    key = models.ForeignKey(DirectoryKey, on_delete=models.PROTECT, related_name="records")

    class Meta:
        ordering = ("sequence",)
        constraints = (models.CheckConstraint(condition=Q(generation__gte=1), name="directory_generation_from_one"),)

    def __str__(self) -> str:
        return f"{self.name} generation {self.generation}"
