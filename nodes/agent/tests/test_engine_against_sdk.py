"""The agent's own Engine client is held to Docker's official Python SDK on the same real Engine."""

from __future__ import annotations

import io
import tarfile

import docker
import pytest

from interchain_site.testing import docker as images
from nodes.agent.engine import Engine, EngineError, filters

ADDRESS = "unix:///var/run/docker.sock"
LABEL = "io.interchain.test=engine-sdk"

pytestmark = [pytest.mark.docker, pytest.mark.verification]


@pytest.fixture
def ours():
    yield Engine(ADDRESS)
    images.remove_labelled(LABEL)


@pytest.fixture
def sdk():
    client = docker.DockerClient(base_url=ADDRESS)
    yield client
    client.close()


def test_a_container_we_create_is_the_one_the_sdk_sees(ours, sdk):
    body = {"Image": images.busybox(), "Cmd": ["echo", "hello"], "Labels": {"io.interchain.test": "engine-sdk"}}
    made = ours.call("POST", "/containers/create", body, query={"name": "interchain-engine-sdk"})
    ours.call("POST", f"/containers/{made['Id']}/start")
    ours.call("POST", f"/containers/{made['Id']}/wait")

    seen = sdk.containers.get("interchain-engine-sdk")

    assert (seen.id, seen.labels, seen.status) == (made["Id"], body["Labels"], "exited")
    mine = ours.call("GET", f"/containers/{made['Id']}/json")
    assert {name: mine[name] for name in ("Id", "State", "Config", "HostConfig")} == {
        name: seen.attrs[name] for name in ("Id", "State", "Config", "HostConfig")
    }
    assert b"hello" in ours.raw(f"/containers/{made['Id']}/logs", query={"stdout": "1"})
    assert seen.logs() == b"hello\n"


def test_filters_find_what_the_sdk_finds(ours, sdk):
    sdk.containers.create(images.busybox(), ["true"], labels={"io.interchain.test": "engine-sdk"})

    mine = ours.call("GET", "/containers/json", query={"all": "1", **filters(label=[LABEL])})

    assert [row["Id"] for row in mine] == [row.id for row in sdk.containers.list(all=True, filters={"label": LABEL})]


def test_a_missing_image_is_the_same_error(ours, sdk):
    with pytest.raises(docker.errors.ImageNotFound) as theirs:
        sdk.images.get("interchain-test/none:1")
    with pytest.raises(EngineError) as mine:
        ours.call("GET", "/images/interchain-test/none:1/json")
    assert mine.value.status == theirs.value.status_code == 404
    assert str(mine.value) == theirs.value.explanation


def test_an_archive_the_sdk_saved_can_be_loaded(ours, sdk):
    wanted = images.busybox()
    archive = b"".join(sdk.images.get(wanted).save(named=True))
    assert tarfile.is_tarfile(io.BytesIO(archive))

    said = list(ours.stream("POST", "/images/load", body=iter([archive])))

    assert any("Loaded image" in item.get("stream", "") for item in said)
    assert ours.call("GET", f"/images/{wanted}/json")["Id"] == sdk.images.get(wanted).id
