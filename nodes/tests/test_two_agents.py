"""A device's folder is copied and both copies run: real agents against the real portal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings as site_settings

from interchain_site.core import redis
from interchain_site.testing import docker as engine
from nodes.agent.config import Home, load
from nodes.conftest import eventually
from nodes.models import Device
from nodes.services import enrolment, link_keys, twins
from nodes.tests.test_link import site as site  # the fixture

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.docker]
PATIENCE = 40
COMMAND = [sys.executable, "-m", "nodes.agent"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(site_settings.BASE_DIR)}


@contextmanager
def agent(home: Path) -> Iterator[Path]:
    """Run an agent; yields its log."""
    log = home.with_suffix(".log")
    with log.open("ab") as out:
        process = subprocess.Popen([*COMMAND, "run", "--home", str(home)], stdout=out, stderr=out, env=ENVIRONMENT)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(30)


def enrol(home: Path, portal: str, token: str) -> None:
    """Make this computer a device, as its owner does."""
    arguments = ["--home", str(home), "--portal", portal, "--token", token, "--endpoint-host", "127.0.0.1"]
    done = subprocess.run([*COMMAND, "enrol", *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def home(site: int, settings, cast, tmp_path: Path) -> Iterator[Path]:
    """A computer enrolled with the real portal."""
    settings.PORTAL_URL = f"http://127.0.0.1:{site}"
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    device, token = enrolment.create_device(owner=cast.owner, name="Shelf", region="us")
    folder = tmp_path / "first"
    enrol(folder, settings.PORTAL_URL, token)
    yield folder
    engine.remove_labelled(f"io.interchain.device={device.pk}")


def test_of_two_agents_with_one_key_the_newer_is_linked_and_everybody_is_told(home: Path, cast, client) -> None:
    assert load(Home(home)).link_key == link_keys.in_force().public_key
    copy = home.with_name("second")
    shutil.copytree(home, copy)
    device = Device.objects.get(name="Shelf")
    with agent(home) as first:
        eventually(lambda: Device.objects.filter(pk=device.pk, state="online").exists(), PATIENCE)
        eventually(lambda: redis.connection().get(twins.ORDER_KEY), PATIENCE)
        with agent(copy) as second:
            eventually(lambda: "took the link" in first.read_text(), PATIENCE)
            eventually(lambda: "was linked before" in second.read_text(), PATIENCE)
    client.force_login(cast.owner)
    assert "Two agents use this device" in client.get(f"/devices/{device.pk}/").content.decode()
