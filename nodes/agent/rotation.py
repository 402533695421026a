"""Replaces the device's key: when the owner asks for it, and by itself after three months.

Steps: 1. the new key is on disk beside the old; 2. the portal takes it, signed by the old; 3. it takes the old one's place on disk;
4. everything in this process signs with it. After a crash the next start begins again with the same new key: the portal takes
it twice. If the portal has it and no longer knows the old one, the new one is tried.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time

from nodes.agent import files, keys
from nodes.agent.config import Home
from nodes.agent.errors import PortalRefused
from nodes.agent.keys import DeviceKey
from nodes.agent.protocol import KeyChange, to_json
from nodes.agent.server_api import Portal

log = logging.getLogger(__name__)
KEY_SECONDS = 90 * 86_400
UNAUTHENTICATED = 401


class Rotation:
    """One device's key and the one that follows it."""

    def __init__(self, home: Home, key: DeviceKey, *, device_id: str, portal: Portal) -> None:
        self._home, self._key, self._device_id, self._portal = home, key, device_id, portal
        self._next = home.root / "device.key.next"

    def due(self) -> bool:
        """Whether the key is old, or a change of it was not finished."""
        return self._next.exists() or time.time() - self._home.key.stat().st_mtime > KEY_SECONDS

    def run(self) -> None:
        """Change the key; safe to call again after any error."""
        fresh = keys.create(self._next)
        if fresh.public_x != self._key.public_x:
            bare = KeyChange(self._device_id, fresh.public_x)
            statement = dataclasses.replace(bare, proof=fresh.sign(to_json(bare)))
            self._portal.change_key(self._key.sign(to_json(statement)))
        os.utime(self._next)
        os.replace(self._next, self._home.key)
        files.sync_folder(self._home.root)
        self._key.adopt(fresh)
        log.info("This device has a new key.")

    def refused(self, error: PortalRefused) -> None:
        """The portal does not know our key: when a change was under way it may know the other one."""
        if error.status == UNAUTHENTICATED and self._next.exists():
            fresh, old = keys.load(self._next), keys.load(self._home.key)
            self._key.adopt(old if self._key.public_x == fresh.public_x else fresh)


def ask(home: Home) -> None:
    """Let the agent replace the key at its next look."""
    os.utime(home.key, (0, 0))
