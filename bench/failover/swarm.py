"""A Docker Swarm on the same three nodes: one manager, two workers, one replica published on its node's own port."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.failover.nodes import Node
from bench.failover.probe import answers

PORT = 18080
GIVE_UP_SECONDS = 60
POLL_SECONDS = 0.05


def make(nodes: Sequence[Node]) -> None:
    manager, *workers = nodes
    manager.docker("swarm", "init", "--advertise-addr", manager.address)
    token = manager.docker("swarm", "join-token", "-q", "worker")
    for worker in workers:
        worker.docker("swarm", "join", "--token", token, "--advertise-addr", worker.address, f"{manager.address}:2377")


def leave(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.docker("swarm", "leave", "--force", check=False)


def lose_a_node(nodes: Sequence[Node], image: str, *, tuned: bool) -> float:
    """Start a service, pull the cable of the worker that runs it; returns the seconds until the other worker answers 200.

    The client asks both workers' ports in turn, as a load balancer without a memory would.
    """
    manager, *workers = nodes
    manager.docker("swarm", "update", "--dispatcher-heartbeat", "1s" if tuned else "5s")
    _wait(lambda: manager.docker("node", "ls", "--format", "{{.Status}}").count("Ready") == len(nodes))
    manager.docker(
        "service", "create", "--detach", "--name", "app", "--no-resolve-image", "--constraint", "node.role==worker",
        "--endpoint-mode", "dnsrr", "--publish", f"mode=host,target=8080,published={PORT}",
        "--restart-delay", "0s" if tuned else "5s", image, "httpd", "-f", "-p", "8080", "-h", "/www",
    )  # fmt: skip
    try:
        _wait(lambda: _serving(workers))
        time.sleep(6)  # at least one heartbeat with the service running
        serving = _serving(workers)[0]
        other = next(worker for worker in workers if worker is not serving)
        began = serving.cut()
        _wait(lambda: _serving([other]))
        return time.monotonic() - began
    finally:
        for worker in workers:
            worker.mend()
        manager.docker("service", "rm", "app")
        _wait(lambda: not _serving(workers))


def _serving(workers: Sequence[Node]) -> list[Node]:
    return [worker for worker in workers if answers(PORT, worker.address, timeout=1)]


def _wait(ask: object) -> None:
    assert callable(ask)
    until = time.monotonic() + GIVE_UP_SECONDS
    while not ask():
        if time.monotonic() > until:
            raise SystemExit("the Swarm did not come to rest in time")
        time.sleep(POLL_SECONDS)
