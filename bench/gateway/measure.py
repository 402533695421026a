"""The gateway against plain Caddy and plain nginx, in turns on one machine; then 100 re-routes under load. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.update(
    DJANGO_SETTINGS_MODULE="interchain_site.settings",
    DEBUG="1",
    INTERCHAIN_ENV_FILE=os.devnull,
    FIELD_ENCRYPTION_KEYS="dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=",
)

import django  # noqa: E402

django.setup()

from django.test import override_settings  # noqa: E402

from bench.gateway import limits, proxies  # noqa: E402
from bench.gateway.proxies import Target  # noqa: E402
from interchain_site.core import redis  # noqa: E402
from interchain_site.testing.servers import free_port, valkey  # noqa: E402
from nodes.gateway.syncer import Syncer  # noqa: E402
from nodes.services import routes  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--reroutes", type=int, default=100)
    parser.add_argument("--trials", type=int, default=10, help="clients over their limit")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = [heading(), *throughput(Path(folder), parsed), *rerouted(Path(folder), parsed.reroutes)]
        lines += ["", limits.reaction(Path(folder), parsed.trials)]
    print("\n".join(lines))


def heading() -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    load = os.getloadavg()[0]
    return f"{time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip()}, {os.cpu_count()} cores ({platform.machine()}), load {load:.1f}.\n"


def throughput(folder: Path, parsed: argparse.Namespace) -> list[str]:
    """Return a table: requests a second with 50 connections, and the middle answer time with one."""
    many: dict[str, list[float]] = defaultdict(list)
    alone: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        port = stack.enter_context(proxies.upstream(folder, "upstream"))
        stack.enter_context(override_settings(REDIS_URL=stack.enter_context(valkey())))

        def apps(count: int, upstreams: int) -> dict[str, dict[str, Any]]:
            one = {"workload_id": proxies.WORKLOAD_ID, "status": "live", "upstreams": [f"127.0.0.1:{port}"] * upstreams}
            return {f"app{number}": one | {"name": f"app{number}"} for number in range(count)}

        targets = [
            Target("upstream itself", port),
            stack.enter_context(proxies.plain_caddy(folder, port)),
            stack.enter_context(proxies.plain_caddy(folder, port, "Caddy with its access log", log=True)),
            stack.enter_context(proxies.plain_caddy(folder, port, "Caddy, GOGC=400", env=proxies.AS_DEPLOYED)),
            stack.enter_context(proxies.plain_nginx(folder, port)),
            stack.enter_context(proxies.gateway(folder, "gateway 1 app", apps(1, 1), "app0")),
            stack.enter_context(proxies.gateway(folder, "gateway 1 app its log read", apps(1, 1), "app0", read=True)),
            stack.enter_context(proxies.gateway(folder, "gateway 2 upstreams", apps(1, 2), "app0")),
            stack.enter_context(proxies.gateway(folder, "gateway 1000 apps", apps(1000, 1), "app999")),
        ]
        for _ in range(parsed.rounds):
            for target in targets:
                many[target.name].append(wrk(target, 50, parsed.seconds)[0])
                alone[target.name].append(wrk(target, 1, 1)[1])
    middle = {name: statistics.median(found) for name, found in many.items()}
    waits = {name: statistics.median(found) for name, found in alone.items()}
    rows = [
        f"| {name} | {middle[name]:,.0f} | {middle[name] / middle['Caddy']:.2f} | {waits[name]:,.0f} "
        f"| {waits[name] - waits['upstream itself']:,.0f} |"
        for name in middle
    ]
    return ["| | requests/s | ÷ Caddy | p50 alone, µs | added p50, µs |", "|---|---|---|---|---|", *rows, ""]


def wrk(target: Target, connections: int, seconds: int) -> tuple[float, float]:
    """Return requests a second and the middle answer time in microseconds."""
    call = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {target.host}"]
    said = subprocess.run(
        [*call, f"http://127.0.0.1:{target.port}/"], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"{target.name}: {said}")
    number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)  # type: ignore[union-attr]
    return float(rate), float(number) * {"us": 1, "ms": 1_000, "s": 1_000_000}[unit]


def rerouted(folder: Path, count: int) -> list[str]:
    """Move an app back and forth under load, through Redis and a real syncer; return what failed."""
    listen = free_port()
    with ExitStack() as stack:
        ports = [stack.enter_context(proxies.upstream(folder, name)) for name in ("one", "two")]
        url = stack.enter_context(valkey())
        admin = stack.enter_context(proxies.caddy(folder / "moved", {}))
        values = {
            "REDIS_URL": url,
            "GATEWAY_LISTEN": f"127.0.0.1:{listen}",
            "GATEWAY_DOMAIN": proxies.DOMAIN,
            "GATEWAY_ADMIN_URL": f"http://127.0.0.1:{admin}",
            "GATEWAY_ACCESS_LOG": folder / "moved" / "access.log",
        }
        stack.enter_context(override_settings(**values))
        stop = threading.Event()
        publish(ports[0])
        syncing = threading.Thread(target=Syncer(stop).run)
        syncing.start()
        time.sleep(2)
        call = ["wrk", "-t1", "-c20", f"-d{count // 10 + 2}s", "-H", f"Host: blog.{proxies.DOMAIN}"]
        load = subprocess.Popen([*call, f"http://127.0.0.1:{listen}/"], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        for number in range(count):
            publish(ports[(number + 1) % 2])
            time.sleep(0.1)
        said = load.communicate()[0]
        stop.set()
        syncing.join()
    requests = re.search(r"(\d+) requests in", said).group(1)  # type: ignore[union-attr]
    errors = re.findall(r"Non-2xx[^\n]*|Socket errors[^\n]*", said)
    return [
        f"{count} re-routes, ten a second, under 20 busy connections: {requests} requests, failed: {errors or 'none'}."
    ]


def publish(port: int) -> None:
    document = {
        "name": "blog",
        "workload_id": proxies.WORKLOAD_ID,
        "status": "live",
        "upstreams": [f"127.0.0.1:{port}"],
    }
    client = redis.connection()
    client.hset(routes.ROUTES_KEY, "blog", json.dumps(document))
    client.set(routes.COMPLETE_KEY, "1")
    client.publish(routes.CHANGED_CHANNEL, "blog")


if __name__ == "__main__":
    main()
