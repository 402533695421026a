"""The agent changes its key with a real process: killed in the middle, it ends with a key the portal knows."""

from __future__ import annotations

import signal

import pytest

from nodes.agent import keys
from nodes.agent.tests.conftest import AgentProcess
from nodes.agent.tests.portal import FakePortal

pytestmark = pytest.mark.docker


def test_asked_for_typed_and_interrupted(agent: AgentProcess, portal: FakePortal) -> None:
    first = portal.public_x
    portal.want(new_key=True)
    portal.wait(lambda: portal.public_x != first, 20, "the key the portal asked for")
    second = portal.public_x
    assert agent.cli("rotate-key", "--home", str(agent.home)).returncode == 0
    portal.wait(lambda: portal.public_x != second, 20, "the key its owner asked for")
    third = portal.public_x
    # The portal takes the next one but its answer is lost, the agent dies, and the old keys are no good any more.
    portal.key_change_answers = False
    agent.cli("rotate-key", "--home", str(agent.home))
    portal.wait(lambda: portal.public_x != third, 20, "the key whose answer is lost")
    agent.kill(signal.SIGKILL)
    portal.old_keys.clear()
    portal.key_change_answers = True
    heard = len(portal.reports)
    agent.start_without_portal()
    portal.wait(lambda: len(portal.reports) > heard, 60, "a report signed with the key the portal knows")
    portal.wait(lambda: not (agent.home / "device.key.next").exists(), 20, "the change to be finished")
    assert keys.load(agent.home / "device.key").public_x == portal.public_x
