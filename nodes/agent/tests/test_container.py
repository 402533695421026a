"""The agent as a container: its own Dockerfile, the command of the device's page, an app's life, a drain, and the removal the documentation has.

With INTERCHAIN_NODE_IMAGE it is the image of that name that is tried, on a machine that can pull one.
"""

from __future__ import annotations

import shlex
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from interchain_site.local.steps import ROOT
from interchain_site.testing import docker as engine
from interchain_site.testing import node_image
from nodes.agent import firewall, process_settings, sandbox
from nodes.agent.counters import CGROUP_HOME
from nodes.agent.protocol import Action, Image, Meter, Mode, Observed
from nodes.agent.tests import leftovers
from nodes.agent.tests.conftest import lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.test_life_of_a_lease import SERVE, get

pytestmark = pytest.mark.docker
DOCS = ROOT / "docs" / "agent-protocol.md"


@pytest.fixture(scope="module")
def image(docker_engine: None) -> str:
    return node_image.image()


@pytest.fixture
def container(portal: FakePortal, image: str, settings) -> Iterator[str]:
    """Run what the device's page says, under a name of its own and with Docker's folder where it is here."""
    from nodes import screens

    settings.NODE_IMAGE, settings.PORTAL_URL = image, portal.url
    name, root = f"interchain-node-{uuid.uuid4().hex[:8]}", engine.docker("info", "-f", "{{.DockerRootDir}}")
    shown = _named(screens.docker_command("good"), name, image)
    words = shlex.split(shown.replace("/var/lib/docker:/var/lib/docker", f"{root}:{root}"))
    assert words[:2] == ["sudo", "docker"]
    engine.docker(*words[2:], "--endpoint-host", "127.0.0.1")
    try:
        yield name
    finally:
        print(subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False).stderr)  # noqa: T201
        for what in (["rm", "-f", name], ["volume", "rm", "-f", name]):
            subprocess.run(["docker", *what], capture_output=True, check=False)
        engine.remove_labelled(f"io.interchain.device={portal.device_id}")


def test_from_the_page_s_command_to_nothing_left(container: str, portal: FakePortal, image: str) -> None:
    portal.wait(lambda: portal.linked, 60, "the agent in its container")
    wanted = lease(workload(image=Image(reference=engine.image(SERVE)), volume_path="/data"))
    portal.want(wanted)
    _is_served_and_metered(portal, wanted.lease_id)
    assert portal.reports[-1][1].can_update is False, "it is updated by a newer image"

    has = Path(f"/proc/{engine.docker('inspect', '-f', '{{.State.Pid}}', container)}/environ").read_text().split("\0")
    assert {f"{name}={value}" for name, value in process_settings.SETTINGS.items()} <= set(has)

    device, heard = portal.device_id, len(portal.reports)
    engine.docker("restart", container)
    portal.wait(lambda: len(portal.reports) > heard and portal.linked, 60, "the same device after a restart")
    assert portal.device_id == device
    portal.wait(lambda: wanted.lease_id in _typed(container, "status"), 60, "the app in what its owner reads")

    _typed(container, "drain")
    portal.wait(lambda: portal.reports[-1][1].mode is Mode.DRAINING, 60, "the report of the drain")
    portal.want(replace(wanted, action=Action.STOP))  # the portal has moved it away
    portal.wait_for(wanted.lease_id, Observed.STOPPED, 60)
    assert "Nothing runs here." in _typed(container, "status")

    for command in _removal(container, image):
        engine.docker(*command)
    assert portal.left
    assert _remains(portal.device_id, wanted.lease_id, container) == []


def _is_served_and_metered(portal: FakePortal, lease_id: str) -> None:
    status = portal.wait_for(lease_id, Observed.RUNNING, 60)
    for _ in range(10):
        assert "hello" in get(status.host_port)
    engine.docker("exec", sandbox.container_name(lease_id), "sh", "-c", "echo data > /data/file")

    def counted(meter: Meter) -> Callable[[], bool]:
        return lambda: portal.totals(lease_id).get(meter, 0) > 0

    for meter in (Meter.TRANSFER, Meter.COMPUTE, Meter.UPTIME, Meter.STORAGE):
        portal.wait(counted(meter), 60, meter.value)


def _typed(container: str, *words: str) -> str:
    return engine.docker("exec", container, "interchain-node", *words)


def _named(command: str, name: str, image: str) -> str:
    """Give the container and its volume another name than the documentation's, for there may be a device here already."""
    folder = "/var/lib/interchain-node"
    words = [f"{name}:{folder}" if word == f"interchain-node:{folder}" else word for word in command.split(" ")]
    return " ".join(name if word == "interchain-node" else image if word == "IMAGE" else word for word in words)


def _removal(name: str, image: str) -> list[list[str]]:
    """Return the commands of the documentation, with the one question answered: here nobody types."""
    lines = DOCS.read_text().partition("To remove it:\n\n")[2].partition("\n\n")[0]
    commands = [
        shlex.split(_named(part, name, image)) for line in lines.splitlines() for part in line.strip().split(" && ")
    ]
    assert [command[:2] for command in commands] == [["docker", verb] for verb in ("stop", "run", "rm", "volume")]
    commands[1] = [*(word for word in commands[1] if word != "-it"), "--yes"]
    return [command[1:] for command in commands]


def _remains(device_id: str, lease_id: str, name: str) -> list[str]:
    """Return what is left of the device on this computer."""
    found = leftovers.of_volumes(sandbox.volume_name(device_id, ""))
    for listing in (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"]):
        found += engine.docker(*listing, "--filter", f"label=io.interchain.device={device_id}").split()
        found += engine.docker(*listing, "--filter", f"name={name}").split() if "network" not in listing else []
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{CGROUP_HOME}/{lease_id}")]
    if not engine.docker(
        "ps", "-aq", "--filter", "label=io.interchain.device"
    ):  # what devices share goes with the last one
        rules = subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout
        found += [chain for chain in (firewall.FORWARD_CHAIN, firewall.INPUT_CHAIN) if chain in rules]
    return found
