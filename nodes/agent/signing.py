"""Signs versions of the agent, away from the portal: makes a release key, a manifest for a wheel, a change to the next key."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from pathlib import Path

from nodes.agent import keys
from nodes.agent.keys import DeviceKey
from nodes.agent.protocol import Manifest, ReleaseKeyChange, to_json


def key(path: Path) -> DeviceKey:
    """Return the release key in the file, made if there is none (mode 0600)."""
    return keys.create(path)


def manifest(wheel: bytes, version: str, signer: DeviceKey) -> str:
    """Return the signed word that this wheel is this version."""
    said = Manifest(version, hashlib.sha256(wheel).hexdigest(), len(wheel), _now())
    return signer.sign(to_json(said))


def key_change(old: DeviceKey, new: DeviceKey) -> str:
    """Return the old key's word that the new one speaks for it from now on."""
    return old.sign(to_json(ReleaseKeyChange(old.public_x, new.public_x, _now())))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
