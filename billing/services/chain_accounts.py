"""What a person is called on the chain: a random reference, so that a deposit finds its owner and tells others nothing."""

from __future__ import annotations

import secrets

from django.db import IntegrityError, transaction

from billing.models import ChainAccount
from interchain_site.core.models import User

DESK = "desk"
REFERENCE_BYTES = 32


def reference_of(*, user: User) -> str:
    """Return the person's reference, `0x` and 64 hexadecimal digits; made at first use, never changed."""
    return _reference(user=user)


def desk_reference() -> str:
    """Return the reference under which the desk's own NTC are deposited."""
    return _reference(name=DESK)


def owner_of(reference: str) -> ChainAccount | None:
    """Return whose reference it is, or None: anybody can deposit under any 32 bytes."""
    return ChainAccount.objects.select_related("user").filter(reference=reference.lower()).first()


def _reference(*, user: User | None = None, name: str = "") -> str:
    known = ChainAccount.objects.filter(user=user, name=name).values_list("reference", flat=True)
    found = known.first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            fresh = "0x" + secrets.token_hex(REFERENCE_BYTES)
            return ChainAccount.objects.create(user=user, name=name, reference=fresh).reference
    except IntegrityError:
        return known.get()  # another process made it in the same moment
