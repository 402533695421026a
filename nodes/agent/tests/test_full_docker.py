"""Docker's own disk is full while an image is loaded or pulled, and while a container starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nodes.agent.tests.conftest import ROOT

pytestmark = pytest.mark.docker


def test_who_writes_on_a_nearly_full_disk_is_ended_before_anything_is_lost(docker_engine: None, tmp_path: Path) -> None:
    run("nearly_full_docker", tmp_path)


def test_no_half_image_is_trusted_and_it_runs_once_there_is_room(docker_engine: None, tmp_path: Path) -> None:
    run("full_docker", tmp_path)


def run(name: str, folder: Path) -> None:
    command = ["unshare", "--net", sys.executable, "-m", f"nodes.agent.tests.{name}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
