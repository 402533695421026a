"""Fixtures of nodes: an enrolled device with a key, a real Caddy, and apps for it to serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.db import OperationalError

from interchain_site.testing.cast import Cast
from interchain_site.testing.devices import FakeDevice, make_device
from interchain_site.testing.servers import free_port, running
from nodes.gateway.syncer import Syncer


@pytest.fixture
def box(cast: Cast) -> FakeDevice:
    return make_device(cast.owner)


def eventually(ask: Callable[[], object], seconds: float = 60) -> object:
    """Return the first true answer; fails when none comes in time. A server that is not there yet has not answered.

    SQLite's database in memory does not wait for another thread that writes, as files do: it answers "table is locked".
    """
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        with suppress(OperationalError, httpx.TransportError):
            answer = ask()
            if answer:
                return answer
        time.sleep(0.02)
    raise AssertionError(f"Still {ask()!r} after {seconds:g} s.")


@contextmanager
def serving(text: str, port: int = 0) -> Iterator[int]:
    """An app of one sentence; yields its port."""

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), App)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Gateway:
    """A real Caddy that a test can start and stop, and a client of it."""

    port: int
    command: list[str]
    admin_port: int
    log: Path
    _caddy: subprocess.Popen[bytes] | None = None

    @contextmanager
    def caddy(self) -> Iterator[None]:
        with running(self.command, port=self.admin_port) as self._caddy:
            yield

    def kill(self) -> None:
        assert self._caddy is not None
        self._caddy.kill()
        self._caddy.wait()

    @contextmanager
    def syncing(self) -> Iterator[subprocess.Popen[bytes]]:
        """`manage.py gateway` for this Caddy, as a process."""
        own = {
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "GATEWAY_ADMIN_URL": f"http://127.0.0.1:{self.admin_port}",
            "GATEWAY_ACCESS_LOG": str(self.log),
        }
        env = {name: str(getattr(settings, name)) for name in GATEWAY_SETTINGS}
        process = subprocess.Popen(
            [sys.executable, "manage.py", "gateway"],
            env={**env, **own, "DEBUG": "1", "PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def get(self, name: str) -> httpx.Response:
        return httpx.get(
            f"http://127.0.0.1:{self.port}/", headers={"Host": f"{name}.apps.localhost"}, trust_env=False, timeout=10
        )

    def status(self, name: str) -> int:
        try:
            return self.get(name).status_code
        except httpx.HTTPError:
            return 0


GATEWAY_SETTINGS = (
    "REDIS_URL",
    "DATA_DIR",
    "SECRET_KEY",
    "GATEWAY_ACCESS_LOG",
    "GATEWAY_ADMIN_URL",
    "GATEWAY_DOMAIN",
    "GATEWAY_LISTEN",
    "GATEWAY_PUBLIC_URL",
)


def _gateway(folder: Path) -> Gateway:
    port, admin_port = free_port(), free_port()
    folder.mkdir(exist_ok=True)
    start = folder / "caddy.json"
    start.write_text(json.dumps({"admin": {"listen": f"127.0.0.1:{admin_port}", "config": {"persist": False}}}))
    command = [".venv/bin/caddy", "run", "--config", str(start)]
    return Gateway(port, command, admin_port, folder / "gateway" / "access.log")


@pytest.fixture
def second_gateway(tmp_path: Path) -> Gateway:
    """Another machine's gateway, on the same Redis."""
    return _gateway(tmp_path / "second")


@pytest.fixture
def gateway(settings, tmp_path: Path) -> Gateway:
    first = _gateway(tmp_path)
    port, admin_port = first.port, first.admin_port
    settings.GATEWAY_LISTEN = f"127.0.0.1:{port}"
    settings.GATEWAY_DOMAIN = "apps.localhost"
    settings.GATEWAY_PUBLIC_URL = f"http://apps.localhost:{port}"
    settings.GATEWAY_ADMIN_URL = f"http://127.0.0.1:{admin_port}"
    settings.GATEWAY_ACCESS_LOG = first.log
    return first


@contextmanager
def in_thread(work: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Run until the block ends, then stop it and see that it ended."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def syncer(gateway: Gateway) -> Iterator[Syncer]:
    """What keeps a running Caddy at the routes that Redis has."""
    stop = threading.Event()
    syncer = Syncer(stop)
    with gateway.caddy(), in_thread(syncer.run, stop):
        eventually(lambda: gateway.status("nothing") == 404)
        yield syncer


API = "/api/node/v1/"


class Agent:
    """Sends raw requests as this device would; keeps the last answer's code."""

    def __init__(self, client, box):
        self.client, self.box = client, box

    def send(self, path, body=None, token=None, **headers):
        headers["Authorization"] = f"Bearer {token or self.box.jwt()}"
        if body is None:
            return self.client.get(API + path, headers=headers)
        return self.client.post(API + path, body, content_type="application/jose", headers=headers)


@pytest.fixture
def agent(client, box):
    return Agent(client, box)


def code(answer):
    return answer.status_code, answer.json()["code"]
