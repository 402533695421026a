"""A device's key is replaced by one the old key names; for a while both are good, so that nothing under way is refused."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent import protocol
from nodes.errors import BadSignature, Conflict, Malformed
from nodes.models import Device, DeviceKey
from nodes.policies import check_can_manage
from nodes.services.signatures import verified_payload
from nodes.services.wake import wake

OVERLAP = timedelta(days=7)
"""How long the old key is good beside the new: readings signed before may have waited on the device so long."""


def is_key(text: str) -> bool:
    """Return whether this is an Ed25519 public key in the one form we take (JWK `x`, base64url, 32 bytes)."""
    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": text})
        return bool(key.as_dict(private=False)["x"] == text and len(text) == 43)
    except (ValueError, JoseError):
        return False


def note_first(device: Device, *, now: datetime) -> None:
    """Keep the key a device enrolled with. Raises IntegrityError when another device ever had it."""
    DeviceKey.objects.create(device=device, public_key=device.public_key, began_at=now)


def want_new(*, device: Device, by: User) -> None:
    """Ask the device for a fresh key; it makes one as soon as it hears.

    Raises:
        NotFound: it is not this person's device.
    """
    check_can_manage(by, device)
    with transaction.atomic():
        Device.objects.filter(pk=device.pk).update(new_key_wanted=True)
        audit.record("device_key_wanted", subject=f"device:{device.pk}", by=by)
        wake(device.pk)


def change(*, device: Device, jws: str) -> None:
    """Take a device's new key. The same statement again changes nothing.

    1. The key in force signed the statement. 2. The new key signed the same, so somebody has it. 3. No device ever had it.

    Raises:
        BadSignature: either signature is not what it should be; a key that was replaced cannot name another.
        Malformed: not the agreed form.
        Conflict: the new key was somebody's before.
    """
    with transaction.atomic():
        locked = Device.objects.select_for_update().get(pk=device.pk)
        now = timezone.now()
        if DeviceKey.objects.filter(device=locked, public_key=locked.public_key, statement=jws).exists():
            return
        new_key = _proven(locked, verified_payload(jws, locked.public_key))
        until = now + OVERLAP
        locked.keys.filter(public_key=locked.public_key).update(ended_at=until)
        try:
            with transaction.atomic():
                DeviceKey.objects.create(device=locked, public_key=new_key, statement=jws, began_at=now)
        except IntegrityError:
            raise Conflict("This key was used before. Make a new one.") from None
        Device.objects.filter(pk=locked.pk).update(
            public_key=new_key, previous_key=locked.public_key, previous_key_until=until, new_key_wanted=False
        )
        subject = f"device:{locked.pk}"
        audit.record("device_key_changed", subject=subject, actor=subject, old=locked.public_key, new=new_key)


def _proven(device: Device, payload: bytes) -> str:
    try:
        statement = protocol.from_json(protocol.KeyChange, payload)
    except protocol.ProtocolError as error:
        raise Malformed(str(error)) from None
    if statement.device_id != str(device.pk) or not is_key(statement.new_key):
        raise Malformed("KeyChange: not this device's id, or not an Ed25519 public key.")
    proven = verified_payload(statement.proof, statement.new_key)
    if proven != protocol.to_json(dataclasses.replace(statement, proof="")):
        raise BadSignature("The new key's proof says something else.")
    return statement.new_key
