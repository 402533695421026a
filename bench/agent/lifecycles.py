"""Take an agent through thousands of container lifecycles and see whether it grows.

    python bench/agent/lifecycles.py --cycles 5000 --at-once 4

One cycle is start → running (its health check passes) → stop → wipe with a signed receipt → no longer named, against a real
Engine, with the agent as a process of its own; the portal is the small one of the agent's tests, in another process. Memory is
read when nothing runs: after the warm-up, every 250 cycles and at the end. With --simulated the containers are those of
`simulated_engine.py`: what the agent does for them is the same, and a minute takes ten times as many.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.agent.process import memory_kib, seconds_of_cpu, started_agent  # noqa: E402
from bench.agent.simulated_engine import simulated  # noqa: E402
from interchain_site.testing import docker as engine  # noqa: E402
from nodes.agent.protocol import Action, Image, Observed  # noqa: E402
from nodes.agent.tests.conftest import lease, workload  # noqa: E402
from nodes.agent.tests.portal import FakePortal  # noqa: E402

SERVE = "httpd -f -p 8080 -h /www"
ALLOWED_KIB = 1024
PATIENCE_SECONDS = 900.0  # the machine may do other work


def main() -> int:
    """Run, print and write the result; returns 1 when the agent grew by more than a mebibyte."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--cycles", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--warm-up", type=int, default=200)
    parser.add_argument(
        "--simulated", action="store_true", help="against an Engine that starts nothing; needs a real one too"
    )
    parser.add_argument("--to", type=Path, default=ROOT / "bench" / "results" / "agent-lifecycles.json")
    chosen = parser.parse_args()
    image = engine.image(SERVE)
    with ExitStack() as stack:
        portal, folder = stack.enter_context(FakePortal()), Path(stack.enter_context(tempfile.TemporaryDirectory()))
        at = folder / "docker.sock"
        if chosen.simulated:
            stack.enter_context(simulated(at))
        pid = stack.enter_context(started_agent(portal, folder, engine_at=f"unix://{at}" if chosen.simulated else ""))
        cycles(portal, image, chosen.warm_up, chosen.at_once)
        samples = [sample(portal, pid, 0)]
        began, cpu = time.monotonic(), seconds_of_cpu(pid)
        done = 0
        while done < chosen.cycles:
            step = min(250, chosen.cycles - done)
            cycles(portal, image, step, chosen.at_once)
            done += step
            samples.append(sample(portal, pid, done))
            write(chosen, samples, time.monotonic() - began, seconds_of_cpu(pid) - cpu)
    return 0 if samples[-1]["rss_kib"] - samples[0]["rss_kib"] <= ALLOWED_KIB else 1


def cycles(portal: FakePortal, image: str, count: int, at_once: int) -> None:
    """Take so many leases through their whole life, a few at once."""
    done = 0
    while done < count:
        leases = [
            lease(workload(image=Image(reference=image), cpu_millis=200)) for _ in range(min(at_once, count - done))
        ]
        portal.want(*leases)
        for each in leases:
            portal.wait_for(each.lease_id, Observed.RUNNING, PATIENCE_SECONDS)
        portal.want(*(lease(each.workload, action=Action.WIPE, lease_id=each.lease_id) for each in leases))
        for each in leases:
            portal.wait_for(each.lease_id, Observed.WIPED, PATIENCE_SECONDS)
        portal.want()
        done += len(leases)
        # The portal is no part of what is measured, and must not grow slow either.
        for kept in (portal.reports, portal.readings, portal.receipts):
            del kept[:-50]
        portal.batches.clear()
        portal.tokens.clear()


def sample(portal: FakePortal, pid: int, done: int) -> dict[str, int]:
    """Return the agent's memory once it has come to rest."""
    time.sleep(5)
    rss = min(memory_kib(pid)["Rss"] for _ in range(3))
    found = {"cycles": done, "rss_kib": rss, "threads": len(list(Path(f"/proc/{pid}/task").iterdir()))}
    found["descriptors"] = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    found |= {f"{part}_kib": size for part, size in parts(pid).items()}
    print(found, flush=True)
    return found


def parts(pid: int) -> dict[str, int]:
    """Return what is resident (KiB) of the C heap, of Python's own arenas (mapped by the megabyte), of threads' stacks, of files, and the rest."""
    found: Counter[str] = Counter()
    kind = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head, _, rest = line.partition(" ")
        if not head.endswith(":"):
            first, last = (int(end, 16) for end in head.split("-"))
            name, size = " ".join(rest.split()[4:]), last - first
            kind = "files" if name.startswith("/") else {"[heap]": "heap", "[stack]": "stacks"}.get(name, "other")
            if not name:
                kind = "stacks" if size == 8 * 2**20 else "arenas" if size % 2**20 == 0 else "other"
        elif head == "Rss:":
            found[kind] += int(rest.split()[0])
    return dict(found)


def write(chosen: argparse.Namespace, samples: list[dict[str, int]], took: float, cpu: float) -> None:
    done = samples[-1]["cycles"]
    figures = {
        "cycles": done,
        "asked": chosen.cycles,
        "at_once": chosen.at_once,
        "simulated": chosen.simulated,
        "warm_up": chosen.warm_up,
        "seconds": round(took),
        "cycles_per_minute": round(60 * done / took, 1),
        "agent_cpu_ms_per_cycle": round(1000 * cpu / done, 1),
        "grown_kib": samples[-1]["rss_kib"] - samples[0]["rss_kib"],
        "median_rss_kib": statistics.median(each["rss_kib"] for each in samples),
        "samples": samples,
    }
    chosen.to.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
