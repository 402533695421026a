"""Each way an app can fail, told in its own words, with its last lines, and no container left."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent import archive_rules
from nodes.agent.protocol import Action, HealthCheck, Image, Observed, Reason, Status, Workload
from nodes.agent.tests.conftest import AgentProcess, lease, workload
from nodes.agent.tests.portal import FakePortal

pytestmark = [pytest.mark.docker, pytest.mark.one_agent]


def failure(portal: FakePortal, what: Workload) -> Status:
    wanted = lease(what)
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.FAILED, 40)
    found = engine.docker("ps", "-aq", "--filter", f"label=io.interchain.lease={wanted.lease_id}")
    assert found == "", "a failed lease leaves no container"
    return status


def quick(**changes: object) -> HealthCheck:
    return HealthCheck(**{"kind": "http", "interval_seconds": 1, "start_seconds": 2, **changes})  # type: ignore[arg-type]


def of(command: str, *changes: str, **more: object) -> Workload:
    return workload(image=Image(reference=engine.image(command, *changes)), **{"health": quick(), **more})


def test_image_not_found(agent: AgentProcess, portal: FakePortal) -> None:
    missing = failure(
        portal, workload(image=Image(archive_sha256="a" * 64, archive_bytes=1, image_id="sha256:" + "b" * 64))
    )
    assert missing.reason in (Reason.IMAGE_NOT_FOUND, Reason.DEVICE_ERROR)


def test_image_that_no_registry_has(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, workload(image=Image(reference="127.0.0.1:9/nothing@sha256:" + "a" * 64)))
    assert status.reason is Reason.IMAGE_NOT_FOUND
    assert "127.0.0.1:9/nothing" in status.message


def test_image_that_is_not_the_released_one(agent: AgentProcess, portal: FakePortal) -> None:
    data = b"not an archive"
    digest = hashlib.sha256(data).hexdigest()
    portal.archives[digest] = data
    status = failure(
        portal, workload(image=Image(archive_sha256=digest, archive_bytes=len(data), image_id="sha256:" + "c" * 64))
    )
    assert status.reason is Reason.IMAGE_INVALID
    assert "docker save" in status.message


def test_image_without_digest(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, workload(image=Image(reference="nginx:latest")))
    assert status.reason is Reason.IMAGE_INVALID
    assert "name@sha256" in status.message


def test_does_not_start(agent: AgentProcess, portal: FakePortal) -> None:
    image = engine.import_image("interchain-test/nothing:1", engine.busybox_root(), 'CMD ["/bin/no-such-program"]')
    status = failure(portal, workload(image=Image(reference=image)))
    assert status.reason is Reason.START_FAILED
    assert "is not in the image" in status.message
    assert "no-such-program" in status.log_tail


def test_exits(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, of("echo starting; echo cannot read settings >&2; exit 3"))
    assert status.reason is Reason.EXITED
    assert "exit code 3" in status.message
    assert "cannot read settings" in status.log_tail
    assert status.restarts == 4


def test_wrong_port(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, of("httpd -f -p 3000 -h /www"))
    assert status.reason is Reason.WRONG_PORT
    assert "Nothing listens on port 8080" in status.message
    assert "port 3000" in status.message


def test_listens_on_loopback_only(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, of("httpd -f -p 127.0.0.1:8080 -h /www"))
    assert status.reason is Reason.WRONG_PORT
    assert "0.0.0.0" in status.message


def test_listens_on_nothing(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, of("sleep 1000"))
    assert "listens on no port" in status.message


def test_unhealthy(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, of("httpd -f -p 8080 -h /www", health=quick(path="/missing")))
    assert status.reason is Reason.UNHEALTHY
    assert "/missing" in status.message


def test_out_of_memory(agent: AgentProcess, portal: FakePortal) -> None:
    status = failure(portal, of("echo growing; tail /dev/zero", memory_bytes=16 * 2**20))
    assert status.reason is Reason.OUT_OF_MEMORY
    assert "16 MiB" in status.message


def test_out_of_disk(agent: AgentProcess, portal: FakePortal) -> None:
    command = "set -e; for i in 1 2 3 4 5 6 7 8; do head -c 2000000 /dev/zero > /www/$i; done; httpd -f -p 8080 -h /www"
    status = failure(portal, of(command, disk_bytes=8 * 2**20, health=quick(start_seconds=30)))
    assert status.reason is Reason.OUT_OF_DISK
    assert "8 MiB" in status.message


def test_an_archive_runs_and_brings_no_name_along(agent: AgentProcess, portal: FakePortal, tmp_path: Path) -> None:
    image = engine.image("httpd -f -p 8080 -h /www; true archive")
    name = "interchain-test/postgres:16"
    engine.docker("tag", image, name)
    data = subprocess.run(["docker", "save", name], capture_output=True, check=True).stdout
    engine.docker("rmi", "-f", image)
    engine.image.cache_clear()
    digest = hashlib.sha256(data).hexdigest()
    portal.archives[digest] = data
    (tmp_path / "saved.tar").write_bytes(data)
    named = archive_rules.read(
        tmp_path / "saved.tar"
    ).image_id  # as the portal names it; containerd's store has another id
    wanted = lease(workload(image=Image(archive_sha256=digest, archive_bytes=len(data), image_id=named)))
    portal.want(wanted)
    status = portal.wait_for(wanted.lease_id, Observed.RUNNING)
    assert status.image_id == engine.docker("image", "inspect", "-f", "{{.Id}}", f"interchain:{digest[:32]}")
    names = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    assert name not in names
    assert f"interchain:{digest[:32]}" in names
    portal.want(lease(wanted.workload, action=Action.WIPE, lease_id=wanted.lease_id))
    portal.wait_for(wanted.lease_id, Observed.WIPED)
    assert f"interchain:{digest[:32]}" not in engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()


def test_one_bad_lease_does_not_stop_the_others(agent: AgentProcess, portal: FakePortal) -> None:
    good, bad = lease(of("httpd -f -p 8080 -h /www")), lease(of("exit 1"))
    portal.want(bad, good)
    portal.wait_for(good.lease_id, Observed.RUNNING)
    portal.wait_for(bad.lease_id, Observed.FAILED)
    assert portal.status(good.lease_id).observed is Observed.RUNNING
