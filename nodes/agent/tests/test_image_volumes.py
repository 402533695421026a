"""Folders an image wants kept apart (VOLUME in its Dockerfile) are no way around the disk limit: Docker alone bounds none of them."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.protocol import Action, Image, Observed, Profile
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]
MB = 2**20
SERVE = "httpd -f -p 8080 -h /www"
FILL = (
    "i=0; while dd if=/dev/zero of=/junk/$i bs=1M count=1 2>/dev/null && [ $i -lt 600 ]; do i=$((i+1)); done; echo $i"
)


def image() -> Image:
    return Image(reference=engine.image(SERVE, "RUN mkdir /junk && echo kept > /junk/first", "VOLUME /junk/ /data"))


def volumes_of_nobody() -> set[str]:
    return {name for name in engine.docker("volume", "ls", "-q").splitlines() if not name.startswith("interchain-")}


def inside(container: str, command: str) -> str:
    words = ["docker", "exec", container, "/bin/sh", "-c", command]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def test_a_baseline_app_has_no_more_room_there_than_in_its_layer(agent: AgentProcess, portal: FakePortal) -> None:
    before = volumes_of_nobody()
    wanted = lease(workload(image=image(), disk_bytes=96 * MB, volume_path="/data"))
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    container = f"interchain-{wanted.lease_id}"
    assert inside(container, "cat /junk/first") == "kept\n"
    assert 12 <= int(inside(container, FILL)) < 24, "a quarter of 96 MiB, less what a file system takes"
    assert inside(container, "touch /data/mine && echo ok") == "ok\n", "its own volume is where it was"
    portal.want(replace(wanted, action=Action.WIPE))
    portal.wait_for(wanted.lease_id, Observed.WIPED, 60)
    assert volumes_of_nobody() <= before, "nothing of it is left"


def test_a_restricted_app_has_them_in_its_own_memory(agent: AgentProcess, portal: FakePortal) -> None:
    before = volumes_of_nobody()
    what = workload(image=image(), memory_bytes=192 * MB, volume_path="/data", profile=Profile.RESTRICTED)
    wanted = lease(what)
    portal.want(wanted)
    portal.wait_for(wanted.lease_id, Observed.RUNNING)
    container = f"interchain-{wanted.lease_id}"
    assert volumes_of_nobody() <= before
    assert 60 <= int(inside(container, FILL)) <= 64
    assert inside(container, "touch /data/mine && echo ok") == "ok\n", "its own volume is where it was"
