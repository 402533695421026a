"""Placements a second on 1,000 devices, with 100, 1,000 and 10,000 apps running, on a real PostgreSQL and a real Valkey.

`python bench/placement/run.py [--devices N] [--processes N] [--waiting N] [--write]`. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
RUNNING = (100, 1_000, 10_000)
# As it is in production: what is committed is on the disk.
DURABLE = ("listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=256MB")


@dataclass(frozen=True)
class Figures:
    """What was seen with so many apps running."""

    running: int
    together: float  # waiting slots placed a second, by all processes
    queries: int  # of one process, for all it placed
    alone: float  # single placements a second, by all processes
    median_ms: float  # of a single placement


def main() -> None:
    asked = _arguments()
    if asked.step:
        import django

        django.setup()
        from bench.placement import steps

        steps.STEPS[asked.step](asked)
        return
    from interchain_site.local import postgres
    from interchain_site.testing.servers import valkey

    rows = []
    with tempfile.TemporaryDirectory() as folder, valkey() as redis_url:
        Path(folder).chmod(0o755)  # the server runs as another user when this is root
        with postgres.cluster(Path(folder) / "pg", settings=DURABLE) as url:
            environment = _environment(Path(folder), url, redis_url)
            for running in RUNNING:
                rows.append(_measure(running, asked, environment))
                print(rows[-1], flush=True)
    text = _table(rows, asked)
    print(text)
    if asked.write:
        (ROOT / "bench" / "results" / "placement.md").write_text(text)


def _measure(running: int, asked: argparse.Namespace, environment: dict[str, str]) -> Figures:
    def step(name: str) -> None:
        subprocess.run(_command(name, running, asked), env=environment, check=True)

    step("prepare")
    swept = _together("sweep", running, asked, environment)
    if sum(one["placed"] for one in swept) != asked.waiting:
        raise SystemExit(f"{swept}: not all that waited were placed")
    step("tidy")
    single = _together("single", running, asked, environment)
    step("tidy")
    elapsed = max(one["ended"] for one in swept) - min(one["began"] for one in swept)
    return Figures(
        running=running,
        together=asked.waiting / elapsed,
        queries=max(int(one["queries"]) for one in swept),
        alone=sum(one["placed"] / (one["ended"] - one["began"]) for one in single),
        median_ms=sum(one["median"] for one in single) / len(single),
    )


def _together(
    step: str, running: int, asked: argparse.Namespace, environment: dict[str, str]
) -> list[dict[str, float]]:
    """Run a step in several processes, all beginning once the last is ready; returns what each says."""
    command = _command(step, running, asked)
    children = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(asked.processes)
    ]
    for child in children:
        assert child.stdout is not None
        if child.stdout.readline().strip() != "ready":
            raise SystemExit("A process did not come up.")
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    time.sleep(0.1)
    return [json.loads(child.communicate()[0].strip().splitlines()[-1]) for child in children]


def _command(step: str, running: int, asked: argparse.Namespace) -> list[str]:
    given = {"--step": step, "--running": running, "--devices": asked.devices}
    given |= {"--seconds": asked.seconds, "--waiting": asked.waiting}
    words = [word for name, value in given.items() for word in (name, str(value))]
    return [sys.executable, str(Path(__file__).resolve()), *words]


def _environment(folder: Path, url: str, redis_url: str) -> dict[str, str]:
    ours = {
        "DJANGO_SETTINGS_MODULE": "interchain_site.settings",
        "INTERCHAIN_ENV_FILE": "/dev/null",
        "SECRET_KEY": "bench",
        "LOG_LEVEL": "WARNING",
        "FIELD_ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktdGVzdHMtb25seS1rZXktISE=",
        "DATA_DIR": str(folder),
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **ours}


def _table(rows: list[Figures], asked: argparse.Namespace) -> str:
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    lines = [
        "# Placement: workloads a second",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f},"
        f" Python {platform.python_version()}, {asked.devices:,} devices, {asked.processes} processes at the same time,"
        f" {asked.waiting:,} slots waiting.",
        "",
        "| apps that run | waiting slots placed a second | statements of one process for its share | one by one, a second | median of one, ms |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.running:,} | {row.together:,.0f} | {row.queries:,} | {row.alone:,.0f} | {row.median_ms:.1f} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--waiting", type=int, default=4_000)
    parser.add_argument("--seconds", type=float, default=3, help="of placing one by one")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--running", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--step", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
