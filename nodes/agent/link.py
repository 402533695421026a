"""The one WebSocket to the portal: it says "look again", and shows that this device is alive. Nothing else goes over it."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable

from nodes.agent.protocol import Goodbye
from nodes.agent.server_api import tls_context

log = logging.getLogger(__name__)
PING_SECONDS = 15.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
HELD_SECONDS = 5.0  # a link up for so long was a good one
OPEN_SECONDS = 10.0
MESSAGE_BYTES = 4096
CLOSE_GOING_AWAY = 1001  # RFC 6455 §7.4.1


class Link(threading.Thread):
    """Keeps the link up. Calls `look()` for each wake-up, and after each reconnection, because one may have been missed."""

    def __init__(self, url: str, *, token: "Callable[[], str]", look: "Callable[[], None]") -> None:
        super().__init__(name="link", daemon=True)
        self._url, self._token, self._look = url, token, look
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._socket: "object | None" = None

    def run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            self._awake.wait()
            began = time.monotonic()
            try:
                self._hold()
            except Exception as error:  # whatever the network does, the link comes back
                log.info("The link to the portal is down (%s); trying again.", error or type(error).__name__)
            # A portal that lets us in and then sends us away must not be asked twice a second.
            held = time.monotonic() - began > HELD_SECONDS
            pause = FIRST_PAUSE_SECONDS if held else min(pause * 2, LONGEST_PAUSE_SECONDS)
            self._stopping.wait(pause * (0.5 + random.random()))  # noqa: S311 (thousands of devices must not return at once)

    def _hold(self) -> None:
        from websockets.sync.client import connect

        with connect(
            self._url,
            ssl=tls_context() if self._url.startswith("wss:") else None,
            open_timeout=OPEN_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            close_timeout=1,
            max_size=MESSAGE_BYTES,
            compression=None,
            proxy=None,
        ) as socket:
            self._socket = socket
            if self._stopping.is_set() or not self._awake.is_set():
                return
            socket.send(self._token())
            self._look()
            for text in socket:
                message = json.loads(text)
                if message.get("type") == "ping":
                    socket.send(json.dumps({"type": "pong", "id": message.get("id")}))
                elif message.get("type") == "look":
                    self._look()

    def rest(self, reason: Goodbye) -> None:
        """Say goodbye and stay away until `wake`."""
        self._awake.clear()
        self._close(reason)

    def wake(self) -> None:
        self._awake.set()

    def stop(self, reason: Goodbye) -> None:
        """Say goodbye: the portal sees why at once instead of missing pings."""
        self._stopping.set()
        self._awake.set()
        self._close(reason)

    def _close(self, reason: Goodbye) -> None:
        if self._socket is not None:
            self._socket.close(CLOSE_GOING_AWAY, reason.value)  # type: ignore[attr-defined]
