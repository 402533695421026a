"""The device loses its power and starts again: no unit beyond what nobody had seen is lost, and none is told twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nodes.agent.tests.conftest import ROOT

pytestmark = pytest.mark.docker


def test_counters_that_begin_again_lose_and_repeat_nothing(docker_engine: None, tmp_path: Path) -> None:
    command = ["unshare", "--net", sys.executable, "-m", "nodes.agent.tests.reboot", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
