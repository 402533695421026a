"""The one WebSocket to the portal: it says "look again", and shows that this device is alive. Nothing else goes over it.

Both sides prove themselves: the first message is our JWT with a nonce in it, the first answer the portal's signature over that nonce
(link_trust.py). Nothing it says before counts.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from nodes.agent import connecting, tls
from nodes.agent.link_pauses import LinkPauses
from nodes.agent.link_trust import LinkTrust, NotThePortal
from nodes.agent.protocol import Goodbye
from nodes.agent.websocket import ClientConnection, connect

log = logging.getLogger(__name__)
PING_SECONDS = 15.0
OPEN_SECONDS = 10.0
PROOF_SECONDS = 10.0
MESSAGE_BYTES = 16_384  # a proof with twenty changes of the key
CLOSE_GOING_AWAY = 1001  # RFC 6455 §7.4.1
CLOSE_REPLACED = 4409


def opened(url: str) -> ClientConnection:
    """Return an open WebSocket at this address.

    Raises:
        OSError, websockets.exceptions.WebSocketException
    """
    parts = urllib.parse.urlsplit(url)
    secure, host = parts.scheme == "wss", parts.hostname or ""
    connection = connecting.connect(host, parts.port or (443 if secure else 80), seconds=OPEN_SECONDS)
    connection.settimeout(None)  # from here on the library keeps the time
    return connect(
        url,
        sock=connection,
        ssl=tls.context() if secure else None,
        server_hostname=connecting.name_of(host) if secure else None,  # type: ignore[arg-type]  # handed to ssl, which takes both
        open_timeout=OPEN_SECONDS,
        ping_interval=PING_SECONDS,
        ping_timeout=PING_SECONDS,
        close_timeout=1,
        max_size=MESSAGE_BYTES,
        compression=None,
        proxy=None,
    )


class Link(threading.Thread):
    """Keeps the link up. Calls `look()` for each wake-up, and after each reconnection, because one may have been missed."""

    def __init__(self, url: str, *, token: "Callable[..., str]", trust: LinkTrust, look: "Callable[[], None]") -> None:
        """Args: token: makes a JWT with the claims given."""
        super().__init__(name="link", daemon=True)
        self._url, self._token, self._trust, self._look = url, token, trust, look
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._hurried = threading.Event()
        self._socket: "ClientConnection | None" = None
        self._pauses = LinkPauses()

    def run(self) -> None:
        while not self._stopping.is_set():
            self._awake.wait()
            began = time.monotonic()
            try:
                self._hold()
            except NotThePortal as error:
                log.error("%s", error)
            except Exception as error:  # whatever the network does, the link comes back
                log.info("The link to the portal is down (%s); trying again.", error or type(error).__name__)
            asked, more = self._pause(time.monotonic() - began)
            self._stopping.wait(asked)
            self._hurried.clear()
            self._hurried.wait(more)

    def _hold(self) -> None:
        self._socket = None
        with opened(self._url) as socket:
            self._socket = socket
            if self._stopping.is_set() or not self._awake.is_set():
                return
            nonce = secrets.token_urlsafe(24)
            socket.send(self._token(**self._trust.claims(nonce)))
            if self._trust.demands_proof:
                self._first(socket, nonce)
            self._look()
            for text in socket:
                self._take(socket, json.loads(text), nonce)

    def _first(self, socket: "ClientConnection", nonce: str) -> None:
        """Wait for the proof, and heed nothing else.

        Raises:
            NotThePortal: something else came, or nothing.
        """
        try:
            message = json.loads(socket.recv(PROOF_SECONDS))
        except (TimeoutError, ValueError):
            raise NotThePortal("The portal does not prove over the link that it is the portal.") from None
        self._trust.check(message if isinstance(message, dict) else {}, nonce)

    def _take(self, socket: "ClientConnection", message: "dict[str, Any]", nonce: str) -> None:
        kind = message.get("type")
        if kind == "look":
            self._look()
        elif kind == "ping":
            socket.send(json.dumps({"type": "pong", "id": message.get("id")}))
        elif kind == "proof":  # the first one this device sees; those after are checked in `_first`
            self._trust.check(message, nonce)
        elif kind == "twin":
            log.error(
                "Another agent has this device's key and was linked before. Was this folder copied? Keep one of the two."
            )

    def hurry(self) -> None:
        """The portal was reached just now: try again at once, unless it asked for a pause."""
        self._hurried.set()

    def _pause(self, held_seconds: float) -> "tuple[float, float]":
        """Return how long the portal wants this device to stay away, and how long it stays away beyond that."""
        code = self._socket.close_code if self._socket is not None else None
        reason = (self._socket.close_reason or "") if self._socket is not None else ""
        asked, more = self._pauses.next(held_seconds=held_seconds, code=code, reason=reason)
        if code == CLOSE_REPLACED:
            log.error(
                "Another agent with this device's key took the link. Was this folder copied? Keep one of the two. "
                "This one links again in %.0f s; apps go on.",
                asked,
            )
        return asked, more

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
        self._hurried.set()
        self._close(reason)

    def _close(self, reason: Goodbye) -> None:
        if self._socket is not None:
            self._socket.close(CLOSE_GOING_AWAY, reason.value)
