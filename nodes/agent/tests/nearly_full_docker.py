"""A Docker whose disk is nearly full while two apps write, one to its volume and one beside, and a third does not. Run by test_full_docker.py.

Usage: unshare --net python -m nodes.agent.tests.nearly_full_docker FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from interchain_site.testing import docker as ordinary
from nodes.agent import sandbox
from nodes.agent.diagnosis import DISK_FULL
from nodes.agent.protocol import HealthCheck, Image, Observed, Reason
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.private_engine import PrivateEngine, private_engine
from nodes.agent.tests.sized_disk import Disk, disk

SECONDS, MB = 120.0, 2**20
LEFT_BYTES = 300 * MB
COMMAND = ["/bin/sh", "-c", "httpd -f -p 8080 -h /www"]
HEALTH = HealthCheck(kind="http", interval_seconds=1, start_seconds=60)


def main(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    options = ["--storage-driver", "overlay2"]
    with (
        disk(folder / "data", "ext4") as full,
        private_engine(folder, data=full.folder, options=options, network=False) as docker,
        FakePortal() as portal,
    ):
        agent = AgentProcess(folder / "home", portal, engine=docker.address)
        agent.enrol()
        agent.start()
        try:
            scenario(docker, portal, full)
        finally:
            agent.kill(15)
            sys.stderr.write(agent.log)


def scenario(docker: PrivateEngine, portal: FakePortal, full: Disk) -> None:
    """Who writes is ended with what it flushed kept; who does not goes on; with room again all run."""
    base = docker.docker("import", "-", "busybox:test", input=ordinary.busybox_root()).strip()
    text = f"FROM {base}\nCMD {json.dumps(COMMAND)}\n"
    image = Image(reference=docker.docker("build", "-q", "-", input=text.encode()).strip())
    asked = {"image": image, "health": HEALTH, "disk_bytes": 400 * MB, "memory_bytes": 256 * MB}
    keeps, writes, rests = (lease(workload(**asked, volume_path=path)) for path in ("/data", "", "/data"))
    portal.want(keeps, writes, rests)
    for one in (keeps, writes, rests):
        portal.wait_for(one.lease_id, Observed.RUNNING, SECONDS)
    name = sandbox.container_name(keeps.lease_id)
    docker.docker("exec", name, "/bin/sh", "-c", "echo precious > /data/kept; sync")
    before = docker.docker("inspect", "-f", "{{.State.StartedAt}}", sandbox.container_name(rests.lease_id))
    for one, path in ((keeps, "/data/large"), (writes, "/large")):
        full.fill(but=LEFT_BYTES)
        # Faster than the disk takes it: what it wrote lies in memory, and has no place yet.
        command = f"dd if=/dev/zero of={path} bs=1M count=350; sync"
        container = sandbox.container_name(one.lease_id)
        subprocess.run(["docker", "-H", docker.address, "exec", container, "/bin/sh", "-c", command], check=False)
        status = portal.wait(
            lambda one=one: (found := portal.status(one.lease_id)) and found.reason is Reason.DEVICE_ERROR and found,
            SECONDS,
            "that it was ended",
        )
        assert status.message == DISK_FULL
        full.empty()
        portal.wait_for(one.lease_id, Observed.RUNNING, SECONDS)
        assert docker.docker("exec", container, "/bin/sh", "-c", f"touch {path}2 && echo writable") == "writable\n"
        docker.docker("exec", container, "rm", path)
    assert docker.docker("exec", name, "cat", "/data/kept") == "precious\n"
    assert portal.wait_for(rests.lease_id, Observed.RUNNING, SECONDS)
    after = docker.docker("inspect", "-f", "{{.State.StartedAt}}", sandbox.container_name(rests.lease_id))
    assert after == before, "who does not write is not ended"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
