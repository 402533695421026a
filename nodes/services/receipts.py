"""Take a device's signed word that nothing of a lease is left, and finish the lease with it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from interchain_site.core import audit
from nodes.agent import protocol
from nodes.errors import Conflict, Malformed, NotFound
from nodes.models import Device, WipeReceipt
from nodes.services import leases, volume_keys
from nodes.services.signatures import payload_of
from nodes.states import LeaseState


def take(*, device: Device, jws: str) -> None:
    """Store the receipt once and move the lease to wiped; the same receipt again changes nothing.

    Raises:
        BadSignature: not signed by this device.
        Malformed: not the agreed form.
        NotFound: not a lease of this device.
        Conflict: nobody asked for the lease to be wiped.
    """
    receipt, wiped_at = _parse(device, payload_of(device, jws))
    with transaction.atomic():
        lease = leases.get(UUID(receipt.lease_id))
        if lease.device_id != device.pk or str(lease.workload_id) != receipt.workload_id:
            raise NotFound("This device has no such lease.")
        if lease.state == LeaseState.WIPED:
            return
        if lease.action != protocol.Action.WIPE.value or lease.generation != receipt.generation:
            raise Conflict("Nobody asked for this lease to be wiped.")
        now = timezone.now()
        WipeReceipt.objects.create(
            lease=lease, jws=jws, wiped_at=wiped_at, volume_bytes=receipt.volume_bytes, received_at=now
        )
        audit.record("lease_wiped", subject=f"lease:{lease.pk}", actor=f"device:{device.pk}")
        leases.move(lease, LeaseState.WIPED, wiped_at=now)
        volume_keys.forget(device_id=device.pk, workload_id=lease.workload_id)
        leases.tell_if_wiped(lease, receipt=jws)


def _parse(device: Device, payload: bytes) -> tuple[protocol.WipeReceipt, datetime]:
    try:
        receipt = protocol.from_json(protocol.WipeReceipt, payload)
        UUID(receipt.lease_id)
        wiped_at = parse_datetime(receipt.wiped_at)
    except (protocol.ProtocolError, ValueError) as error:
        raise Malformed(str(error)) from None
    if wiped_at is None or wiped_at.tzinfo is None:
        raise Malformed("WipeReceipt.wiped_at: not a time with its zone (ISO 8601).")
    if receipt.device_id != str(device.pk):
        raise Malformed("WipeReceipt.device_id: not the device that signed.")
    if not 0 <= receipt.volume_bytes < 2**63:
        raise Malformed("WipeReceipt.volume_bytes: out of range.")
    return receipt, wiped_at
