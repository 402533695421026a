"""Volumes that a stolen disk does not give away: encrypted by the file system itself, with a key that is only in memory.

The file system in the volume's file (volumes.py) has one folder, `data`, encrypted by fscrypt. The portal gives the key with the lease; it is
never written anywhere. Docker has two volumes:

    <volume>        the file system, by which Docker knows whose the file is; no container has it
    <volume>-open   its folder `data`, bound; what the app has

The folder is bound through the link `<volume>.mnt` beside the file. It leads to where an opener (openers.py) has the file system mounted, while an app
starts and no longer; otherwise binding fails, so no app begins on an empty folder.

The kernel forgets the key with the last mount: what an app has keeps it. After a restart the agent has no key until the portal has answered once.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodes.agent import fscrypt, sandbox
from nodes.agent.engine import Engine, EngineError
from nodes.agent.errors import LeaseError
from nodes.agent.protocol import Reason, Workload

FOLDER = "data"
LABEL = f"{sandbox.LABEL}encrypted"
NO_KEY = (
    "The app's data here is encrypted, and its key comes from the portal, which has not answered since this agent started. "
    "It starts once the portal answers."
)


class BoundElsewhere(LeaseError):
    """A container is to have the data from where it is not mounted any more; one made anew has it."""


class Keys:
    """The keys of this device's volumes, by workload, in memory only. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock, self._keys = threading.Lock(), dict[str, bytes]()

    def know(self, keys: Mapping[str, str]) -> None:
        """Take the keys that the portal names now; what is not named is forgotten."""
        read: dict[str, bytes] = {}
        for workload_id, text in keys.items():
            try:
                key = base64.urlsafe_b64decode(text)
            except ValueError:
                continue
            if len(key) == fscrypt.KEY_BYTES:
                read[workload_id] = key
        with self._lock:
            self._keys = read

    def of(self, workload_id: str) -> "bytes | None":
        with self._lock:
            return self._keys.get(workload_id)


def is_encrypted(volume: "dict[str, Any]") -> bool:
    """Whether a volume Docker told of was made with a key."""
    return LABEL in (volume.get("Labels") or {})


def opened_name(name: str) -> str:
    return f"{name}-open"


def check_wish(workload: Workload, volume: "dict[str, Any] | None", *, can: bool) -> None:
    """Refuse a workload that wants its data encrypted where it is not, or cannot be.

    Raises:
        LeaseError: for good.
    """
    if not workload.encrypted or (volume is not None and is_encrypted(volume)) or (volume is None and can):
        return
    words = "This release wants its data encrypted, and this device cannot do that."
    if volume is not None:
        words = "This release wants its data encrypted, and what it has on this device was made without."
    raise LeaseError(Reason.DEVICE_ERROR, words, permanent=True)


def unlock(mounted: str, key: "bytes | None", owner: "tuple[int, int]") -> str:
    """Open the folder of a mounted file system, made first if this is its first time; returns where it is.

    Raises:
        LeaseError: there is no key, or another one.
    """
    if key is None:
        raise LeaseError(Reason.DEVICE_ERROR, NO_KEY)
    folder = Path(mounted) / FOLDER
    try:
        identifier = fscrypt.add_key(mounted, key)
        if not folder.exists():
            _make(folder, identifier, owner)
        fscrypt.protect(str(folder), identifier)
    except fscrypt.WrongKey:
        raise LeaseError(Reason.DEVICE_ERROR, "The app's data here was encrypted with another key.") from None
    except OSError as error:
        raise LeaseError(Reason.DEVICE_ERROR, f"The app's encrypted data cannot be opened: {error}") from error
    return str(folder)


def _make(folder: Path, identifier: bytes, owner: "tuple[int, int]") -> None:
    """Whole or not at all: a folder without its policy must never be taken for an encrypted one."""
    beside = folder.with_name(f".{FOLDER}.new")
    beside.mkdir(exist_ok=True)
    fscrypt.protect(str(beside), identifier)
    os.chown(beside, *owner)
    beside.rename(folder)


def opened_volume(name: str, folder: str, labels: "dict[str, str]", engine: Engine) -> str:
    """Have Docker know the folder as a volume of its own; returns its name.

    Raises:
        BoundElsewhere: a container has one that binds another folder.
    """
    opened = opened_name(name)
    known = engine.call("GET", f"/volumes/{opened}", ignore=(404,))
    if known is not None and (known.get("Options") or {}).get("device") != folder:
        try:
            engine.call("DELETE", f"/volumes/{opened}", ignore=(404,))
        except EngineError as error:
            raise BoundElsewhere(
                Reason.DEVICE_ERROR, f"An older container of this app is still there: {error}"
            ) from error
        known = None
    if known is None:
        options = {"type": "none", "device": folder, "o": "bind,nodev,nosuid"}
        body = {"Name": opened, "Driver": "local", "DriverOpts": options, "Labels": labels}
        engine.call("POST", "/volumes/create", body)
    return opened
