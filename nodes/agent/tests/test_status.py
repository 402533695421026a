"""What an owner reads when they type `interchain-node status`, in each state, and what a program reads."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nodes.agent import __version__, cli, config, files, keys, switch
from nodes.agent.config import Config, Home
from nodes.agent.errors import PortalRefused
from nodes.agent.protocol import Desired, Hours, Limits, Mode, to_json
from nodes.agent.server_api import Portal
from nodes.agent.tests.portal import FakePortal

ROOT = Path(__file__).resolve().parents[3]
NO_ENGINE = "unix:///nowhere/docker.sock"


@pytest.fixture
def home(portal: FakePortal, tmp_path: Path) -> Home:
    """An enrolled device without an agent at work and without Docker."""
    found = Home(tmp_path / "home").create()
    portal.public_x = keys.create(found.key).public_x
    config.save(found, Config(portal.device_id, portal.url, portal.link_url, 1, engine=NO_ENGINE))
    return found


def typed(capsys: pytest.CaptureFixture[str], home: Home, *words: str) -> "tuple[int, str]":
    code = cli.main([*words, "--home", str(home.root)])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_the_agent_does_not_run_and_docker_is_missing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = typed(capsys, home, "status")
    assert code == 3
    assert "! The agent does not run. Start it: " in text
    assert "! No Docker Engine" in text
    assert "The portal answers." in text
    assert "Nothing runs here" not in text, "without Docker nobody knows"


def test_a_problem_is_an_exit_code(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with files.lock(home.root / "lock"):
        code, text = typed(capsys, home, "status")
    assert (code, "The agent runs." in text) == (1, True)


def test_the_portal_is_away_or_has_removed_this_device(
    home: Home, portal: FakePortal, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config.save(home, dataclasses.replace(config.load(home), portal_url="http://127.0.0.1:1"))
    _, text = typed(capsys, home, "status")
    assert "! http://127.0.0.1:1 cannot be reached (Connection refused). Apps go on;" in text
    assert "Errno" not in text

    def revoked(self: Portal) -> None:
        raise PortalRefused(403, "device_revoked", "This device was removed.")

    monkeypatch.setattr(Portal, "release", revoked)
    _, text = typed(capsys, home, "status")
    assert "! This device was removed from the portal" in text
    assert "interchain-node uninstall" in text
    assert "takes apps" not in text


def test_why_it_takes_no_apps_and_which_version_is_meant(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    switch.write(home.mode, Mode.PAUSED)
    _, text = typed(capsys, home, "status")
    assert "takes no new apps. What runs goes on. Typed here; `interchain-node resume` opens it." in text
    switch.write(home.mode, Mode.OPEN)
    closed = Limits(hours=(Hours(0, 0, 1), Hours(3, 0, 1)), drain_minutes=0, transfer_bytes_per_month=10**10)
    home.desired.write_bytes(to_json(Desired(limits=closed, release="99.0.0")))
    _, text = typed(capsys, home, "status")
    assert "Outside the hours its owner lends it. Opens" in text
    assert "Traffic this month: 0.0 of 10.0 GB" in text
    assert f"agent {__version__}" in text
    assert "Version 99.0.0 is meant for this device" in text


def test_programs_read_json(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = typed(capsys, home, "status", "--json")
    found: "dict[str, Any]" = json.loads(text)
    assert code == 3
    assert (found["agent_runs"], found["portal_answers"], found["docker_answers"]) == (False, True, False)
    assert (found["mode"], found["apps"], len(found["problems"])) == ("open", [], 2)
    code, text = typed(capsys, home, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(text)}
    assert (code, checks["docker"]["ok"]) == (1, False)


def test_uninstall_without_docker_says_how_to_go_on(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = typed(capsys, home, "uninstall", "--yes")
    assert (code, "--without-docker" in text) == (1, True)
    assert home.config.exists(), "nothing was removed yet"
    code, text = typed(capsys, home, "uninstall", "--yes", "--without-docker")
    assert code == 1, "something is left, and it is named"
    assert "Still there: what apps left in Docker" in text
    assert not home.root.exists()


@pytest.mark.parametrize("words", [["status"], ["logs"], ["pause"], ["uninstall"], ["limits"], ["drain"], ["resume"]])
def test_not_enrolled(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: "list[str]") -> None:
    code, text = typed(capsys, Home(tmp_path / "none"), *words)
    assert code == 1
    assert "not enrolled" in text or "no log here" in text


def test_a_wrong_address_is_said_and_nothing_shows_a_traceback(tmp_path: Path) -> None:
    for words in (
        ["enrol", "--portal", "portal.example", "--token", "x"],
        ["doctor", "--portal", "portal.example"],
        [],
    ):
        command = [sys.executable, "-m", "nodes.agent", *words, *(["--home", str(tmp_path / "home")] if words else [])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert "https://portal.example" in done.stdout + done.stderr or "COMMAND" in done.stdout
