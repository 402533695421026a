"""How much of its pace a neighbour loses while another app abuses the device. Both are started by a real agent.

    python bench/sandbox/measure.py

The neighbour computes, writes to disk and answers over the network, in turns with and without the abuse, so that whatever else the
machine does hits both. The target is that it loses at most a tenth. Writes bench/results/sandbox.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.sandbox import overshoot  # noqa: E402
from bench.sandbox.overshoot import Case, Overshoot  # noqa: E402

MOST_LOST = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--storms", nargs="*", help="only these; nothing is written")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    arguments = parser.parse_args()
    from nodes.agent import protocol
    from nodes.agent.tests.probes import pace
    from nodes.agent.tests.probes.scene import UNSEEING, Scene, scene

    def longest_silence(here: Scene, began: float) -> float:
        reports = [at for at, path in here.portal.heard if path == protocol.REPORT_PATH and at > began]
        return max((after - before for before, after in pairwise(reports)), default=0.0)

    load, lines = os.getloadavg()[0], []
    with scene(Path(tempfile.mkdtemp())) as here:
        began = time.monotonic()
        for storm in (*pace.STORMS, *pace.MORE_STORMS) if arguments.storms is None else arguments.storms:
            found = pace.measure(
                here.apps["neighbour"],
                here.apps["baseline"],
                storm,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
            ratios = [found.ratio(what) for what in ("processor", "network", "disk")]
            lines.append(f"| {storm} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
            print(lines[-1], flush=True)
        gap = longest_silence(here, began)
    with scene(Path(tempfile.mkdtemp()), UNSEEING) as here:
        began = time.monotonic()
        beyond = [line(case, overshoot.measure(here, case)) for case in overshoot.CASES]
        gap = max(gap, longest_silence(here, began))
    print(f"longest time between two reports: {gap:.2f} s (every 2 s)")
    if arguments.storms is not None:
        return 0
    arguments.results.mkdir(exist_ok=True)
    (arguments.results / "sandbox.md").write_text(page(lines, beyond, gap, load, arguments))
    return 0


def line(case: Case, found: Overshoot) -> str:
    """Return and print a row of the second table."""
    mb, rate = found.beyond / 1e6, found.beyond / 1e6 / found.seconds if found.seconds else 0.0
    row = f"| {case.name} | {found.allowed / 1e6:.0f} MB | {mb:.0f} MB | {found.seconds:.2f} s | {rate:.0f} MB/s |"
    print(row, flush=True)
    return row


def page(lines: list[str], beyond: list[str], gap: float, load: float, arguments: argparse.Namespace) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return "\n".join(
        [
            "# What a neighbour keeps while another app abuses the device",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip()}, {platform.system()} {platform.release()}, "
            f"{os.cpu_count()} cores, load average {load:.1f} before and {os.getloadavg()[0]:.1f} after, "
            f"{arguments.rounds} windows of {arguments.seconds} s each way, in turns. "
            "Both apps have half a core. Median with the abuse by median without; the target is 0.90.",
            "",
            "| abuse | processor | network | disk |",
            "|---|---|---|---|",
            *lines,
            "",
            "An app of half a core writes files of 1 MiB as fast as it can, on a device that cannot hold its layer to a size:",
            "",
            "| it had made before | may hold | held beyond that when it was killed | from the limit to its end | at |",
            "|---|---|---|---|---|",
            *beyond,
            "",
            f"The agent reported every 2 s; the longest time between two reports was {gap:.2f} s.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
