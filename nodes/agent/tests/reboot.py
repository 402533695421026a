"""A device that loses its power and starts again, in a network of its own. Run by test_reboot.py.

What a reboot is to an agent happens for real: agent, Docker and every container end at once, their cgroups and bridges are gone and count
from zero, the kernel names another boot, and the monotonic clock begins anew (a time namespace).
Usage: unshare --net python -m nodes.agent.tests.reboot FOLDER
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from interchain_site.testing import docker as ordinary
from nodes.agent.counters import Counters
from nodes.agent.protocol import DesiredLease, HealthCheck, Image, Meter, Observed
from nodes.agent.tests.conftest import AgentProcess, counted_by_the_kernel, lease, told_in_full, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.private_engine import PrivateEngine, private_engine

SECONDS = 120.0
COMMAND = '["/bin/sh", "-c", "httpd -p 8080 -h /www; while true; do usleep 20000; done"]'
SINCE_BOOT_SECONDS = 20


def main(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with private_engine(folder, data=folder / "data", options=[], network=False) as docker, FakePortal() as portal:
        agent = AgentProcess(folder / "home", portal, engine=docker.address)
        agent.enrol()
        agent.start()
        try:
            scenario(docker, portal, agent, folder / "boot_id")
        finally:
            agent.kill()
            sys.stderr.write(agent.log)


def scenario(docker: PrivateEngine, portal: FakePortal, agent: AgentProcess, boot_id: Path) -> None:
    base = docker.docker("import", "-", "busybox:test", input=ordinary.busybox_root()).strip()
    image = docker.docker("build", "-q", "-", input=f"FROM {base}\nCMD {COMMAND}\n".encode()).strip()
    health = HealthCheck(kind="http", interval_seconds=1, start_seconds=60)
    wanted = [lease(workload(image=Image(reference=image), health=health, volume_path="/data")) for _ in range(2)]
    began = time.monotonic()
    portal.want(*wanted)
    for each in wanted:
        portal.wait_for(each.lease_id, Observed.RUNNING, SECONDS)
        told_in_full(portal, each.lease_id)

    used = cut_power(docker, agent, wanted, portal)
    told = {each.lease_id: portal.totals(each.lease_id) for each in wanted}
    boot_id.write_text(f"{uuid.uuid4()}\n")
    docker.start()
    agent.wrapper = another_boot(boot_id)
    agent.start()

    for each in wanted:
        portal.wait(lambda lease_id=each.lease_id: goes_on(portal, lease_id, told[lease_id]), SECONDS, "it goes on")
        least, known = counted_by_the_kernel(portal, each.lease_id), len(portal.readings)
        total = portal.wait(
            lambda lease_id=each.lease_id, n=known: next_total(portal, lease_id, n), SECONDS, "a reading"
        )
        # What was told stands, all since the reboot is added, and of what was used before at most what nobody had seen is missing.
        assert total >= told[each.lease_id][Meter.COMPUTE] + least
        assert total <= used[each.lease_id] + counted_by_the_kernel(portal, each.lease_id)
        assert portal.totals(each.lease_id)[Meter.UPTIME] <= (time.monotonic() - began) * 1000
        for meter in Meter:
            rising = [item.total for item in portal.readings if (item.lease_id, item.meter) == (each.lease_id, meter)]
            assert rising == sorted(rising), meter


def cut_power(
    docker: PrivateEngine, agent: AgentProcess, wanted: "list[DesiredLease]", portal: FakePortal
) -> "dict[str, int]":
    """End everything at once; returns what each lease had used by then, seen or not."""
    containers = docker.docker("ps", "-q").split()
    first = [int(pid) for pid in docker.docker("inspect", "-f", "{{.State.Pid}}", *containers).split()]
    shims = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in first}
    agent.kill()
    docker.kill()
    for pid in [*first, *shims]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + SECONDS
    while any(Path(f"/proc/{pid}/cgroup").exists() and not is_dead(pid) for pid in first):
        assert time.monotonic() < until, "a container's process does not end"
        time.sleep(0.1)
    used = {each.lease_id: counted_by_the_kernel(portal, each.lease_id) for each in wanted}
    for each in wanted:
        remove_cgroups(each.lease_id)
        assert Counters().cpu_nanoseconds(each.lease_id, 0) is None, "its cgroup is gone"
    listed = subprocess.run(["ip", "-o", "link", "show", "type", "bridge"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        subprocess.run(["ip", "link", "del", line.split(": ")[1]], check=True)
    return used


def remove_cgroups(lease_id: str) -> None:
    """Remove the lease's cgroup and those in it, of each hierarchy."""
    mounted = Path("/sys/fs/cgroup")
    for root in (mounted, *filter(Path.is_dir, mounted.iterdir())):
        for folder, _, _ in os.walk(root / "interchain" / lease_id, topdown=False):
            until = time.monotonic() + SECONDS
            while Path(folder).exists():
                with suppress(OSError):  # a process in it is still being ended
                    os.rmdir(folder)
                assert time.monotonic() < until, f"{folder} stays"
                time.sleep(0.01)


def is_dead(pid: int) -> bool:
    """Whether the process ended and only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def another_boot(boot_id: Path) -> "list[str]":
    """Return what to start a program with, so that the kernel tells it that it booted a short while ago."""
    back = SINCE_BOOT_SECONDS - int(time.monotonic())
    script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    clocks = ["--time", f"--monotonic={back}", f"--boottime={back}"]
    return [
        "unshare",
        "--fork",
        "--kill-child",
        "--mount",
        "--propagation",
        "slave",
        *clocks,
        "sh",
        "-c",
        script,
        str(boot_id),
    ]


def goes_on(portal: FakePortal, lease_id: str, before: "dict[Meter, int]") -> bool:
    now = portal.totals(lease_id)
    return all(now[meter] > before[meter] for meter in (Meter.COMPUTE, Meter.TRANSFER, Meter.UPTIME))


def next_total(portal: FakePortal, lease_id: str, known: int) -> int:
    """Return the compute total of the second reading from now on: the first may have been taken before."""
    new = [item.total for item in portal.readings[known:] if (item.lease_id, item.meter) == (lease_id, Meter.COMPUTE)]
    return new[1] if len(new) > 1 else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
