"""Images on a real Engine: what one lease removes is not taken from another that is about to start from it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from interchain_site.testing import docker as engine
from nodes.agent.docker_executor import _start_failure
from nodes.agent.engine import Engine, EngineError
from nodes.agent.images import Images
from nodes.agent.protocol import Image, Reason

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_engine")]
ADDRESS = "unix:///var/run/docker.sock"


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
    failure = _start_failure(caught.value)
    assert (failure.reason, failure.permanent) == (Reason.DEVICE_ERROR, False)
