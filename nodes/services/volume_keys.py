"""The keys of encrypted volumes: made with a workload's first lease on a device, given with each, gone with the data.

They are here and in the memory of the device that runs the app, nowhere else; each is encrypted with FIELD_ENCRYPTION_KEYS.
"""

from __future__ import annotations

import base64
import secrets as random
from uuid import UUID

from django.utils import timezone

from interchain_site.core import secrets
from nodes.models import Device, Lease, VolumeKey
from nodes.states import LeaseState

KEY_BYTES = 64  # nodes/agent/fscrypt.py


def ensure(*, device: Device, workload_id: UUID) -> None:
    """Have a key for a workload's data on this device, if it can use one."""
    if device.encrypts_volumes:
        key = base64.urlsafe_b64encode(random.token_bytes(KEY_BYTES)).decode()
        VolumeKey.objects.get_or_create(
            workload_id=workload_id,
            device=device,
            defaults={"key_encrypted": secrets.encrypt(key), "created_at": timezone.now()},
        )


def of_device(device: Device) -> dict[str, str]:
    """Return the keys of a device's volumes by workload id. One query."""
    return {str(row.workload_id): row.key for row in VolumeKey.objects.filter(device=device)}


def forget(*, device_id: UUID, workload_id: UUID) -> None:
    """Let nobody open the workload's data on this device again, unless another lease keeps it there."""
    kept = Lease.objects.filter(device=device_id, workload_id=workload_id, has_volume=True)
    if not kept.exclude(state=LeaseState.WIPED).exists():
        VolumeKey.objects.filter(device=device_id, workload_id=workload_id).delete()
