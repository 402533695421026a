"""Docker dies under a working agent and comes back: nothing runs before the rules stand, and no data is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nodes.agent.tests.conftest import ROOT

pytestmark = pytest.mark.docker


def test_rules_ports_and_data_are_back_before_an_app_runs_again(docker_engine: None, tmp_path: Path) -> None:
    command = ["unshare", "--net", sys.executable, "-m", "nodes.agent.tests.docker_restart", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
