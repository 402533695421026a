"""One whole Interchain on this machine: its folder, its programs, its first-time set-up. Several can run side by side."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from interchain_site.local import environment, leftovers, npm, ports, programs
from interchain_site.local.steps import PRIVATE, ROOT, Steps, Stop, command
from interchain_site.local.supervisor import Supervisor

MANAGE_SECONDS = 300  # longer than anything a management command waits for
DEVICES = {"first": "agent", "second": "agent-2", "third": "agent-3"}
"""The devices a site can have, and what each one's folder and program are called."""
PYTHON = str(ROOT / ".venv" / "bin" / "python")


class Site:
    """A site in a data folder. `open` before anything else; `close` ends every program and container."""

    def __init__(
        self,
        data: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.data, self._port, self._settings, self._say = data.resolve(), port, dict(settings or {}), say
        self.env_file = self.data / ".env"
        self.mail = self.data / "mail"
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Take the folder, end what an earlier start left behind, choose ports, write `.env`.

        Raises:
            Stop: a site runs in this folder already, the folder is another user's, or a port is taken.
        """
        self._take_folder()
        leftovers.end(self.data)
        self.ports = ports.choose(self.data / "ports.json", web=self._port)
        self.values = environment.write(self.env_file, data=self.data, ports=self.ports, settings=self._settings)
        self.env = {**environment.process_environment(self.env_file), leftovers.MARK: str(self.data)}
        self.supervisor = Supervisor(env=self.env, cwd=ROOT, logs=self.data / "log", say=self._say)

    def _take_folder(self) -> None:
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self._lock = (self.data / "run.lock").open("a+")
        except OSError as error:
            raise Stop(
                f"{self.data} cannot be used ({error.strerror}). Use its owner's account, or --data DIR"
            ) from None
        owner = self.data.stat().st_uid
        if owner != os.geteuid():
            raise Stop(
                f"{self.data} belongs to user {owner}, you are {os.geteuid()}. Run as its owner, or use --data DIR"
            )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Stop(
                f"A site runs in {self.data} already. Stop it first (Ctrl-C), or use --data DIR --port N"
            ) from None

    @property
    def is_open(self) -> bool:
        """Tell whether `open` succeeded."""
        return hasattr(self, "supervisor")

    @property
    def url(self) -> str:
        return self.values["PORTAL_URL"]

    @property
    def gateway_url(self) -> str:
        return self.values["GATEWAY_PUBLIC_URL"]

    def manage(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run a management command of this site and return what it printed."""
        failure = f"manage.py {arguments[0]} failed"
        return command(
            [PYTHON, str(ROOT / "manage.py"), *arguments], failure=failure, env=self.env, stdin=stdin, umask=PRIVATE
        )

    def start(self, steps: Steps) -> str:
        """Start everything but the agent: stores, database, contracts, then the portal. Returns the operator's account, as JSON."""
        said: list[str] = []
        steps.do(
            "Valkey, Ethereum node, gateway, Stripe stand-in", lambda: self.supervisor.start(programs.servers(self))
        )
        steps.do("Database and contracts", lambda: said.append(self.manage("prepare_site")))
        steps.do("Web, workers, beat, gateway syncer", lambda: self.supervisor.start(programs.portal(self)))
        return said[0]

    def devices(self) -> list[str]:
        """Return which of DEVICES are enrolled."""
        return [device for device in DEVICES if self.device_id(device)]

    def start_agents(self) -> None:
        """Start the agents of all enrolled devices."""
        running = self.supervisor.pids()
        homes = [DEVICES[device] for device in self.devices()]
        self.supervisor.start([programs.agent(self, home) for home in homes if home not in running])

    def enrol_agent(self, token: str, device: str = "first") -> None:
        """Enrol this machine, as one of DEVICES, with a token of the device page."""
        home = str(self.data / DEVICES[device])
        arguments = [PYTHON, "-m", "nodes.agent", "enrol", "--portal", self.url, "--home", home]
        arguments += ["--endpoint-host", "127.0.0.1"]  # gateway and device are one machine: apps need no open port
        command([*arguments, "--token", token], failure="This machine cannot be enrolled as a device", env=self.env)

    def close(self) -> None:
        """End every program, remove the agent's containers (their volumes are kept), give the folder back."""
        if self.is_open:
            self.supervisor.stop()
            self.remove_containers()
            (self.data / "run.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def device_id(self, device: str = "first") -> str:
        """Return an enrolled device's id; empty when there is none."""
        config = self.data / DEVICES[device] / "config.json"
        return str(json.loads(config.read_text())["device_id"]) if config.exists() else ""

    def kill_containers(self, device: str) -> None:
        """Kill what runs on a device, as a power cut would."""
        _remove(["docker", "ps", "-q", *self._label(device)], ["docker", "kill"])

    def remove_containers(self, *, volumes: bool = False) -> None:
        """Remove containers and networks of this site's devices; with `volumes` also the apps' data."""
        for device in self.devices():
            label = self._label(device)
            _remove(["docker", "ps", "-aq", *label], ["docker", "rm", "-f"])
            _remove(["docker", "network", "ls", "-q", *label], ["docker", "network", "rm"])
            if volumes:
                _remove(["docker", "volume", "ls", "-q", *label], ["docker", "volume", "rm", "-f"])

    def _label(self, device: str) -> list[str]:
        return ["--filter", f"label=io.interchain.device={self.device_id(device)}"]

    def write_run_file(self, **more: object) -> None:
        """Write `run.json`, by which tools find a running site."""
        about = {
            "portal_url": self.url,
            "gateway_url": self.gateway_url,
            "pid": os.getpid(),
            "processes": self.supervisor.pids(),
        }
        (self.data / "run.json").write_text(json.dumps({**about, "env_file": str(self.env_file), **more}, indent=1))


def _remove(listing: list[str], removal: list[str]) -> None:
    with contextlib.suppress(FileNotFoundError):
        found = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()
        if found:
            subprocess.run([*removal, *found], capture_output=True, check=False)


@contextlib.contextmanager
def running_site(
    data: Path | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
    steps: Steps | None = None,
) -> Iterator[Site]:
    """Run a site on free ports until the block ends, in a folder of its own that is removed after, unless `data` names one.

    The agent is not started: enrol it first (`enrol_agent`), then `start_agents`.
    """
    with tempfile.TemporaryDirectory(prefix="interchain-") as temporary:
        site = Site(data or Path(temporary), port=0, settings=settings, say=say)
        try:
            site.open()
            npm.install()
            site.start(steps or Steps(quiet=True))
            yield site
        finally:
            site.close()
            if data is None:
                site.remove_containers(volumes=True)
