"""Keys of apps' data on devices' disks."""

from __future__ import annotations

from django.db import models

from interchain_site.core import secrets
from nodes.models.device import Device


class VolumeKey(models.Model):
    """What opens one workload's volume on one device. Without it nobody reads that disk again, so it goes with the wipe."""

    workload_id = models.UUIDField()
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="volume_keys")
    key_encrypted = models.TextField(help_text="64 bytes, base64url (core.secrets).")
    created_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["workload_id", "device"], name="volume_key_once"),)

    def __str__(self) -> str:
        return f"{self.workload_id} on {self.device_id}"

    @property
    def key(self) -> str:
        return secrets.decrypt(self.key_encrypted)
