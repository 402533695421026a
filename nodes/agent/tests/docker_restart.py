"""A Docker that is killed and started again under a working agent, in a network of its own. Run by test_docker_restart.py.

Not a test file of its own: killing the ordinary Docker would take everything else on this computer with it.
Usage: unshare --net python -m nodes.agent.tests.docker_restart FOLDER
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from interchain_site.testing import docker as ordinary
from nodes.agent import firewall, sandbox
from nodes.agent.protocol import HealthCheck, Image, Observed
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.private_engine import PrivateEngine, private_engine

SECONDS = 120.0
CHAINS = (firewall.FORWARD_CHAIN, firewall.INPUT_CHAIN)


def main(folder: Path) -> None:
    """1. An app with data runs. 2. Docker dies and somebody sets the firewall anew. 3. Docker comes back: rules before the app."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with private_engine(folder, data=folder / "data", options=[], network=False) as docker, FakePortal() as portal:
        wrapper = [sys.executable, "-m", "nodes.agent.tests.trusting_agent"]
        agent = AgentProcess(folder / "home", portal, engine=docker.address, wrapper=wrapper)
        agent.enrol()
        agent.start()
        try:
            scenario(docker, portal, server.server_address[1])
        finally:
            agent.kill(15)
            sys.stderr.write(agent.log)


def scenario(docker: PrivateEngine, portal: FakePortal, device_port: int) -> None:
    base = docker.docker("import", "-", "busybox:test", input=ordinary.busybox_root()).strip()
    text = f'FROM {base}\nCMD ["/bin/sh", "-c", "httpd -f -p 8080 -h /www"]\n'
    image = docker.docker("build", "-q", "-", input=text.encode()).strip()
    wanted = lease(
        workload(
            image=Image(reference=image),
            volume_path="/data",
            health=HealthCheck(kind="http", interval_seconds=1, start_seconds=60),
        )
    )
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING, SECONDS)
    name = sandbox.container_name(wanted.lease_id)
    docker.docker("exec", name, "/bin/sh", "-c", "echo kept > /data/file && sync")
    held(docker, name, portal, wanted.lease_id, device_port)

    come_back(docker, portal, name, wanted.lease_id)
    held(docker, name, portal, wanted.lease_id, device_port)
    assert docker.docker("exec", name, "cat", "/data/file") == "kept\n"


def come_back(docker: PrivateEngine, portal: FakePortal, name: str, lease_id: str) -> None:
    """Docker dies, somebody sets the firewall anew, Docker comes back: no process of the app before the rules."""
    docker.kill()
    for program, parent in (("iptables", "DOCKER-USER"), ("ip6tables", "FORWARD")):
        subprocess.run([program, "-F", parent], check=True)
        subprocess.run([program, "-F", "INPUT"], check=True)
        subprocess.run([program, "-F", firewall.FORWARD_CHAIN], check=True)
    before = len(portal.reports)
    docker.start()
    began = time.monotonic()
    while not running(docker, name):
        assert time.monotonic() - began < SECONDS, "the app does not come back"
        time.sleep(0.02)
    assert stands(), "the app ran before the rules stood"
    portal.wait(lambda: len(portal.reports) > before, SECONDS)
    portal.wait_for(lease_id, Observed.RUNNING, SECONDS)


def running(docker: PrivateEngine, name: str) -> bool:
    return bool(docker.docker("ps", "-q", "--filter", f"name={name}").strip())


def stands() -> bool:
    """Whether every rule and the jumps to them are there, read without the agent's own eyes."""
    found = [
        subprocess.run([program, "-S"], capture_output=True, text=True, check=True).stdout.splitlines()
        for program in ("iptables", "ip6tables")
    ]
    ours = [sum(line.startswith("-A INTERCHAIN") for line in lines) for lines in found]
    jumps = [sum(line.endswith(f"-j {chain}") for line in lines for chain in CHAINS) for lines in found]
    return ours == [len(firewall.rules()), len(firewall.rules_6())] and jumps == [2, 2]


def held(docker: PrivateEngine, name: str, portal: FakePortal, lease_id: str, device_port: int) -> None:
    """The app answers on its port, and no address of the device can be reached from it."""
    began = time.monotonic()
    while not stands():
        assert time.monotonic() - began < SECONDS, "the rules do not stand"
        time.sleep(0.1)
    status = portal.wait_for(lease_id, Observed.RUNNING, SECONDS)
    assert urllib.request.urlopen(f"http://127.0.0.1:{status.host_port}/", timeout=10).status == 200
    listed = subprocess.run(["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    addresses = [line.split()[3].split("/")[0] for line in listed.splitlines()]
    assert len(addresses) >= 3, "loopback, docker0 and the app's own bridge"
    for address in addresses:
        if address.startswith("127."):
            continue
        command = f"nc -w 2 {address} {device_port} < /dev/null && echo reached"
        said = subprocess.run(
            ["docker", "-H", docker.address, "exec", name, "/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "reached" not in said.stdout, f"{address} can be reached"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
