"""The WebSocket client, without what it imports for things the agent never asks of it (ADR 0313)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# For development versions of websockets, and for proxies: with what these import in turn, 1.3 MB of an idle agent.
UNUSED = ("importlib.metadata", "urllib.request")


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Within this, who imports one of these modules gets an empty one; afterwards the real one, as ever."""
    empty = {name: ModuleType(name) for name in names if name not in sys.modules}
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in empty:
            del sys.modules[name]


try:
    with without(*UNUSED):
        from websockets.sync.client import ClientConnection, connect
except ImportError:  # a version that does need them
    from websockets.sync.client import ClientConnection, connect

__all__ = ["ClientConnection", "connect"]
