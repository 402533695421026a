"""How long from a click to the first answer, against `docker run` of the same image on the same machine, in turns.

Two ways:

    python bench/deploy/measure.py agent                     the agent alone, against the tests' small portal
    python bench/deploy/measure.py site --run var/run.json   the whole site: REST call → first 200 through the gateway

The two sides take turns, so that whatever else the machine does hits both. The ratio of medians matters, the target is ≤ 1.2;
and that the slowest of a hundred takes no second.
Writes bench/results/deploy-<way>.json and prints one line.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
TARGET = 1.2
SLOWEST_SECONDS = 1.0  # of 99 in 100
GIVE_UP_SECONDS = 60
POLL_SECONDS = 0.02  # often enough; every 5 ms the poller itself took a third of a core from what it measures
COMMAND = "httpd -f -p 8080 -h /www"
PORT = 8080


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["agent", "site"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--run", type=Path, default=ROOT / "var/run.json", help="what bin/run wrote (site)")
    parser.add_argument("--app", default="", help="slug of an app with a release to deploy (site; default: the first)")
    parser.add_argument("--token", default="", help="API token (site; default: the demo publisher's)")
    parser.add_argument(
        "--image", default="", help="image for docker run (site; default: that of the running container)"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    arguments = parser.parse_args()
    began_load = os.getloadavg()[0]
    deploy, image, port = (agent_side if arguments.way == "agent" else site_side)(arguments)
    ours, theirs = [], []
    with deploy as click:
        click()  # warm: connections open, image known
        docker_run(image(), port())
        for number in range(arguments.rounds):
            ours.append(click())
            theirs.append(docker_run(image(), port()))
            print(
                f"{number + 1:3}  deploy {ours[-1] * 1000:6.0f} ms   docker run {theirs[-1] * 1000:6.0f} ms", flush=True
            )
    return report(arguments, ours, theirs, began_load)


def report(arguments: argparse.Namespace, ours: list[float], theirs: list[float], began_load: float) -> int:
    ratio = statistics.median(ours) / statistics.median(theirs)
    result = {
        "what": f"{arguments.way}: click to first 200 against docker run of the same image, in turns",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
        "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} cores",
        "load_average": [round(began_load, 1), round(os.getloadavg()[0], 1)],
        "rounds": len(ours),
        "deploy_ms": spread(ours),
        "docker_run_ms": spread(theirs),
        "ratio_of_medians": round(ratio, 2),
        "target": TARGET,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"deploy-{arguments.way}.json").write_text(json.dumps(result, indent=2) + "\n")
    p99 = spread(ours)["p99"]
    print(
        f"deploy {arguments.way}: {ratio:.2f} x docker run (target {TARGET} x), 99 of 100 within {p99} ms (target 1000)"
    )
    return 0 if ratio <= TARGET and p99 <= SLOWEST_SECONDS * 1000 else 1


def spread(seconds: list[float]) -> dict[str, int]:
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered) * 1000),
        "least": round(ordered[0] * 1000),
        "p90": round(ordered[int(len(ordered) * 0.9)] * 1000),
        "p99": round(ordered[int(len(ordered) * 0.99)] * 1000),
        "most": round(ordered[-1] * 1000),
    }


# --- docker run -----------------------------------------------------------------------------------------------------


def docker_run(image: str, port: int) -> float:
    """Return seconds from typing `docker run` to its first 200."""
    name, host_port = f"bench-{time.monotonic_ns()}", free_port()
    began = time.monotonic()
    subprocess.run(
        ["docker", "run", "-d", "--name", name, "-p", f"127.0.0.1:{host_port}:{port}", image],
        check=True,
        capture_output=True,
    )
    try:
        first_answer("127.0.0.1", host_port)
        return time.monotonic() - began
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_answer(host: str, port: int, *, host_header: str = "") -> None:
    """Return at the first 200."""
    until = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < until:
        connection = http.client.HTTPConnection(host, port, timeout=2)
        try:
            connection.request("GET", "/", headers={"Host": host_header} if host_header else {})
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"no answer from {host_header or host}:{port} in {GIVE_UP_SECONDS} s")


# --- the agent alone -------------------------------------------------------------------------------------------------


def agent_side(
    arguments: argparse.Namespace,
) -> tuple[AbstractContextManager[Any], Callable[[], str], Callable[[], int]]:
    from interchain_site.testing import docker as engine

    image = engine.image(COMMAND)
    return _Agent(image), lambda: image, lambda: PORT


class _Agent:
    """An agent process and a small portal; a click sets the desired state, the wake-up goes over the link."""

    def __init__(self, image: str) -> None:
        from nodes.agent.tests.conftest import AgentProcess
        from nodes.agent.tests.portal import FakePortal

        self._image, self._folder = image, tempfile.TemporaryDirectory()
        self._portal = FakePortal()
        self._process = AgentProcess(Path(self._folder.name) / "home", self._portal)

    def __enter__(self) -> Callable[[], float]:
        self._portal.__enter__()
        self._process.enrol()
        self._process.start()
        time.sleep(1)
        return self.click

    def __exit__(self, *problem: object) -> None:
        from interchain_site.testing import docker as engine

        self._process.kill()
        engine.remove_labelled(f"io.interchain.device={self._portal.device_id}")
        self._portal.__exit__(*problem)
        self._folder.cleanup()

    def click(self) -> float:
        from nodes.agent.protocol import Image, Observed
        from nodes.agent.tests.conftest import lease, workload

        wanted = lease(workload(image=Image(reference=self._image), cpu_millis=1000))
        began = time.monotonic()
        self._portal.want(wanted)
        status = self._portal.wait_for(wanted.lease_id, Observed.RUNNING, GIVE_UP_SECONDS)
        first_answer("127.0.0.1", status.host_port)
        took = time.monotonic() - began
        self._portal.want()  # stopped again before the other side has its turn
        self._portal.wait(lambda: not self._left(), GIVE_UP_SECONDS, "stopped")
        time.sleep(
            1.5
        )  # the agent makes its next network ready half a second after a start; a second click would come too soon
        return took

    def _left(self) -> str:
        from interchain_site.testing import docker as engine

        mine = ["--filter", f"label=io.interchain.device={self._portal.device_id}"]
        return engine.docker("ps", "-aq", *mine, "--filter", "label=io.interchain.lease")


# --- the whole site --------------------------------------------------------------------------------------------------


def site_side(
    arguments: argparse.Namespace,
) -> tuple[AbstractContextManager[Any], Callable[[], str], Callable[[], int]]:
    run = json.loads(arguments.run.read_text())
    site = _Site(run, arguments.app, arguments.token)
    return nullcontext(site.click), lambda: arguments.image or site.image, lambda: site.port


class _Site:
    """A running portal, used as a publisher's program does: its REST API and the gateway, nothing else.

    `var/run.json` gives `portal_url`, `gateway_url` and the file with the accounts' API tokens.
    """

    def __init__(self, run: dict[str, Any], slug: str, token: str) -> None:
        self._portal = urllib.parse.urlsplit(run["portal_url"])
        self._gateway = urllib.parse.urlsplit(run["gateway_url"])
        self._token = token or token_of(Path(run["accounts"]), "publisher")
        self._slug = slug or self._call("GET", "apps")[0]["slug"]
        self._host = f"{self._slug}.{self._gateway.hostname}"
        self.image, self.port = "", PORT
        if self._status() is not None:
            self._stop()

    def click(self) -> float:
        """Deploy (or start again) and wait for the first 200 through the gateway; returns the seconds, and stops the app."""
        known = self._status()
        began = time.monotonic()
        path = f"apps/{self._slug}/deployment"
        started = self._call("POST", f"{path}/start" if known else path, {})
        first_answer("127.0.0.1", self._gateway.port or 80, host_header=self._host)
        took = time.monotonic() - began
        self._remember_image(started["id"])
        self._stop()
        return took

    def _status(self) -> Any:
        found = self._call("GET", f"apps/{self._slug}/deployment", missing_ok=True)
        return None if found is None or found["deleted_at"] else found

    def _stop(self) -> None:
        found = self._status()
        if found["desired"] == "running":
            self._call("POST", f"apps/{self._slug}/deployment/stop", {})
        until = time.monotonic() + GIVE_UP_SECONDS
        while (self._container(found["id"]) or self._status()["state"] != "stopped") and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(1.0)

    def _remember_image(self, workload_id: str) -> None:
        if not self.image:
            found = self._container(workload_id)
            self.image = inspect(found, "{{.Image}}")
            self.port = max(self._call("GET", f"apps/{self._slug}/releases"), key=lambda row: row["number"])["port"]

    @staticmethod
    def _container(workload_id: str) -> str:
        command = ["docker", "ps", "-aq", "--filter", f"label=io.interchain.workload={workload_id}"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[0]

    def _call(self, method: str, path: str, body: object | None = None, *, missing_ok: bool = False) -> Any:
        kind = http.client.HTTPSConnection if self._portal.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._portal.hostname or "", self._portal.port, timeout=30)
        headers = {"Authorization": f"Token {self._token}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v1/{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if missing_ok and answer.status == 404:
            return None
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {data.decode(errors='replace')[:500]}")
        return json.loads(data) if data else None


def token_of(accounts: Path, role: str) -> str:
    """Return the API token of a demo account."""
    return next(str(row["token"]) for row in json.loads(accounts.read_text()) if row["role"] == role)


def inspect(container: str, template: str) -> str:
    command = ["docker", "inspect", "-f", template, container]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
