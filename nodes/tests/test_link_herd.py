"""A fleet that comes back all at once: real agents' links, real sockets, a web process that ends and one that begins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from django.conf import settings
from django.db import connections

from interchain_site.asgi import application
from interchain_site.testing.devices import FakeDevice, make_device
from interchain_site.testing.servers import free_port, wait_for_port
from nodes import link as portal_link
from nodes.agent import link_pauses
from nodes.agent.config import Config, Home
from nodes.agent.link import Link
from nodes.agent.link_trust import LinkTrust
from nodes.agent.protocol import Goodbye
from nodes.conftest import eventually
from nodes.hub import Hub
from nodes.services import link_keys

pytestmark = pytest.mark.django_db(transaction=True)

DEVICES = 6
AWAY_SECONDS = 3.0
ENTERING_SECONDS = 0.3


@contextmanager
def serving(port: int) -> Iterator[None]:
    config = uvicorn.Config(application, host="127.0.0.1", port=port, log_level="warning", ws="websockets-sansio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    wait_for_port(port)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Noted(Link):
    """A device's link; notes when it dialled, and when and how the portal sent it away."""

    def __init__(self, device: FakeDevice, port: int, folder: Path) -> None:
        known = Config(device.id, settings.PORTAL_URL, "", 1, link_key=link_keys.in_force().public_key)
        self.device_id = device.device.pk
        self.dialled: list[float] = []
        self.away: list[tuple[float, str]] = []

        def token(**claims: str) -> str:
            self.dialled.append(time.monotonic())
            return device.jwt(**claims)

        trust = LinkTrust(Home(folder), known)
        super().__init__(f"ws://127.0.0.1:{port}/link/", token=token, trust=trust, look=lambda: None)

    def _pause(self, held_seconds: float) -> tuple[float, float]:
        reason = (self._socket.close_reason or "") if self._socket is not None else ""
        pause = super()._pause(held_seconds)
        self.away.append((time.monotonic(), reason))
        return pause

    def came_too_early(self) -> bool:
        """Return whether it dialled before the time it was asked to stay away had passed."""
        return any(
            left_at < dialled < left_at + int(reason.removeprefix("retry-after=").split(";")[0])
            for left_at, reason in self.away
            if reason.startswith("retry-after=")
            for dialled in self.dialled
        )


@pytest.fixture
def herd(cast, tmp_path, monkeypatch) -> Iterator[tuple[int, list[Noted]]]:
    """A portal that lets in one device at a time, slowly, and the links of devices that have not dialled yet."""
    monkeypatch.setattr(portal_link, "MOST_ENTERING", 1)
    monkeypatch.setattr(portal_link, "AWAY_SECONDS", AWAY_SECONDS)
    monkeypatch.setattr(link_pauses, "RESTART_SECONDS", AWAY_SECONDS)
    monkeypatch.setattr(link_pauses, "LONGEST_PAUSE_SECONDS", AWAY_SECONDS)
    # The server's threads must not keep connections to a database that the test run drops at its end.
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    enter = portal_link._enter

    def slowly(token: str) -> portal_link.Entry:
        time.sleep(ENTERING_SECONDS)
        return enter(token)

    monkeypatch.setattr(portal_link, "_enter", slowly)
    port = free_port()
    links = [Noted(make_device(cast.owner, f"Box {number}"), port, tmp_path) for number in range(DEVICES)]
    yield port, links
    for link in links:
        link.stop(Goodbye.STOP)
    for link in links:
        link.join(20)


def are_in(links: list[Noted]) -> bool:
    """Return whether the portal holds a link of each device."""
    hub: Hub = application.state.hub
    return all(hub.holds(link.device_id) for link in links)


def test_all_come_back_and_none_before_the_time_it_was_told(herd):
    port, links = herd
    with serving(port):
        for link in links:
            link.start()
        eventually(lambda: are_in(links), seconds=90)
        first = [len(link.dialled) for link in links]
        assert any(reason for link in links for _, reason in link.away), "nobody was sent away"
    with serving(port):  # the portal's next process
        eventually(lambda: are_in(links), seconds=90)
    assert all(len(link.dialled) > before for link, before in zip(links, first, strict=True))
    assert not any(link.came_too_early() for link in links)
