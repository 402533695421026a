"""The key that signs the directory: made at the first use, changed by a statement the key before signs."""

from __future__ import annotations

import time

from django.db import transaction
from django.utils import timezone
from nacl.signing import SigningKey

from interchain_site.core import audit, secrets
from interchain_site.core.models import User
from nodes.agent import jws, records
from nodes.agent.keys import DeviceKey
from nodes.models import DirectoryKey
from nodes.services import directory_sequence

OVERLAP_SECONDS = 3600  # in which records of the key before are still taken; signing anew takes minutes
_signers: dict[int, DeviceKey] = {}


def in_force() -> DirectoryKey:
    """Return the key that signs now, made if there is none yet."""
    key = DirectoryKey.objects.order_by("-id").first()
    if key is not None:
        return key
    with transaction.atomic():
        directory_sequence.lock()
        return DirectoryKey.objects.order_by("-id").first() or _make(statement="")


def signer(key: DirectoryKey) -> DeviceKey:
    """Return what signs with this key."""
    if key.pk not in _signers or _signers[key.pk].public_x != key.public_key:
        _signers[key.pk] = DeviceKey(SigningKey(jws.decode(secrets.decrypt(key.private_key_encrypted))))
    return _signers[key.pk]


def change(*, by: User | None, overlap_seconds: int = OVERLAP_SECONDS) -> DirectoryKey:
    """Make the next key and let the one in force name it. Records are signed anew by `directory.sweep`.

    Args:
        overlap_seconds: how long records of the old key still count; 0 when it was stolen.
    """
    in_force()
    with transaction.atomic():
        directory_sequence.lock()
        old = DirectoryKey.objects.order_by("-id")[0]
        private = SigningKey.generate()
        said = records.KeyChange(old.public_key, DeviceKey(private).public_x, int(time.time()) + overlap_seconds)
        new = _make(statement=records.sign(said, signer(old)), private=private)
        DirectoryKey.objects.filter(pk=old.pk).update(private_key_encrypted="")
        audit.record("directory_key_changed", subject=f"directory_key:{new.pk}", by=by, key=new.public_key)
        return new


def chain() -> tuple[str, tuple[str, ...]]:
    """Return the first key, and the statements that lead from it to the one in force."""
    in_force()
    keys = list(DirectoryKey.objects.order_by("id").values_list("public_key", "statement"))
    return keys[0][0], tuple(statement for _, statement in keys if statement)


def _make(*, statement: str, private: SigningKey | None = None) -> DirectoryKey:
    private = private or SigningKey.generate()
    return DirectoryKey.objects.create(
        public_key=DeviceKey(private).public_x,
        private_key_encrypted=secrets.encrypt(jws.encode(bytes(private))),
        statement=statement,
        created_at=timezone.now(),
    )
