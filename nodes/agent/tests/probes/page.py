"""`python -m nodes.agent.tests.probes.page`: write docs/sandbox.md from the tables; `--check` only says whether it is current."""

from __future__ import annotations

import sys
from pathlib import Path

from nodes.agent.tests.probes.bombs import BOMBS
from nodes.agent.tests.probes.fillings import DISK_BYTES, FILLINGS, LAYER_BYTES, MB
from nodes.agent.tests.probes.table import ESCAPES, Probe
from nodes.agent.tests.probes.weakened import UNBOUNDED, WEAKENINGS

PAGE = Path(__file__).resolve().parents[4] / "docs/sandbox.md"
HEAD = """# The sandbox, tried

Made by `python -m nodes.agent.tests.probes.page` from the tables the tests run (`nodes/agent/tests/probes/`); a test fails when this page is stale. Do
not edit it. What a container gets and why is in [agent-protocol.md](agent-protocol.md#what-a-container-may-do) and `nodes/agent/sandbox.py`.

Each probe runs from inside an app that the agent started, as a child of the app's own process, in CI, against a real Docker Engine. It counts
as refused when the kernel answers with one of the errors listed, or nobody outside is reached, **and** what the last column names is the same on the
device as before. Apps: `restricted` and `baseline` are closed, `outbound` is a `baseline` app that may open connections to the internet.

CI runs them with Debian 12's Docker, 20.10. The escapes were also tried with 28.5, as it comes and set up as Docker 29
comes (images in containerd's store): none succeeded. `python -m interchain_site.local.engines 28 nodes/agent/tests/probes/test_escapes.py` tries them again.
"""
BOMB_HEAD = """
| kind | tries to | app | ends with | seen from outside |
|---|---|---|---|---|
"""
FILLING_HEAD = f"""
Each runs as a `baseline` app of its own with a volume of {DISK_BYTES // MB} MiB and so {LAYER_BYTES // MB} MiB beside it, on a disk where Docker itself holds nothing to a size: both are file systems
of their own. After each the app is wiped: its container, its layer's and volume's files and loop devices are gone, and the agent missed no beat. The first ways but
allocating run once more with an agent that cannot hold the layer and looks at it: each time it stops the app, and says why.

| tries to | in its | ends with | seen from outside |
|---|---|---|---|
"""
OTHERS = """
While an app forks, fills memory, disk and logs, runs eight processes and sends packets nobody takes, the agent reports, polls and delivers readings
on time, its link stays up, and a neighbour goes on (`test_neighbours.py`); how much of its pace it keeps is measured in
[bench/sandbox](../bench/sandbox/README.md).

## What is not held

- **inotify** where the agent may not raise Linux's counts (it runs in a container of its own, and nobody typed what the device's page says): programs with one user
  number then have 128 instances together, and an app that takes them all leaves none to root's programs and to its neighbours while it runs.
- **Docker's files in /etc.** What a root app writes into `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, which are Docker's files outside of every limit, is looked at; one of them can be as
  large as `disk_bytes` before it is seen, and then the app is stopped.
- **Writable layer, on some devices.** Where neither Docker nor the agent can hold it to a size (`layer_limit` of the doctor: another storage driver than overlay2 or containerd's overlayfs, an agent in a
  container that cannot see Docker's mounts), the agent looks how much it holds, and stops the app; until then the app writes ([ADR 0334](adr/0334-who-fills-the-disk.md)). Seen, by an app of half a core: 2 GB
  beyond its limit with 400,000 files made before, and by `fallocate`, which takes what it is given in one call, 6.4 GB in a second. A removed file that is only in a
  message between two sockets is not seen at all. That is for a device that cannot: where it could not be tried (a full disk, a Docker that is slow or gone) an app waits, with the words, and it is tried
  again; neither a volume nor a layer is begun without its limit meanwhile.
- **A device's disk that others fill.** An app's volume and layer are sparse files. The portal promises no more than the owner lends, but nobody keeps that free. Where less than 256 MiB are left, an app that goes on writing
  is ended (`device_error`) and started again, five times at most (`nodes/agent/disk_reserve.py`). A program of the owner's that takes the last 256 MiB at once, and an app under gVisor, whose writes cannot be seen, are
  beyond that: what an app wrote and did not flush may be lost then by the kernel, which makes that file system read-only; what was flushed stays.
- **The disk's pace.** An app is held to its part of what the disk can when each MiB is flushed: a quarter of that, times its part of the processors, at least 8 MiB a second, whether
  others write or not ([ADR 0337](adr/0337-a-part-of-the-disks-pace.md)); beside one that flushes as fast as it may, a neighbour keeps its own ([results](../bench/results/sandbox.md)). Writes are counted as well, at 3,000 a second for
  each core the app has, and the writable layer is held like the volume ([ADR 0338](adr/0338-writes-are-counted-too.md)). Not held: reading, a layer that is no file system of its own, files that are made, flushed and removed
  again and again (the journal's thread is the kernel's; some 0.4 of a core goes to it and to others), and what the kernel writes on its own (on cgroup v1 also what was written long before). On a disk so slow that the least parts are more than all of it, neighbours wait for each other.
- **gVisor** is another sandbox: these tables are what apps under runc may do. Under gVisor the same limits, bridge and firewall hold; its trial (`nodes/agent/gvisor.py`)
  shows them on each device.
- **Docker's own work** for an app's network is not within the app's quota of the processor, nor is that for its log, which the agent holds to
  256 kB a second by reading along (`nodes/agent/log_brake.py`) while it runs.
"""
CONTROLS = """
## The probes can succeed

A probe that cannot succeed proves nothing. Each of these does, or gets past the refusal, in the same container with one lock taken off
(`test_controls.py`):

| without | succeed |
|---|---|
"""


def page() -> str:
    """Return docs/sandbox.md as it should be."""
    parts = [
        HEAD,
        f"\n## {len(ESCAPES)} escapes: none succeeds\n",
        _table(ESCAPES),
        f"\n## {len(BOMBS)} abuses: each is held\n{BOMB_HEAD}".rstrip("\n"),
    ]
    parts += [f"| {one.kind} | {one.tries} | {one.app} | {', '.join(one.ends.split())} | {one.seen} |" for one in BOMBS]
    parts += [f"\n## {len(FILLINGS)} ways to fill the disk\n{FILLING_HEAD}".rstrip("\n")]
    parts += [
        f"| {one.tries} | {one.where} | {', '.join(one.ends.split()) or 'the app killed'} | {one.seen} |"
        for one in FILLINGS
    ]
    parts += [OTHERS.rstrip("\n"), CONTROLS.rstrip("\n")]
    parts += [f"| {one.name} | {', '.join(one.probes)} |" for one in WEAKENINGS]
    parts += [f"| {name} | `{line}` |" for name, _, line in UNBOUNDED]
    return "\n".join(parts) + "\n"


def _table(probes: tuple[Probe, ...]) -> str:
    lines = ["| kind | tries to | apps | refused with | the same on the device |", "|---|---|---|---|---|"]
    for probe in sorted(probes, key=lambda one: one.kind):
        refused = "no answer" if probe.refused == "ETIMEDOUT" else ", ".join(probe.refused.split())
        same = "nobody was reached" if probe.same == "arrivals" else probe.same
        lines.append(f"| {probe.kind} | {probe.tries} | {', '.join(probe.apps)} | {refused} | {same} |")
    return "\n".join(lines)


def main() -> int:
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    return 0 if PAGE.read_text() == page() else 1


if __name__ == "__main__":
    sys.exit(main())
