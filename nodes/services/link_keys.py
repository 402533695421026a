"""How the portal proves to a device that it is the portal: a key the device knows from its enrolment, changed by the key before."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from interchain_site.core import audit, secrets
from interchain_site.core.models import User
from nodes.agent import keys
from nodes.agent.keys import DeviceKey
from nodes.agent.protocol import LinkKeyChange, LinkProof, PortalProof, to_json
from nodes.errors import Conflict
from nodes.models import LinkKey

MOST_STATEMENTS = 20  # what one message to a device holds; a device further behind enrols anew
_signers: dict[str, DeviceKey] = {}


def in_force() -> LinkKey:
    """Return the key that proves now, made if there is none yet."""
    key = LinkKey.objects.order_by("-id").first()
    if key is not None:
        return key
    try:
        with transaction.atomic():
            return _make(keys.fresh())
    except IntegrityError:  # another process made it meanwhile
        return LinkKey.objects.order_by("-id")[0]


def change(*, by: User | None) -> LinkKey:
    """Make the next key and let the one in force name it; devices follow at their next link.

    Raises:
        Conflict: somebody else changed it at the same moment.
    """
    old = in_force()
    new = keys.fresh()
    said = LinkKeyChange(old.public_key, new.public_x, timezone.now().isoformat())
    try:
        with transaction.atomic():
            made = _make(new, follows=old.public_key, statement=_signer(old).sign(to_json(said)))
            LinkKey.objects.filter(pk=old.pk).update(private_key_encrypted="")
            audit.record("link_key_changed", subject=f"link_key:{made.pk}", by=by, key=made.public_key)
            return made
    except IntegrityError:
        raise Conflict("The link key was changed meanwhile. Look at it again before you change it once more.") from None


def proof(*, device_id: UUID, nonce: str, known: str) -> LinkProof:
    """Return what convinces a device that this is its portal.

    Args:
        nonce: what the device chose for this link, so that no older proof will do.
        known: the key the device has; what leads from it to the one in force is sent along.
    """
    key = in_force()
    said = PortalProof(str(device_id), settings.PORTAL_URL, nonce)
    return LinkProof(_signer(key).sign(to_json(said)), key.public_key, _statements_after(known, key))


def _statements_after(known: str, key: LinkKey) -> tuple[str, ...]:
    if known in ("", key.public_key):
        return ()
    start = LinkKey.objects.filter(public_key=known).values_list("pk", flat=True).first()
    if start is None:
        return ()
    later = LinkKey.objects.filter(pk__gt=start, pk__lte=key.pk).order_by("id")
    return tuple(later.values_list("statement", flat=True)[:MOST_STATEMENTS])


def _signer(key: LinkKey) -> DeviceKey:
    if key.public_key not in _signers:
        _signers[key.public_key] = keys.from_pem(secrets.decrypt(key.private_key_encrypted))
    return _signers[key.public_key]


def _make(key: DeviceKey, *, follows: str = "", statement: str = "") -> LinkKey:
    return LinkKey.objects.create(
        public_key=key.public_x,
        private_key_encrypted=secrets.encrypt(key.to_pem()),
        follows=follows,
        statement=statement,
        created_at=timezone.now(),
    )
