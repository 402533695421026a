"""How long clients are without an app that lost its device, beside a Docker Swarm on the same computers. See README.md.

Longer than 300 lines because it is one bench, read from top to bottom.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import redis  # noqa: E402

from bench.failover import swarm  # noqa: E402
from bench.failover.nodes import HOST_ADDRESS, Node, make_bridge, remove_bridge, run  # noqa: E402
from bench.failover.probe import Probe, answers  # noqa: E402
from interchain_site.local import images, npm  # noqa: E402
from interchain_site.local.journey import Wrong, publish, until  # noqa  # noqa: E402
from interchain_site.local.ports import free  # noqa: E402
from interchain_site.local.site import PYTHON, Site  # noqa: E402
from interchain_site.local.steps import Steps  # noqa: E402
from interchain_site.local.web import PageError, Person  # noqa: E402

WEB_PORT = 8390
GIVE_UP_SECONDS = 90
AFTER_SECONDS = 4  # requests are looked at so long after the first 200
LINK_TIMEOUT_SECONDS = 30  # of this site, as by default
DATA_SECONDS = 5  # DATA_FAILOVER_SECONDS of this site: how long an app's data waits for its device (300 by default)
PLAIN = replace(images.WEBSITE, volume_path="")


@dataclass(frozen=True)
class Case:
    """One way to be prepared for the loss of a device."""

    name: str
    wishes: dict[str, Any]
    volume: bool = False


CASES = (
    Case("live replica", {"replicas": 2}),
    Case("warm standby", {"standby": True}),
    Case("cold", {}),
    Case("with a volume", {}, volume=True),
)


@dataclass(frozen=True)
class Seen:
    """What one client saw of one loss, in seconds."""

    next_answer: float | None
    slowest: float
    failed: int
    stale: float | None = None  # from its device's return until the copy there had ended; None: it did not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--swarm-rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], help="cases by name, and swarm; all when left out")
    parser.add_argument(
        "--data", type=Path, default=Path("/var/lib/docker/failover"), help="the Engines' data, on a disk"
    )
    parser.add_argument(
        "--site", type=Path, help="go on with this site's folder; its old devices must be offline by then"
    )
    parser.add_argument("--keep", type=Path, help="a new folder for the logs of nodes and site, which stays")
    parsed = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was set up is taken down
    with ExitStack() as ending:
        folder = parsed.keep or Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="failover-")))
        nodes = [Node(number, folder / f"node{number}", parsed.data / str(number)) for number in (1, 2, 3)]
        make_bridge(WEB_PORT)
        ending.callback(remove_bridge, WEB_PORT)
        for node in nodes:
            ending.callback(node.stop)
            node.start()
        ours = interchain(folder, nodes, parsed) if parsed.only != ["swarm"] else {}
        theirs = swarms(nodes, parsed.swarm_rounds) if not parsed.only or "swarm" in parsed.only else {}
    print("\n".join(report(ours, theirs)))


# --- Interchain ------------------------------------------------------------------------------------------------------


class Cloud:
    """A whole site, whose devices are the nodes."""

    def __init__(self, site: Site, nodes: Sequence[Node], folder: Path) -> None:
        self.site, self.nodes, self._folder = site, nodes, folder
        made = json.loads(site.manage("seed_demo", "people", "devices", "balance").splitlines()[-1])
        tokens = {row["role"]: row["token"] for row in made["people"]}
        self.publisher, self.owner = Person(site.url), Person(site.url)
        self.publisher.token, self.owner.token = tokens["publisher"], tokens["owner"]
        for node, token in zip(nodes, made["devices"].values(), strict=True):
            self._lend(node, token)
        for app in self.publisher.api("GET", "apps"):
            with suppress(PageError):
                self.publisher.api("DELETE", f"apps/{app['slug']}/deployment")
        until("Three devices online", lambda: self.online() == len(nodes), seconds=GIVE_UP_SECONDS)

    def _lend(self, node: Node, token: str) -> None:
        home = str(node.folder / "agent")
        enrol = node.spawn(
            "enrol", PYTHON, "-m", "nodes.agent", "enrol", "--portal", self.site.url, "--token", token, "--home", home,
            "--endpoint-host", node.address, "--publish-address", node.address, "--engine", node.engine, env=self.site.env,
        )  # fmt: skip
        if enrol.wait(120) != 0:
            raise SystemExit(f"A node cannot be enrolled: {(node.folder / 'enrol.log').read_text()[-2000:]}")
        node.spawn("agent", PYTHON, "-m", "nodes.agent", "run", "--home", home, env=self.site.env)

    def wait_until_silence_counts(self) -> None:
        """A portal that was started a moment ago takes nobody's silence for a loss (nodes/services/liveness.py)."""
        client = redis.Redis.from_url(self.site.values["REDIS_URL"], decode_responses=True)
        listened = float(client.get("nodes:listening-since") or time.time())  # type: ignore[arg-type]
        time.sleep(max(0.0, listened + LINK_TIMEOUT_SECONDS + 1 - time.time()))

    def online(self) -> int:
        return sum(row["state"] == "online" for row in self.owner.api("GET", "devices"))

    def host(self, slug: str) -> str:
        return f"{slug}.{self.site.values['GATEWAY_DOMAIN']}"

    def first_node(self, slug: str) -> Node:
        """Return the node that clients of an app are sent to now."""
        address = self._route(slug)[0].rpartition(":")[0]
        return next(node for node in self.nodes if node.address == address)

    def deploy(self, slug: str, case: Case) -> None:
        app = images.WEBSITE if case.volume else PLAIN
        publish(self.publisher, app, self._folder / "images" / f"{app.slug}.tar", slug)
        self.publisher.api("POST", f"apps/{slug}/deployment", case.wishes)
        port, name = self.site.ports.gateway, self.host(slug)
        until("The app's first 200", lambda: answers(port, name=name), seconds=GIVE_UP_SECONDS)
        until("Its replicas and standby", lambda: self._ready(slug, case), seconds=GIVE_UP_SECONDS)

    def _ready(self, slug: str, case: Case) -> bool:
        if len(self._route(slug)) < case.wishes.get("replicas", 1):
            return False
        workload = self.publisher.api("GET", f"apps/{slug}/deployment")["id"]
        made = ["--filter", f"label=io.interchain.workload={workload}", "--filter", "status=created"]
        return not case.wishes.get("standby") or any(node.docker("ps", "-aq", *made) for node in self.nodes)

    def write_data(self, slug: str) -> None:
        """Let the app keep something; there is no snapshot of nothing."""
        workload = self.publisher.api("GET", f"apps/{slug}/deployment")["id"]
        node = self.first_node(slug)
        container = node.docker("ps", "-q", "--filter", f"label=io.interchain.workload={workload}").split()[0]
        written = f"{images.WEBSITE.volume_path}/kept"
        node.docker("exec", container, "/bin/busybox", "dd", "if=/dev/urandom", f"of={written}", "bs=1M", "count=4")

    def stale_copy_ends(self, slug: str, node: Node) -> float | None:
        """Put a lost node's cable back in; returns the seconds until what it still ran of an app has ended."""
        workload = self.publisher.api("GET", f"apps/{slug}/deployment")["id"]
        runs = ["ps", "-q", "--filter", f"label=io.interchain.workload={workload}"]
        node.mend()
        began = time.monotonic()
        while node.docker(*runs):
            if time.monotonic() - began > GIVE_UP_SECONDS:
                return None
            time.sleep(0.1)
        return time.monotonic() - began

    def _route(self, slug: str) -> list[str]:
        client = redis.Redis.from_url(self.site.values["REDIS_URL"], decode_responses=True)
        return list(json.loads(client.hget("gateway:routes", slug) or "{}").get("upstreams", []))  # type: ignore[arg-type]

    def connect(self, slug: str) -> tuple[subprocess.Popen[bytes], int]:
        """Start `interchain connect` for an app; returns it and its local port."""
        port = free()
        command = [PYTHON, "-m", "interchain_connect", "connect", slug, "--portal", self.site.url, "--port", str(port)]
        log = (self._folder / f"connect-{slug}.log").open("wb")
        process = subprocess.Popen(
            [*command, "--trust", str(self._folder / "trust.json")],
            env={**os.environ, "PYTHONPATH": str(ROOT / "connect")}, stdout=log, stderr=log,
        )  # fmt: skip
        until("interchain connect", lambda: answers(port), seconds=GIVE_UP_SECONDS)
        return process, port

    def remove(self, slug: str) -> None:
        self.publisher.api("DELETE", f"apps/{slug}/deployment")
        until("All devices back", lambda: self.online() == len(self.nodes), seconds=GIVE_UP_SECONDS)


