"""Images on a real Engine: what one lease removes is not taken from another that is about to start from it."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.docker_executor import _start_failure
from nodes.agent.engine import Engine, EngineError
from nodes.agent.errors import LeaseError
from nodes.agent.images import Images
from nodes.agent.protocol import Image, Reason
from nodes.agent.tests.conftest import workload
from nodes.agent.tests.test_archive_rules import GOOD, config, layer

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_engine")]
ADDRESS = "unix:///var/run/docker.sock"
OCI = "application/vnd.oci.image"
OTHER = layer(("etc/other", b"y"))


@pytest.fixture
def image() -> Iterator[Image]:
    """An image of ours that is here, under the name its archive would give it."""
    sha256 = uuid.uuid4().hex * 2
    name = f"interchain:{sha256[:32]}"
    found = engine.import_image(name, engine.busybox_root())
    yield Image(archive_sha256=sha256, archive_bytes=1, image_id=found)
    Engine(ADDRESS).call("DELETE", f"/images/{name}", ignore=(404,))


def test_an_image_stays_while_something_is_about_to_start_from_it(image: Image, tmp_path: Path) -> None:
    docker = Engine(ADDRESS)
    images = Images(docker, fetch=lambda *_: None, folder=tmp_path)
    with images.held(image, threading.Event()) as local:
        images.remove(image)
        assert docker.call("GET", f"/images/{local.id}/json")["Id"] == local.id
    images.remove(image)
    assert docker.call("GET", f"/images/{local.id}/json", ignore=(404,)) is None


def test_an_image_that_somebody_removed_is_not_the_apps_fault() -> None:
    with pytest.raises(EngineError) as caught:
        Engine(ADDRESS).call("POST", "/containers/create", {"Image": "sha256:" + "0" * 64})
    failure = _start_failure(caught.value, workload(), 10**9)
    assert (failure.reason, failure.permanent) == (Reason.DEVICE_ERROR, False)


def described_twice(path: Path) -> Image:
    """Write an archive that is one image by its manifest.json and, by its OCI layout, another nobody looked at; return the first."""
    good, other = config(GOOD), json.dumps({**json.loads(config(OTHER)), "config": {"User": "other"}}).encode()
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json"}
    manifest["config"] = descriptor(f"{OCI}.config.v1+json", other)
    manifest["layers"] = [descriptor(f"{OCI}.layer.v1.tar", OTHER)]
    inner = json.dumps(manifest).encode()
    index = {"schemaVersion": 2, "manifests": [descriptor(f"{OCI}.manifest.v1+json", inner)]}
    outer = [{"Config": blob(good), "RepoTags": None, "Layers": [blob(GOOD)]}]
    parts = [(blob(each), each) for each in (GOOD, good, OTHER, other, inner)]
    parts += [("index.json", json.dumps(index).encode()), ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')]
    path.write_bytes(layer(("manifest.json", json.dumps(outer).encode()), *parts))
    named = "sha256:" + hashlib.sha256(good).hexdigest()
    return Image(archive_sha256=hashlib.sha256(path.read_bytes()).hexdigest(), archive_bytes=1, image_id=named)


def blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def descriptor(kind: str, data: bytes) -> "dict[str, object]":
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def test_docker_loads_the_image_that_was_looked_at_and_no_other(tmp_path: Path) -> None:
    saved = tmp_path / "saved.tar"
    image = described_twice(saved)
    images = Images(Engine(ADDRESS), fetch=lambda _, to, __: shutil.copy(saved, to), folder=tmp_path)
    try:
        found = images.ensure(image, threading.Event())
        assert found.layers == ("sha256:" + hashlib.sha256(GOOD).hexdigest(),)
        assert found.user == ""
    finally:
        images.remove(image)


def test_another_image_than_the_one_looked_at_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tmp_path / "saved.tar"
    image = described_twice(saved)
    monkeypatch.setattr("nodes.agent.archives.check", lambda path, image: ("sha256:" + "0" * 64,))
    images = Images(Engine(ADDRESS), fetch=lambda _, to, __: shutil.copy(saved, to), folder=tmp_path)
    with pytest.raises(LeaseError, match="another image") as caught:
        images.ensure(image, threading.Event())
    assert (caught.value.reason, caught.value.permanent) == (Reason.IMAGE_INVALID, True)
    assert Engine(ADDRESS).call("GET", f"/images/interchain:{image.archive_sha256[:32]}/json", ignore=(404,)) is None
