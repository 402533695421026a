"""Versions of the agent: signed elsewhere, checked here, handed to as many devices as staff say."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.agent import jws, update
from nodes.agent.protocol import Manifest, ProtocolError, ReleaseKeyChange, ReleaseOffer, from_json
from nodes.errors import BadSignature, Conflict, Invalid, NotFound
from nodes.models import AgentRelease, Device, ReleaseKey
from nodes.services.device_keys import is_key


def key_in_force() -> ReleaseKey | None:
    """Return the key whose signature on a version counts now; None before the first."""
    return ReleaseKey.objects.order_by("-id").first()


def trust_first_key(*, public_key: str) -> ReleaseKey:
    """Take the very first release key; devices learn it when they enrol.

    Raises:
        Invalid: it is no key. Conflict: there is one; it must name the next.
    """
    if not is_key(public_key):
        raise Invalid("Not an Ed25519 public key (JWK x, base64url, 32 bytes).")
    with transaction.atomic():
        if key_in_force() is not None:
            raise Conflict("There is a release key already. Let it sign the change to the next one.")
        key = ReleaseKey.objects.create(public_key=public_key, created_at=timezone.now())
        audit.record("release_key_trusted", subject=f"release_key:{key.pk}", key=public_key)
        return key


def change_key(*, statement: str) -> ReleaseKey:
    """Take the next release key, named by the one in force. The same statement again changes nothing.

    Raises:
        BadSignature: the key in force did not sign it. Invalid: it names no key. Conflict: that key was used before.
    """
    with transaction.atomic():
        known = ReleaseKey.objects.filter(statement=statement).first()
        if known is not None:
            return known
        current = key_in_force()
        try:
            if current is None:
                raise ValueError
            change = from_json(ReleaseKeyChange, jws.verified(statement, current.public_key))
        except (ProtocolError, ValueError):
            raise BadSignature("The release key in force did not sign this.") from None
        if change.kind != ReleaseKeyChange.kind or change.old_key != current.public_key or not is_key(change.new_key):
            raise Invalid("This statement names no new release key.")
        if ReleaseKey.objects.filter(public_key=change.new_key).exists():
            raise Conflict("This release key was used before. Make a new one.")
        key = ReleaseKey.objects.create(public_key=change.new_key, statement=statement, created_at=timezone.now())
        audit.record("release_key_changed", subject=f"release_key:{key.pk}", key=change.new_key)
        return key


def take(*, manifest: str, wheel: bytes, percent: int = 0) -> AgentRelease:
    """Take a signed version and its wheel; nobody runs it before its percentage says so.

    Raises:
        BadSignature: not signed by the key in force.
        Invalid: the wheel is not the one that was signed, or the version is no dotted number.
        Conflict: a version as new was taken before.
    """
    key = key_in_force()
    if key is None:
        raise BadSignature("There is no release key yet.")
    said = _manifest(manifest, key.public_key)
    if len(wheel) != said.size or hashlib.sha256(wheel).hexdigest() != said.sha256:
        raise Invalid("The wheel is not the file that was signed.")
    if not update.newer(said.version, "0") or not 0 <= percent <= 100:
        raise Invalid("A version is dotted numbers, and a percentage 0 to 100.")
    with transaction.atomic():
        if any(not update.newer(said.version, than.version) for than in AgentRelease.objects.all()):
            raise Conflict("A version as new as this was published before. Devices never go back by an update.")
        path = wheel_path(said.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wheel)
        release = AgentRelease.objects.create(
            version=said.version,
            sha256=said.sha256,
            size=said.size,
            manifest=manifest,
            key=key,
            percent=percent,
            created_at=timezone.now(),
        )
        subject = f"agent_release:{release.version}"
        audit.record("agent_release_taken", subject=subject, sha256=said.sha256, percent=percent)
        return release


def set_percent(*, release: AgentRelease, percent: int, by: User | None) -> None:
    """Say how many of a hundred devices should run a version.

    Raises:
        Invalid: not 0 to 100.
    """
    if not 0 <= percent <= 100:
        raise Invalid("Give a percentage from 0 to 100.")
    with transaction.atomic():
        AgentRelease.objects.filter(pk=release.pk).update(percent=percent)
        subject = f"agent_release:{release.version}"
        audit.record("agent_release_percent", subject=subject, by=by, was=release.percent, percent=percent)
    release.percent = percent


def wanted_by(device: Device) -> AgentRelease | None:
    """Return the version a device should change to: the newest it is among the chosen devices for. None: it stays."""
    if not device.can_update:
        return None
    for release in AgentRelease.objects.filter(percent__gt=0):
        if not update.newer(release.version, device.agent_version):
            return None
        failed = device.update_failure.startswith(f"{release.version} ")
        if not failed and is_chosen(device, release):
            return release
    return None


def is_chosen(device: Device, release: AgentRelease) -> bool:
    """A device's place among a hundred is its own for each version, so that it is not always the same that go first."""
    digest = hashlib.sha256(f"{device.pk}:{release.version}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < release.percent


def offer_for(device: Device) -> ReleaseOffer:
    """Return what a device needs to trust and fetch its version; empty when it should stay."""
    release = wanted_by(device)
    if release is None:
        return ReleaseOffer()
    keys = ReleaseKey.objects.filter(pk__lte=release.key_id).exclude(statement="").order_by("id")
    return ReleaseOffer(release.manifest, tuple(keys.values_list("statement", flat=True)))


def file_of(sha256: str) -> Path:
    """Return the wheel of a version.

    Raises:
        NotFound: there is none.
    """
    path = wheel_path(sha256)
    if not AgentRelease.objects.filter(sha256=sha256).exists() or not path.exists():
        raise NotFound("There is no such version.")
    return path


def newest_for_all() -> AgentRelease | None:
    """Return the version new devices install: the newest that every device should run."""
    return next((release for release in AgentRelease.objects.filter(percent=100)), None)


def wheel_path(sha256: str) -> Path:
    return Path(settings.DATA_DIR) / "agent-releases" / f"{sha256}.whl"


def _manifest(compact: str, key: str) -> Manifest:
    try:
        found = from_json(Manifest, jws.verified(compact, key))
    except (ProtocolError, ValueError):
        raise BadSignature("The release key in force did not sign this manifest.") from None
    if found.kind != Manifest.kind:
        raise BadSignature("This is no manifest of a version.")
    return found