def interchain(folder: Path, nodes: Sequence[Node], parsed: argparse.Namespace) -> dict[str, list[Seen]]:
    home = parsed.site or folder / "site"
    (home / "images").mkdir(parents=True, exist_ok=True)
    images.archive(images.WEBSITE, home / "images")
    settings = {
        "PORTAL_URL": f"http://{HOST_ADDRESS}:{WEB_PORT}",
        "ALLOWED_HOSTS": f"{HOST_ADDRESS},localhost,127.0.0.1",
        "DATA_FAILOVER_SECONDS": str(DATA_SECONDS),
    }
    site = Site(home, port=WEB_PORT, settings=settings)
    found: dict[str, list[Seen]] = defaultdict(list)
    try:
        site.open()
        npm.install()
        site.start(Steps())
        cloud = Cloud(site, nodes, home)
        mark = secrets.token_hex(2)
        warm = Case("warm-up", {"replicas": 3})  # every node has the image after it, as Swarm's nodes do
        cloud.deploy(f"warm-{mark}", warm)
        cloud.remove(f"warm-{mark}")
        cloud.wait_until_silence_counts()
        for number in range(parsed.rounds):
            for case in (one for one in CASES if not parsed.only or one.name in parsed.only):
                try:
                    ways = lose_a_device(cloud, case, f"r{number}-{CASES.index(case)}-{mark}")
                except Wrong as error:  # told, and the other cases are still measured
                    print(f"round {number + 1}: {case.name}: not measured: {error}", flush=True)
                    continue
                for way, seen in ways.items():
                    found[f"{case.name}, {way}"].append(seen)
                    print(f"round {number + 1}: {case.name}, {way}: {seen}", flush=True)
    finally:
        site.close()
    return found


