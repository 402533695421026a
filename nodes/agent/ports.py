"""Which port of the device an app is published on."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator

from nodes.agent.config import Config

TRIES = 20


def free(config: Config, name: str) -> Iterator[int]:
    """Yield free ports of the device's range to try, for the same name the same first one each time."""
    size = config.port_last - config.port_first + 1
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    tried = 0
    for step in range(size):
        port = config.port_first + (start + step) % size
        if _is_free(config.publish_address, port):
            yield port
            tried += 1
        if tried == TRIES:
            return


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
