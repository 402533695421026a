"""A device that nobody can call: an agent and its Docker in a network of their own that only calls out, to the portal. What runs on it
is reached through the gateway and by `interchain connect`, and ends with its tunnel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from interchain_site.local import images, journey, smoke
from interchain_site.local.journey import until
from interchain_site.local.site import Site, running_site
from interchain_site.local.steps import ROOT
from nodes.agent.tests.private_engine import PrivateEngine, private_engine

pytestmark = pytest.mark.docker
PATIENCE_SECONDS = 120


@contextmanager
def background(*command: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=log.parent)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Home:
    """The network behind the router: what runs in it reaches the portal and its tunnel server, and nothing reaches it."""

    def __init__(self, engine: PrivateEngine, folder: Path, stack: ExitStack) -> None:
        self._engine, self.folder, self._stack = engine, folder, stack
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.run("ip", "link", "set", "lo", "up")

    def inside(self, *command: str) -> tuple[str, ...]:
        return ("nsenter", f"--net=/proc/{self._engine.process.pid}/ns/net", *command)

    def run(self, *command: str) -> None:
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, env=self.env, check=False)
        assert done.returncode == 0, done.stderr

    def wire(self, port: int) -> None:
        """Let programs in here reach a port of the site, under its own address."""
        path = str(self.folder / f"{port}.socket")
        relay = (sys.executable, "-m", "interchain_site.testing.relay")
        log = self.folder / "relay.log"
        self._stack.enter_context(background(*relay, path, f"127.0.0.1:{port}", env=self.env, log=log))
        self._stack.enter_context(background(*self.inside(*relay, f"127.0.0.1:{port}", path), env=self.env, log=log))

    def agent(self) -> subprocess.Popen[bytes]:
        command = self.inside(sys.executable, "-m", "nodes.agent", "run", "--home", str(self.folder / "home"))
        return self._stack.enter_context(background(*command, env=self.env, log=self.folder / "agent.log"))


def token_of_a_new_device(owner: journey.Person) -> tuple[str, str]:
    """Return the token and the id of a device just registered on its page."""
    page = owner.open("/devices/new/")
    page = owner.submit(page, page.form(having="name"), {"name": "Behind a router", "region": "us"})
    found = journey.INSTALL.search(page.html)
    assert found is not None
    return found.group(1), page.url.rstrip("/").rsplit("/", 1)[1]


@contextmanager
def connected(site: Site, slug: str, folder: Path) -> Iterator[str]:
    """The line of the app's page, as a stranger types it; yields the address it says."""
    command = [sys.executable, "-m", "interchain_connect", "connect", slug, "--portal", site.url]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "connect"), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


def _short(stack: ExitStack) -> Path:
    """A folder with a short name: the path of a socket may have 107 characters."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="icn")))


def test_an_app_on_a_device_behind_nat_is_reached_both_ways(tmp_path: Path) -> None:
    archive = images.archive(images.WEBSITE, tmp_path)
    for name in ("data", "device"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        site = stack.enter_context(running_site(settings=smoke.QUICK))
        engine = stack.enter_context(private_engine(_short(stack), data=tmp_path / "data", options=[]))
        home = Home(engine, tmp_path / "device", stack)
        for port in (site.ports.web, site.ports.tunnel):
            home.wire(port)
        publisher = stack.enter_context(journey.sign_up(site, "publisher"))
        owner = stack.enter_context(journey.sign_up(site, "owner"))
        journey.buy(publisher, "9000")
        token, device = token_of_a_new_device(owner)
        enrol = ["enrol", "--portal", site.url, "--token", token, "--home", str(home.folder / "home")]
        home.run(
            sys.executable,
            "-m",
            "nodes.agent",
            *enrol,
            "--engine",
            engine.address,
            "--endpoint-host",
            "127.0.0.1",
            "--tunnel",
        )
        agent = home.agent()
        until(
            "The device online",
            lambda: owner.api("GET", f"devices/{device}")["state"] == "online",
            seconds=PATIENCE_SECONDS,
        )
        journey.publish(publisher, images.WEBSITE, archive, "behind")
        journey.deploy(site, publisher, "behind")
        assert "Harbour" in journey.visit(site, "behind").text
        ports = engine.docker("ps", "--format", "{{.Ports}}")
        assert "->" in ports, "Docker published the app's port, in a network where nobody can call it"
        with connected(site, "behind", tmp_path / "stranger") as address:
            assert "Harbour" in httpx.get(f"http://{address}/", trust_env=False, timeout=30).text
        agent.terminate()
        agent.wait(30)
        assert engine.docker("ps", "-q"), "the app itself goes on"
        until("no way to it", lambda: journey.visit(site, "behind").status_code in (502, 503), seconds=PATIENCE_SECONDS)
        home.agent()
        until(
            "the way is open again", lambda: journey.visit(site, "behind").status_code == 200, seconds=PATIENCE_SECONDS
        )
