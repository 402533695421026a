"""A fleet against one web process: memory and CPU of idle links, dispatch, and signed readings. README.md beside this has the rest.

`python bench/fleet/run.py idle|dispatch|herd|readings|all [--quick] [--write]`
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.fleet.site import Portal, portal  # noqa: E402  (after the path is set)

WITH_LEASES = 200  # devices that run 25 leases each
TRY_LATER = 1013
RESULTS = ROOT / "bench" / "results" / "fleet.md"


@contextmanager
def fleet(what: str, at: Portal, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run simulated agents until the block ends, which they notice by the end of their stdin."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [
        sys.executable,
        str(ROOT / "bench/fleet/fleet.py"),
        what,
        "--portal",
        at.url,
        f"--link-key={at.link_key}",
    ]
    process = subprocess.Popen([*command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.stdin.close()
        process.stdout.read()
        process.wait(60)


def heard(process: subprocess.Popen[str]) -> dict:
    """Return the next line the agents say."""
    line = process.stdout.readline()
    if not line:
        raise SystemExit("The agents ended early.")
    return json.loads(line)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def idle(at: Portal, asked: argparse.Namespace) -> list[list[str]]:
    """Memory and CPU of the web process with so many links open and nothing else to do; each count after the smaller ones."""
    rows, first, seconds = [], 0, 10 if asked.quick else 30
    for count in asked.links:
        with fleet("idle", at, count=max(1, count)) as agents:
            opening = heard(agents)["seconds"]
            time.sleep(5)
            before, began = at.web_cpu(), time.monotonic()
            time.sleep(seconds)
            share = (at.web_cpu() - before) / (time.monotonic() - began)
            memory = at.web_memory()
            agents.stdin.close()
            open_still = heard(agents)["still_open"]
        first = first or memory
        each = (memory - first) / count / 1024 if count else 0
        rows.append(
            [
                f"{count:,}",
                f"{memory / 2**20:.0f} MB",
                f"{each:.1f} kB",
                f"{100 * share:.1f} %",
                f"{max(1, count) / opening:.0f}/s",
                str(open_still),
            ]
        )
        print(rows[-1], flush=True)
    return rows


def dispatch(at: Portal, asked: argparse.Namespace) -> list[list[str]]:
    """From the commit of an opened lease until its agent has fetched the desired state with it."""
    import django

    django.setup()
    rows = []
    for polls in (0, 130):
        rows.append(_dispatched(at, 2000, asked.leases, polls))
        print(rows[-1], flush=True)
    return rows


def _dispatched(at: Portal, count: int, leases: int, polls: int) -> list[str]:
    opened, fetched = {}, {}
    with fleet("watch", at, count=count, polls=polls) as agents:
        while "ready" not in heard(agents):
            pass
        cpu, began = at.web_cpu(), time.monotonic()
        for _ in range(leases):
            device, opened_at = _open_lease()
            opened[device] = opened_at
            while (said := heard(agents))["device"] != device:
                pass
            assert said["status"] in (200, 304), said  # 304: a poll beside it had fetched it already
            fetched[device] = said
            time.sleep(0.02)
        share = (at.web_cpu() - cpu) / (time.monotonic() - began)
    took = [1000 * (fetched[device]["fetched"] - opened[device]) for device in opened]
    woken = [1000 * (fetched[device]["looked"] - opened[device]) for device in opened]
    return [
        f"{count:,}", str(polls), str(len(took)), f"{percentile(woken, 0.5):.1f} ms", f"{percentile(took, 0.5):.1f} ms",
        f"{percentile(took, 0.99):.1f} ms", f"{max(took):.1f} ms", f"{100 * share:.0f} %",
    ]  # fmt: skip


def _open_lease() -> tuple[str, float]:
    """Open a lease through placement; returns its device and when it was committed."""
    from django.db import transaction

    from nodes.agent.protocol import Image, Workload
    from nodes.models import Device, Lease
    from nodes.services import placement

    name = f"bench-{uuid.uuid4().hex[:12]}"
    workload = Workload(
        str(uuid.uuid4()), name, Image(reference=f"registry.example/{name}@sha256:{'a' * 64}"), 8080, 2**28, 100, 0
    )
    committed: list[float] = []
    with transaction.atomic():
        transaction.on_commit(lambda: committed.append(time.time()))
        lease = placement.open_lease(workload=workload, by=None)
    # Ranking gives everything to one device while all are alike: the next lease goes to a device that has none.
    Lease.objects.filter(pk=lease.pk).update(state="running")
    Device.objects.filter(pk=lease.device_id).update(state="paused")
    return str(lease.device_id), committed[0]


def herd(at: Portal, asked: argparse.Namespace) -> list[list[str]]:
    """The web process ends and is started again at once, with all agents linked; a page is asked for all the while."""
    rows = []
    for how, number in (("restarted (SIGTERM)", signal.SIGTERM), ("killed (SIGKILL)", signal.SIGKILL)):
        rows.append([f"{asked.herd:,}", how, *_came_back(at, asked.herd, number)])
        print(rows[-1], flush=True)
    return rows


def _came_back(at: Portal, count: int, number: int) -> list[str]:
    with fleet("herd", at, count=count) as agents, pages_asked(at) as pages:
        while "ready" not in heard(agents):
            pass
        for _ in range(count):
            heard(agents)  # each says that it is open
        ended = time.time()
        at.end(number)
        at.start()
        up, events, lost, open_now = time.time(), [], 0, count
        while lost < count or open_now < count:
            events.append(heard(agents))
            open_now += ("opened" in events[-1]) - events[-1].get("was_open", False)
            lost += events[-1].get("was_open", False)
        cpu = at.web_cpu()
    opened = sorted(event["opened"] for event in events if "opened" in event)
    peak = max(bisect_left(opened, start + 1) - place for place, start in enumerate(opened))
    while_up = [1000 * took for asked_at, took in pages if asked_at > up]
    return [
        f"{up - ended:.1f} s", f"{percentile(opened, 0.5) - up:.1f} s", f"{opened[-1] - up:.1f} s", f"{peak}/s",
        str(sum(event.get("code") == TRY_LATER for event in events)), f"{1000 * cpu / count:.1f} ms",
        f"{percentile(while_up, 0.5):.0f} ms", f"{max(while_up):.0f} ms",
    ]  # fmt: skip


@contextmanager
def pages_asked(at: Portal) -> Iterator[list[tuple[float, float]]]:
    """Ask for a page five times a second; when each was asked for and how many seconds it took, 30 where none came."""
    found: list[tuple[float, float]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.2):
            asked_at, took = time.time(), 30.0
            with suppress(OSError), urllib.request.urlopen(f"{at.url}/healthz", timeout=30):
                took = time.time() - asked_at
            found.append((asked_at, took))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join(60)


def readings(at: Portal, asked: argparse.Namespace) -> list[list[str]]:
    """Signed batches posted as fast as one web process takes them; the first hundred are not counted."""
    rows = []
    for leases, meters, at_once in ((25, 4, 4), (25, 4, 16), (3, 4, 16), (1, 1, 16)):
        options = {"count": WITH_LEASES, "leases": leases, "meters": meters, "at_once": at_once}
        _post(at, **options, batches=100)
        rows.append(_row(at, asked.batches, **options))
        print(rows[-1], flush=True)
    return rows


def _post(at: Portal, **options: object) -> tuple[dict, float, float]:
    with fleet("readings", at, **options) as agents:
        heard(agents)
        web, database = at.web_cpu(), at.database_cpu()
        agents.stdin.write("go\n")
        agents.stdin.flush()
        found = heard(agents)
        return found, at.web_cpu() - web, at.database_cpu() - database


def _row(at: Portal, batches: int, **options: object) -> list[str]:
    found, web, database = _post(at, **options, batches=batches)
    if found["failed"]:
        raise SystemExit(f"{found['failed']} batches were not accepted: {found['example']}")
    size = int(options["leases"]) * int(options["meters"])
    samples, taken = size * batches, [1000 * seconds for seconds in found["taken"]]
    return [
        str(size), str(options["at_once"]), f"{batches / found['seconds']:.0f}/s", f"{samples / found['seconds']:,.0f}/s",
        f"{samples / web:,.0f}", f"{1000 * web / batches:.2f} ms", f"{1000 * database / batches:.2f} ms",
        f"{percentile(taken, 0.5):.0f} ms", f"{percentile(taken, 0.99):.0f} ms",
    ]  # fmt: skip


TABLES = {
    "idle": (idle, "Idle links", ["links", "web process", "per link", "CPU", "opened", "still open at the end"]),
    "dispatch": (dispatch, "Dispatch", ["links", "polls a second beside it", "leases", "woken, median", "fetched, median", "fetched, p99", "slowest", "web CPU"]),
    "herd": (herd, "Reconnect herd", ["links", "web process", "away for", "half are back after", "all are back after", "most in a second", "sent away for a while", "web CPU a link", "a page beside it, median", "slowest"]),
    "readings": (readings, "Signed readings", ["readings a batch", "under way", "batches", "samples", "samples per CPU second of the web process", "web CPU a batch", "PostgreSQL CPU a batch", "median", "p99"]),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=[*TABLES, "all"])
    parser.add_argument("--quick", action="store_true", help="fewer of everything, to see that it runs")
    parser.add_argument("--write", action="store_true", help="put the tables into bench/results/fleet.md")
    asked = parser.parse_args()
    asked.links = [0, 1000, 2000] if asked.quick else [0, 1000, 2000, 10_000]
    asked.herd = 500 if asked.quick else 2000
    asked.leases, asked.batches = (100, 300) if asked.quick else (600, 2000)
    with portal(devices=max(asked.links), with_leases=WITH_LEASES) as at:
        _run(at, asked)


def _run(at: Portal, asked: argparse.Namespace) -> None:
    for name in TABLES if asked.what == "all" else [asked.what]:
        measure, title, columns = TABLES[name]
        began = os.getloadavg()[0]
        text = _table(title, columns, measure(at, asked), began)
        print(text, flush=True)
        if asked.write:
            _write(title, text)


def _table(title: str, columns: list[str], rows: list[list[str]], load: float) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    cpu = next(
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    )
    said = f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip()}, {cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, load before {load:.1f}."
    lines = ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *rows)]
    return "\n".join([f"## {title}", "", said, "", *lines, ""])


def _write(title: str, text: str) -> None:
    """Replace the section of this title, or add it."""
    old = RESULTS.read_text() if RESULTS.exists() else "# A fleet against one web process\n\n"
    parts = old.split("\n## ")
    kept = [parts[0].rstrip("\n") + "\n", *(f"## {part}" for part in parts[1:] if not part.startswith(f"{title}\n"))]
    RESULTS.write_text("\n".join([*(part.rstrip("\n") + "\n" for part in kept), text]))


if __name__ == "__main__":
    main()
