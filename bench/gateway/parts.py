"""Where the gateway's processor time goes: Caddy's time for a request with our configuration, and with one part of it left out.

    python bench/gateway/parts.py --rounds 4 --seconds 1

Processor time instead of requests a second, so that a busy machine blurs the figures but does not turn them round.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from django.test import override_settings

from bench.gateway import measure, proxies
from bench.gateway.proxies import Target
from interchain_site.testing.servers import valkey
from nodes.gateway.access_log import Tail
from nodes.gateway.pace import Pace

Document = dict[str, Any]
APP = "app0"


def without_log(document: Document) -> None:
    document.pop("logging")
    _server(document).pop("logs")


def without_writing(document: Document) -> None:
    document["logging"]["logs"]["gateway"]["writer"] = {"output": "discard"}


def in_memory(document: Document) -> None:
    """The log on a file system in memory."""
    writer = document["logging"]["logs"]["gateway"]["writer"]
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    writer["filename"] = str(folder / "access.log")


def without_look_for_the_unusual(document: Document) -> None:
    routes = _server(document)["routes"]
    routes[:] = [route for route in routes if not any("file" in match for match in route.get("match", ()))]


def without_mark(document: Document) -> None:
    _server(document)["routes"] = _strip(_server(document)["routes"], "log_append")


def without_board(document: Document) -> None:
    """The upstream's address stands in the configuration."""
    routes = json.dumps(_server(document)["routes"])
    files = set(re.findall(r"\{file\.([^}]*/apps/[^}]*)\}", routes))
    for file in files:
        routes = routes.replace(f"{{file.{file}}}", Path(file).read_text())
    _server(document)["routes"] = json.loads(routes)


def requests_in_both_logs(document: Document) -> None:
    """As it was before: each request made into text for the log of errors too, where only errors are written."""
    document["logging"]["logs"]["default"].pop("encoder")


def without_anything(document: Document) -> None:
    """All that is left is the board."""
    without_log(document)
    without_look_for_the_unusual(document)
    without_mark(document)


PARTS: dict[str, Callable[[Document], None]] = {
    "ours": lambda document: None,
    "no access log": without_log,
    "log made, not written": without_writing,
    "log in memory": in_memory,
    "requests in the log of errors": requests_in_both_logs,
    "no look for the unusual": without_look_for_the_unusual,
    "no mark in the log": without_mark,
    "no board": without_board,
    "the board alone": without_anything,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=1)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), parsed.rounds, parsed.seconds)
    plain = statistics.median(found["Caddy"])
    lines = [
        measure.heading(),
        "| | µs of Caddy's processor time a request | least | more than plain |",
        "|---|---|---|---|",
    ]
    for name, each in found.items():
        middle = statistics.median(each)
        lines.append(f"| {name} | {middle:.0f} | {min(each):.0f} | {middle - plain:+.0f} |")
    lines += ["", f"The log's reader takes {reading():.1f} µs of processor time a line."]
    print("\n".join(lines))


def reading(lines: int = 100_000) -> float:
    """Return the microseconds in which one line is read and counted, 1,000 clients of 50 apps."""
    apps = [str(uuid.UUID(int=number)) for number in range(50)]
    with tempfile.TemporaryDirectory() as folder, valkey() as url:
        path = Path(folder) / "access.log"
        with path.open("w") as out:
            for number in range(lines):
                line = f"{apps[number % 50]} 192.0.{number % 4}.{number % 250} 127.0.0.1:40000 "
                entry = {"ts": 1_800_000_000 + number / 5000, "bytes_read": 0, "status": 200, "size": 1024, "app": line}
                out.write(json.dumps(entry) + "\n")
        with override_settings(GATEWAY_ACCESS_LOG=path, REDIS_URL=url):
            tail, before = Tail(threading.Event(), Pace()), time.process_time()
            while tail.step():
                pass
            return (time.process_time() - before) / lines * 1e6


def compare(folder: Path, rounds: int, seconds: int) -> dict[str, list[float]]:
    """Return microseconds a request, of each round."""
    found: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        port = stack.enter_context(proxies.upstream(folder, "upstream"))
        app = {"name": APP, "workload_id": proxies.WORKLOAD_ID, "status": "live", "upstreams": [f"127.0.0.1:{port}"]}
        targets = [stack.enter_context(proxies.plain_caddy(folder, port))]
        for name, change in PARTS.items():
            targets.append(stack.enter_context(proxies.gateway(folder, name, {APP: app}, APP, change=change)))
        targets.append(stack.enter_context(proxies.gateway(folder, "ours, GOGC=100", {APP: app}, APP, env={})))
        tuned = proxies.plain_caddy(folder, port, "Caddy, GOGC=400", env=proxies.AS_DEPLOYED)
        targets.append(stack.enter_context(tuned))
        targets.append(stack.enter_context(proxies.plain_caddy(folder, port, "Caddy with its access log", log=True)))
        pids = [_listener(target.port) for target in targets]
        for _ in range(rounds):
            for target, pid in zip(targets, pids, strict=True):
                before = _processor_seconds(pid)
                requests = _load(target, seconds)
                found[target.name].append((_processor_seconds(pid) - before) / requests * 1e6)
    return found


def _load(target: Target, seconds: int) -> int:
    call = ["wrk", "-t1", "-c20", f"-d{seconds}s", "-H", f"Host: {target.host}", f"http://127.0.0.1:{target.port}/"]
    said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"{target.name}: {said}")
    return int(re.search(r"(\d+) requests in", said).group(1))  # type: ignore[union-attr]


def _processor_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _listener(port: int) -> int:
    said = subprocess.run(["ss", "-ltnpH", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"pid=(\d+)", said).group(1))  # type: ignore[union-attr]


def _server(document: Document) -> Document:
    server: Document = document["apps"]["http"]["servers"]["interchain"]
    return server


def _strip(part: Any, handler: str) -> Any:
    """Return a part of a configuration without handlers of this name."""
    if isinstance(part, dict):
        return {key: _strip(value, handler) for key, value in part.items()}
    if isinstance(part, list):
        return [_strip(one, handler) for one in part if not (isinstance(one, dict) and one.get("handler") == handler)]
    return copy.deepcopy(part)


if __name__ == "__main__":
    main()
