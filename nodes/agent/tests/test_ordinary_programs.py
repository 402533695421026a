"""Debian's own nginx, redis-server and postgresql, packaged as anybody would, run under `baseline` and answer."""

from __future__ import annotations

import socket
import struct
import urllib.request

import pytest

from interchain_site.testing import docker as engine
from interchain_site.testing import programs
from nodes.agent.protocol import HealthCheck, Image, Observed, Profile
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]
MB = 2**20


def run(portal: FakePortal, program: str, port: int, volume_path: str) -> tuple[str, int]:
    """Start it with a volume where it keeps its data; returns its container's name and the device's port."""
    wanted = lease(
        workload(
            image=Image(reference=programs.image(program)),
            port=port,
            memory_bytes=256 * MB,
            disk_bytes=256 * MB,
            cpu_millis=1000,
            profile=Profile.BASELINE,
            volume_path=volume_path,
            health=HealthCheck(interval_seconds=1, start_seconds=120),
        )
    )
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING, 150)
    return f"interchain-{wanted.lease_id}", status.host_port


def ask(port: int, question: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(question)
        return connection.recv(4096)


def test_nginx(agent: AgentProcess, portal: FakePortal) -> None:
    container, port = run(portal, "nginx", 80, "/var/www/html")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        assert answer.headers["Server"].startswith("nginx")
        assert b"Welcome to nginx" in answer.read()
    lines = engine.docker("top", container, "-eo", "pid,user,args").splitlines()
    owners = {line.split()[1] for line in lines if "nginx:" in line}
    assert len(owners) == 2, "its workers are another user than its master"


def test_redis(agent: AgentProcess, portal: FakePortal) -> None:
    _, port = run(portal, "redis-server", 6379, "/var/lib/redis")
    assert ask(port, b"SET key value\r\n") == b"+OK\r\n"
    assert ask(port, b"SAVE\r\n") == b"+OK\r\n", "it may write to its volume"
    assert ask(port, b"GET key\r\n") == b"$5\r\nvalue\r\n"


def test_postgresql(agent: AgentProcess, portal: FakePortal) -> None:
    container, port = run(portal, "postgresql", 5432, "/var/lib/postgresql")
    startup = struct.pack(">I", 196608) + b"user\0postgres\0database\0postgres\0\0"
    message = struct.pack(">I", len(startup) + 4) + startup
    portal.wait(lambda: b"starting up" not in ask(port, message), 60, "the database has started")
    answer = ask(port, message)
    assert answer.startswith(b"R"), "it asks for a password"
    assert b"SCRAM-SHA-256" in answer
    query = "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n; SELECT sum(n) FROM kept"
    assert engine.docker("exec", container, "psql", "-Atc", query).split()[-1] == "500500"
