"""The directory on this device: fetched from the portal by the courier, gossiped with peers, served to clients.

Two threads: one answers (small_http.py), one gossips and watches whether this device is cut off (self_stop.py). Neither ever
waits for the portal, but for a few seconds before this device would stop its leases because its peers reach the portal.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.agent import self_stop
from nodes.agent.config import Config, Home
from nodes.agent.contact import Contact
from nodes.agent.directory_store import Store
from nodes.agent.gossip import Answers, Gossip
from nodes.agent.records import BadRecord, DirectoryDelta, Suspicion
from nodes.agent.small_http import SmallServer

if TYPE_CHECKING:
    from nodes.agent.protocol import Desired
    from nodes.agent.self_stop import Decision
    from nodes.agent.server_api import Portal

log = logging.getLogger(__name__)
GOSSIP_SECONDS, LEARNING_SECONDS, WORRIED_SECONDS = 10.0, 1.0, 2.0
SOON_SECONDS = 4.0  # before this device would stop its leases, it asks its peers more often
ALONE_SECONDS = 5.0  # who knows no peers asks the portal so often, at least
FROZEN_SECONDS = 1.0  # a pause that took so much longer than was asked for: this process, or its computer, stood still
EXPIRE_SECONDS = 60.0
PAGES = 10  # of a delta, between two reports
PORTS_TRIED = 20
MOST_SUSPICIONS = 16


class Directory(threading.Thread):
    """Keeps, serves and gossips the directory of one device."""

    def __init__(
        self,
        home: Home,
        settings: Config,
        contact: Contact,
        *,
        desired: "Callable[[], Desired]",
        hold: "Callable[[Decision], None]",
        news: "Callable[[], None]",
        returned: "Callable[[], None]" = lambda: None,
        portal_answers: "Callable[[], bool]" = lambda: False,
    ) -> None:
        """Args: desired: what the portal wants. hold: told which leases to stop. news: the portal should hear soon.
        returned: this device may no longer be cut off, so the portal should be asked now.
        portal_answers: asks it anything, over a new connection, and waits a few seconds."""
        super().__init__(name="directory", daemon=True)
        self.store = Store(home.directory, key=settings.directory_key)
        self.gossip = Gossip(self.store)
        self._contact, self._desired, self._hold, self._news = contact, desired, hold, news
        self._returned, self._portal_answers = returned, portal_answers
        self._reached_at: "float | None" = None  # when the portal last answered, asked because peers reach it
        self._suspicions: deque[Suspicion] = deque(maxlen=MOST_SUSPICIONS)
        self._answers = Answers(self.store, contact, device_id=settings.device_id, suspect=self._suspect)
        self._server = _server(settings, self._answers)
        self._stopping = threading.Event()
        self._fetch_due = self._expire_due = 0.0
        self._deaf_since = 0.0  # since when no peer answers either, while the portal does not; 0: not so

    @property
    def port(self) -> int:
        """Where clients and peers reach it; 0 while it is not served."""
        return self._server.port if self._server is not None else 0

    def run(self) -> None:
        if self._server is not None:
            self._server.start()
        overslept = False
        while not self._stopping.is_set():
            learnt = 0
            try:
                if not overslept:  # frozen, nobody could answer it: first those who can are heard
                    self.watch()  # a round takes seconds when nobody answers
                began = time.monotonic()
                learnt = self.gossip.round()
                self.watch()
                self._listen(began)
                self._expire()
            except Exception:
                log.exception("Unexpected; the directory goes on.")
            pause, lay_down = self._pause(learnt), time.monotonic()
            self._stopping.wait(pause)
            overslept = time.monotonic() - lay_down - pause > FROZEN_SECONDS
        if self._server is not None:
            self._server.stop()
        self.store.close()

    def stop(self) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(5)

    def _pause(self, learnt: int) -> float:
        """Return how long to wait for the next round; shorter when this device may soon have to stop its leases."""
        stops = self._desired().self_stop_seconds
        left = self._contact.answered_at + stops - time.monotonic() - SOON_SECONDS
        worried = self._contact.failing_since is not None or (stops > 0 and left <= 0)
        pause = LEARNING_SECONDS if learnt else WORRIED_SECONDS if worried else GOSSIP_SECONDS
        pause *= 0.5 + random.random()  # noqa: S311 (not all at once)
        return min(pause, left) if stops and left > 0 else pause

    def _listen(self, since: float) -> None:
        """Notice that a cut of this device's own ends: a peer answers after none did. Who knows no peers asks every few seconds.

        When the portal is gone for all, peers go on answering, so this brings no crowd to a portal that comes back.
        """
        now, peers = time.monotonic(), self.gossip.peers()
        if self._contact.failing_since is None:
            self._deaf_since = 0.0
        elif not any(peer.answered_at is not None and peer.answered_at >= since for peer in peers):
            self._deaf_since = self._deaf_since or now
            if not peers and now - self._deaf_since > ALONE_SECONDS:
                self._deaf_since = now
                self._returned()
        elif self._deaf_since:
            self._deaf_since = 0.0
            self._returned()

    def watch(self) -> None:
        """Let leases be stopped if this device is cut off."""
        decision = self._decide()
        if decision.by_peers and self._portal_answers():
            self._reached_at = time.monotonic()
            self._returned()
            decision = self._decide()
        if decision.lease_ids:
            self._hold(decision)

    def _decide(self) -> "Decision":
        desired = self._desired()
        return self_stop.decide(
            now=time.monotonic(),
            self_stop_seconds=desired.self_stop_seconds,
            portal_answered_at=self._contact.answered_at,
            portal_failing_since=self._contact.failing_since,
            portal_reached_at=self._reached_at,
            peers=self.gossip.peers(),
            leases=desired.leases,
            records=self.store.of_workloads(lease.workload.id for lease in desired.leases),
        )

    def upkeep(self, portal: "Portal") -> None:
        """Fetch what changed, and pass on what clients said; in the courier's thread, after a report that arrived."""
        while self._suspicions:
            portal.suspect(self._suspicions[0])
            self._suspicions.popleft()
        if time.monotonic() < self._fetch_due:
            return
        try:
            for _ in range(PAGES):
                delta = portal.directory(int(self.store.fact("since") or 0))
                if delta is None or not self._take(delta):
                    break
        except sqlite3.OperationalError as error:  # a full disk must not silence the device
            log.error("The directory cannot be kept on disk (%s).", error)
            self.store.roll_back()
        interval = max(1, self._desired().directory_interval_seconds)
        self._fetch_due = time.monotonic() + interval * (0.8 + 0.4 * random.random())  # noqa: S311 (not all at once)

    def _take(self, delta: DirectoryDelta) -> bool:
        """Take one page of a delta; returns whether there is another."""
        self.store.learn_keys(delta.key, delta.statements)
        for compact in delta.records:
            try:
                self.store.put(compact)
            except BadRecord as error:  # the others are good all the same
                log.error("The portal sent a record that cannot be taken (%s).", error)
        self.store.commit()
        self.store.set_fact("since", str(delta.sequence))
        self.store.set_fact("peers", " ".join(delta.peers))
        self.store.set_fact("nodes", delta.nodes)
        return delta.more

    def _suspect(self, suspicion: Suspicion) -> None:
        if suspicion not in self._suspicions:
            self._suspicions.append(suspicion)
            self._news()

    def _expire(self) -> None:
        if time.monotonic() >= self._expire_due:
            self._expire_due = time.monotonic() + EXPIRE_SECONDS
            self.store.expire()


def _server(settings: Config, answers: Answers) -> "SmallServer | None":
    """Return what answers on the owner's port, or on the next one free; None where the owner wants none, or there is none."""
    if not settings.directory_port:
        return None
    for port in range(settings.directory_port, settings.directory_port + PORTS_TRIED):
        try:
            return SmallServer(settings.publish_address, port, answers)
        except OSError as error:
            log.info("The directory cannot be served on port %d (%s).", port, error)
    log.warning("No port is free for the directory; it is kept and gossiped, but not served.")
    return None
