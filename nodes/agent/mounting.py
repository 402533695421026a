"""Have Docker mount a volume that has a file system of its own, while no app has it: to unlock it, to copy it, to fill it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nodes.agent import holders, sandbox
from nodes.agent.engine import Engine, Unfinished, filters
from nodes.agent.errors import AgentError

MOUNT_SECONDS = 15.0  # a file system that was not unmounted reads its journal first
LOOK_SECONDS = 0.001
# Freed blocks go back to the owner's disk; a volume holds no devices and lends no rights.
OPTIONS = "discard,nodev,nosuid"


@contextmanager
def mounted(volume: "dict[str, Any]", engine: Engine, *, labels: "dict[str, str]") -> Iterator[str]:
    """Return where a volume's file system lies while the block lasts.

    Docker mounts it because it is told to unpack an archive there, into a container that never starts, and the archive does not come to its
    end until the block does. That takes 2 ms; starting a container that sleeps takes 200. An agent that is killed ends it, too.

    Args:
        labels: of that container, by which it is found again after an agent was killed.

    Raises:
        AgentError: Docker does not mount it, or not where this agent can see it.
    """
    opener = ""
    try:
        body = sandbox.opener_arguments(str(volume["Name"]), image=holders.image(engine), labels=labels)
        opener = str(engine.call("POST", "/containers/create", body)["Id"])
        archive = f"/containers/{opener}/archive"
        with engine.unfinished("PUT", archive, query={"path": sandbox.OPENED_AT}) as unpacking:
            path = str(volume["Mountpoint"])
            wait_until(lambda: os.path.ismount(path), unpacking, seconds=MOUNT_SECONDS)
            yield path
    finally:
        if opener:  # waits until Docker has let go of the volume
            engine.call("DELETE", f"/containers/{opener}", query={"force": "1"}, ignore=(404,))


def remove_left(engine: Engine, *labels: str) -> None:
    """Remove the containers of `mounted`, and openers, that a killed agent left, with volumes that have no name.

    Args:
        labels: what all of them have, as Docker filters: a name, or a name and a value, "a=b".
    """
    for item in engine.call("GET", "/containers/json", query={"all": "1", **filters(label=list(labels))}):
        engine.call("DELETE", f"/containers/{item['Id']}", query={"force": "1", "v": "1"}, ignore=(404,))


def wait_until(found: "Callable[[], bool]", unpacking: Unfinished, *, seconds: float) -> None:
    """Return once Docker has mounted what an archive is to be unpacked into.

    Raises:
        AgentError: it is not in time; in Docker's words if it has any.
    """
    give_up_at = time.monotonic() + seconds
    while not found():
        if time.monotonic() > give_up_at:
            unpacking.end()  # says why Docker did not mount it
            raise AgentError("The volume is mounted where this agent cannot see it, or Docker takes too long.")
        time.sleep(LOOK_SECONDS)
