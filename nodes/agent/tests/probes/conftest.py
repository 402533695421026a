"""One agent with its apps for all the probes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodes.agent.tests.probes import scene as scenes
from nodes.agent.tests.probes.scene import Scene


@pytest.fixture(scope="package")
def scene(tmp_path_factory: pytest.TempPathFactory, docker_engine: None) -> Iterator[Scene]:
    with scenes.scene(tmp_path_factory.mktemp("probes")) as running:
        yield running