def lose_a_device(cloud: Cloud, case: Case, slug: str) -> dict[str, Seen]:
    """Deploy an app, pull the cable of the device its clients are sent to, and look at both ways in."""
    cloud.deploy(slug, case)
    if case.volume:
        cloud.write_data(slug)
        snapshot(cloud, slug)
    process, local = cloud.connect(slug)
    try:
        ways = {"gateway": (cloud.site.ports.gateway, cloud.host(slug)), "connect": (local, "")}
        node = cloud.first_node(slug)
        with Probe(*_at(ways["gateway"])) as gateway, Probe(*_at(ways["connect"])) as connect:
            time.sleep(2)
            cut_at = node.cut()
            waited = {
                way: probe.next_answer(cut_at, GIVE_UP_SECONDS)
                for way, probe in (("gateway", gateway), ("connect", connect))
            }
            time.sleep(AFTER_SECONDS)
        probes = {"gateway": gateway, "connect": connect}
        stale = cloud.stale_copy_ends(slug, node)
        return {way: Seen(waited[way], one.slowest(cut_at), one.failed(cut_at), stale) for way, one in probes.items()}
    finally:
        process.terminate()
        process.wait(10)
        node.mend()
        cloud.remove(slug)


def _at(way: tuple[int, str]) -> tuple[int, str, str]:
    return way[0], "127.0.0.1", way[1]


def snapshot(cloud: Cloud, slug: str) -> None:
    """Take a snapshot from the data page, and wait until it is there."""
    person = Person(cloud.site.url)
    page = person.open("/accounts/login/")
    person.submit(
        page, page.form(having="password"), {"login": "publisher@example.com", "password": "interchain-publisher-demo"}
    )
    page = person.open(f"/apps/{slug}/data/")
    person.submit(page, page.form(action=f"/apps/{slug}/data/snapshot/"))
    until(
        "The snapshot", lambda: "/restore/" in person.open(f"/apps/{slug}/data/").html, seconds=GIVE_UP_SECONDS, every=1
    )


# --- Swarm -----------------------------------------------------------------------------------------------------------


def swarms(nodes: Sequence[Node], rounds: int) -> dict[str, list[float]]:
    images.base_image(images.BUSYBOX)
    archive = nodes[0].folder / "busybox.tar"
    tag = images.WEBSITE.tag
    run("docker", "save", "-o", str(archive), tag)
    for node in nodes:
        node.docker("load", "-i", str(archive))
    swarm.make(nodes)
    found: dict[str, list[float]] = defaultdict(list)
    try:
        for number in range(rounds):
            for name, tuned in (("Swarm, default", False), ("Swarm, 1 s heartbeat", True)):
                found[name].append(swarm.lose_a_node(nodes, tag, tuned=tuned))
                print(f"round {number + 1}: {name}: {found[name][-1]:.2f} s", flush=True)
    finally:
        swarm.leave(nodes)
    return found


# --- report ----------------------------------------------------------------------------------------------------------


def report(ours: dict[str, list[Seen]], theirs: dict[str, list[float]]) -> list[str]:
    commit, load = run("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"), os.getloadavg()[0]
    middles = {name: statistics.median(rows) for name, rows in theirs.items() if rows}
    lines = [
        f"{time.strftime('%Y-%m-%d')}, commit {commit}, {os.cpu_count()} cores ({platform.machine()}), load {load:.1f}.",
        "",
        "| | device lost → next 200, s: each round | median | slowest request, s | failed | ÷ Swarm | ÷ Swarm tuned |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in ours.items():
        waits = [row.next_answer if row.next_answer is not None else float("inf") for row in rows]
        middle = statistics.median(waits)
        ratios = [
            f"{middle / middles[peer]:.2f}" if peer in middles else "–"
            for peer in ("Swarm, default", "Swarm, 1 s heartbeat")
        ]
        slowest, failed = max(row.slowest for row in rows), sum(row.failed for row in rows)
        lines.append(f"| {name} | {_each(waits)} | {middle:.2f} | {slowest:.2f} | {failed} | {' | '.join(ratios)} |")
    lines += [f"| {name} | {_each(rows)} | {middles[name]:.2f} | | | | |" for name, rows in theirs.items() if rows]
    stale = [row.stale for way, rows in ours.items() if way.endswith("gateway") for row in rows]
    if stale:
        ended = [one if one is not None else float("inf") for one in stale]
        lines += ["", f"A device that came back had ended its stale copy after {_each(ended)} s."]
    return lines


def _each(seconds: Sequence[float]) -> str:
    return " · ".join(f"{one:.2f}" for one in seconds)


if __name__ == "__main__":
    main()
