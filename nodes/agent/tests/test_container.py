"""The agent as a container, run with the very options of the device's page, serves an app, meters it and keeps its limits.

A door of its own, not part of `bin/test`: build the image first (nodes/agent/Dockerfile), then
`INTERCHAIN_NODE_IMAGE=… bin/test nodes/agent/tests/test_container.py`. Building it inside a test would fetch packages each time.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.protocol import Image, Meter, Observed
from nodes.agent.tests.conftest import lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_life_of_a_lease import SERVE, get

IMAGE = os.environ.get("INTERCHAIN_NODE_IMAGE", "")
pytestmark = pytest.mark.docker


@pytest.fixture
def container(portal: FakePortal, docker_engine: None) -> "Iterator[str]":
    from nodes.screens import DOCKER_OPTIONS

    name = f"interchain-node-{uuid.uuid4().hex[:8]}"
    root = engine.docker("info", "-f", "{{.DockerRootDir}}")
    options = (
        " ".join(DOCKER_OPTIONS)
        .replace("interchain-node", name)
        .replace("/var/lib/" + name, "/var/lib/interchain-node")
    )
    options = options.replace("/var/lib/docker:/var/lib/docker", f"{root}:{root}")
    start = ["start", "--portal", portal.url, "--token", "good", "--endpoint-host", "127.0.0.1"]
    engine.docker("run", *shlex.split(options), IMAGE, *start)
    try:
        yield name
    finally:
        print(subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False).stderr)  # noqa: T201
        engine.docker("rm", "-f", name)
        engine.docker("volume", "rm", "-f", name)
        engine.remove_labelled(f"io.interchain.device={portal.device_id}")


def test_a_container_is_as_good_a_device(container: str, portal: FakePortal) -> None:
    portal.wait(lambda: portal.linked, 60, "the agent in its container")
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), volume_path="/data"))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING, 60)
    for _ in range(10):
        assert "hello" in get(status.host_port)
    engine.docker("exec", f"interchain-{wanted.lease_id}", "sh", "-c", "echo data > /data/file")
    for meter in (Meter.TRANSFER, Meter.COMPUTE, Meter.UPTIME, Meter.STORAGE):
        portal.wait(lambda meter=meter: portal.totals(wanted.lease_id).get(meter, 0) > 0, 30, meter.value)
    assert portal.reports[-1][1].can_update is False, "it is updated by a newer image"
    device = portal.device_id
    engine.docker("restart", container)
    heard = len(portal.reports)
    portal.wait(lambda: len(portal.reports) > heard and portal.linked, 60, "the same device after a restart")
    assert portal.device_id == device
    said = engine.docker("exec", container, "python3", "-m", "nodes.agent", "status")
    assert wanted.lease_id in said

    # Removed as the documentation says.
    engine.docker("stop", container)
    engine.docker(
        "run", "--rm", "--volumes-from", container, "--network", "host", "--cap-add", "NET_ADMIN",
        "--cap-add", "NET_RAW", IMAGE, "uninstall", "--yes",
    )  # fmt: skip
    assert portal.left
    chosen = f"label=io.interchain.device={portal.device_id}"
    for listing in (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"]):
        assert engine.docker(*listing, "--filter", chosen) == ""
