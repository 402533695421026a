"""Where the gateway's processor time goes: Caddy's time for a request with our configuration, and with one part of it left out.

    python bench/gateway/parts.py --rounds 4 --seconds 1

Processor time instead of requests a second, so that a busy machine blurs the figures but does not turn them round.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.gateway import measure, proxies
from bench.gateway.proxies import Target

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


def without_marks(document: Document) -> None:
    _server(document)["routes"] = _strip(_server(document)["routes"], "log_append")


def without_anything(document: Document) -> None:
    """All that is left is the board: an address read from a file."""
    without_log(document)
    without_look_for_the_unusual(document)
    without_marks(document)


PARTS: dict[str, Callable[[Document], None]] = {
    "ours": lambda document: None,
    "no access log": without_log,
    "log made, not written": without_writing,
    "log in memory": in_memory,
    "no look for the unusual": without_look_for_the_unusual,
    "no marks in the log": without_marks,
    "none of these": without_anything,
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
    print("\n".join(lines))


def compare(folder: Path, rounds: int, seconds: int) -> dict[str, list[float]]:
    """Return microseconds a request, of each round."""
    found: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        port = stack.enter_context(proxies.upstream(folder, "upstream"))
        app = {"name": APP, "workload_id": "0" * 36, "status": "live", "upstreams": [f"127.0.0.1:{port}"]}
        targets = [stack.enter_context(proxies.plain_caddy(folder, port))]
        for name, change in PARTS.items():
            targets.append(stack.enter_context(proxies.gateway(folder, name, {APP: app}, APP, change=change)))
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
