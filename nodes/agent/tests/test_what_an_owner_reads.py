"""A real agent on a full disk, with a wrong clock, removed at the portal and meant to be another version: what its owner types then says
what is wrong and what mends it, in words, by the exit code and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nodes.agent import __version__, wording
from nodes.agent.tests.conftest import AgentProcess, running_agent
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.sized_disk import Disk, disk

pytestmark = pytest.mark.docker
DAY = 86_400
PATIENCE = 60


@pytest.fixture(scope="module")
def device(
    shared_portal: FakePortal, tmp_path_factory: pytest.TempPathFactory, docker_engine: None
) -> Iterator["tuple[AgentProcess, Disk]"]:
    """One agent with its files on a disk of its own, for all states."""
    folder = tmp_path_factory.mktemp("agent")
    with disk(folder / "home", "tmpfs") as full, running_agent(shared_portal, folder) as agent:
        yield agent, full


def typed(agent: AgentProcess, *words: str) -> "tuple[int, str]":
    """Return the exit code and all that is shown."""
    done = agent.cli(*words, "--home", str(agent.home))
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    return done.returncode, shown


def status(agent: AgentProcess) -> "tuple[int, dict[str, Any]]":
    code, text = typed(agent, "status", "--json")
    return code, json.loads(text)


def checks(agent: AgentProcess) -> "tuple[int, dict[str, dict[str, Any]]]":
    code, text = typed(agent, "doctor", "--json")
    return code, {check["name"]: check for check in json.loads(text)}


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.3)


def test_all_is_well(device: "tuple[AgentProcess, Disk]") -> None:
    agent, _ = device
    code, text = typed(agent, "status")
    assert (code, "The agent runs." in text, "Nothing runs here." in text, "!" in text) == (0, True, True, False)
    code, found = status(agent)
    assert (code, found["problems"], found["clock_ahead_seconds"], found["update_failure"]) == (0, [], 0, "")


def test_the_disk_is_full(device: "tuple[AgentProcess, Disk]") -> None:
    agent, full = device
    full.fill()
    try:
        code, text = typed(agent, "status")
        assert code == 1
        assert f"! Only 0.0 GB are free in {agent.home}. Make room" in text
        assert status(agent)[1]["problems"]
        code, found = checks(agent)
        assert (code, found["disk"]["ok"], found["disk"]["mend"][:9]) == (1, False, "Make room")
        # The little that a word of its owner needs finds room.
        assert typed(agent, "pause")[0] == 0
        assert "no new apps" in typed(agent, "status")[1]
        assert typed(agent, "drain")[0] == 0
        assert typed(agent, "resume")[0] == 0
        code, text = typed(agent, "logs")
        assert code == 0
        assert text.strip(), "an empty log says that it is"
    finally:
        full.empty()
    assert status(agent)[0] == 0


@contextmanager
def portal_ahead(portal: FakePortal, seconds: float) -> Iterator[None]:
    portal.clock_offset = seconds
    try:
        yield
    finally:
        portal.clock_offset = 0


@pytest.mark.parametrize(("portal_is_ahead", "words"), [(2 * DAY, "2 days behind"), (-1800, "30 minutes ahead of")])
def test_the_clock_is_wrong(
    device: "tuple[AgentProcess, Disk]", shared_portal: FakePortal, portal_is_ahead: int, words: str
) -> None:
    agent, _ = device
    with portal_ahead(shared_portal, portal_is_ahead):
        code, text = typed(agent, "status")
        assert code == 1
        assert f"! The clock is {words} the portal's. The agent goes by the portal's. {wording.SET_CLOCK}" in text
        assert text.count("clock") == 1, "said once"
        code, found = status(agent)
        assert (code, found["portal_answers"]) == (1, True)
        assert abs(found["clock_ahead_seconds"] + portal_is_ahead) < 30
        code, doctor = checks(agent)
        assert (code, doctor["clock"]["ok"], words in doctor["clock"]["message"]) == (0, False, True)
        assert typed(agent, "pause")[0] == 0
        assert typed(agent, "drain")[0] == 0
        assert typed(agent, "resume")[0] == 0
        eventually(lambda: "clock is" in typed(agent, "logs")[1])


def test_another_version_is_meant(device: "tuple[AgentProcess, Disk]", shared_portal: FakePortal) -> None:
    agent, _ = device
    shared_portal.want(release="99.0.0")
    eventually(lambda: status(agent)[1]["wanted_version"] == "99.0.0")
    code, text = typed(agent, "status")
    assert code == 0, "not wrong: it will change"
    assert "Version 99.0.0 is meant for this device. An installed agent changes to it by itself" in text
    found = checks(agent)[1]["version"]
    assert (found["ok"], found["needed"]) == (False, False)
    assert f"{__version__} runs" in found["message"]
    # As the launcher leaves it when the new version did not come up.
    failed = agent.home.parent / "update" / "failed"
    failed.parent.mkdir()
    failed.write_text(f"{__version__}\n99.0.0\n")
    code, text = typed(agent, "status")
    assert code == 1
    assert f"! Version 99.0.0 did not come up; {__version__} runs again. It is not tried again" in text
    code, doctor = checks(agent)
    assert (code, "interchain-node logs" in doctor["version"]["mend"]) == (1, True)
    failed.unlink()
    shared_portal.want(release="")
    eventually(lambda: status(agent)[0] == 0)


def test_the_device_was_removed(device: "tuple[AgentProcess, Disk]", shared_portal: FakePortal) -> None:
    agent, _ = device
    shared_portal.revoked = True
    try:
        shared_portal.look()
        eventually(lambda: (agent.home / "removed").exists())
        code, text = typed(agent, "status")
        assert (code, f"! {wording.REMOVED}" in text, "takes apps" in text) == (1, True, False)
        code, found = status(agent)
        assert (code, found["removed"], found["problems"]) == (1, True, [wording.REMOVED])
        code, doctor = checks(agent)
        assert (code, doctor["registration"]["mend"]) == (1, "Take the agent off: interchain-node uninstall")
        for word in ("pause", "drain", "resume"):
            assert typed(agent, word)[0] == 1
            assert wording.REMOVED in typed(agent, word)[1]
        assert wording.REMOVED in typed(agent, "logs")[1]
    finally:
        shared_portal.revoked = False
    eventually(lambda: not (agent.home / "removed").exists())
    assert typed(agent, "resume")[0] == 0
    assert status(agent)[0] == 0
