"""The agent, but its process dies by SIGKILL at each step named here, once: `python -m nodes.agent.tests.dying_agent LEDGER run …`.

The numbers are those of the docstrings (`steps.py`, `docker_executor.py`, `metering.py`, `outbox.py`, `loop.py`). LEDGER is a file with the
steps it has died at; a supervisor starts it again, and it dies at the next one it comes to that is not in there.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nodes.agent import files, sandbox
from nodes.agent.bounded_layers import BoundedLayers
from nodes.agent.bridges import Bridges
from nodes.agent.cli import main
from nodes.agent.counters import Counters
from nodes.agent.docker_executor import DockerExecutor
from nodes.agent.engine import Engine
from nodes.agent.images import Images
from nodes.agent.intake import Intake
from nodes.agent.loop import Agent
from nodes.agent.meter import Meters
from nodes.agent.metering import Metering
from nodes.agent.openers import Openers
from nodes.agent.outbox import Outbox, Receipts
from nodes.agent.server_api import Portal
from nodes.agent.volumes import Volumes
from nodes.agent.watch import Watch

LEASE_CONTAINER = re.compile(re.escape(sandbox.container_name("")) + "[0-9a-f-]{36}")
ALONE = (
    threading.RLock()
)  # held during what happens once in a lease's life, so that no other thread's death comes between it and its own
ONCE = ("start 6: its process runs", "wipe 8: the receipt is on disk")
MOST_BATCHES = 3  # so that a few seconds without a portal merge
AFTER: "dict[str, tuple[type, str]]" = {
    "start 1: it is allowed": (Intake, "admit"),
    "start 2: the image is here": (Images, "ensure"),
    "start 3: the volume is attached": (Volumes, "_attach"),
    "start 3: a file system for its layer": (BoundedLayers, "_make"),
    "start 3: what mounts it": (Openers, "_take"),
    "start 4: bridge and holder": (Bridges, "take"),
    "start 5: its layer is joined to it": (DockerExecutor, "_join"),
    "start 6: its process runs": (DockerExecutor, "_start_again"),  # what step 5 left
    "start 7: a file system for the next layer": (BoundedLayers, "_make_spare"),
    "start 7: what mounts it is ready for the next": (Openers, "_give_back"),
    "start 8: its health is watched": (Watch, "add"),
    "stop 2: counters": (Metering, "look"),
    "stop 3: nothing runs": (DockerExecutor, "stop"),
    "stop 4: last counters": (Metering, "take_last"),
    "stop 5: no container": (DockerExecutor, "remove"),
    "stop 6: no cgroup": (Counters, "remove_cgroup"),
    "wipe 7: no volume": (DockerExecutor, "wipe"),
    "wipe 8: the receipt is on disk": (Receipts, "put"),
    "wipe 9: the portal has it": (Portal, "receipt"),
    "reading 3: it is in the outbox": (Outbox, "put"),
    "delivery 2: the portal has it": (Portal, "readings"),
    "delivery 3: it left the outbox": (Outbox, "confirmed"),
    "merge 3: the old ones are gone": (Outbox, "_merge"),
    "desired 1: before it is on disk": (Portal, "desired"),
    "desired 2: it is on disk": (Agent, "_keep"),
}
BEFORE: "dict[str, tuple[type, str]]" = {
    "stop 1: uptime ends": (Metering, "look"),
    "delivery 1: before it is sent": (Portal, "readings"),
}
READ, SAVED = "reading 1: counters are read", "reading 2: totals are on disk"
CREATED = "start 5: a container"
MERGED = "merge 2: signed anew, the old ones are there too"
HALF_WRITTEN = "desired 1: half of it is on disk"
STEPS = (*AFTER, *BEFORE, READ, SAVED, CREATED, MERGED, HALF_WRITTEN)


class Ledger:
    """The steps at which the process has died."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> "set[str]":
        return set(self._path.read_text().splitlines()) if self._path.exists() else set()

    def die_once(self, step: str) -> None:
        if step not in self.read():
            with ALONE, self._path.open("a") as out:
                out.write(step + "\n")
                out.flush()
                os.kill(os.getpid(), signal.SIGKILL)


def _around(
    owner: Any,
    name: str,
    before: "Callable[..., None]",
    after: "Callable[..., None]",
    alone: "Callable[..., bool]" = lambda *_, **__: False,
) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def dying(*arguments: Any, **named: Any) -> Any:
        before(*arguments, **named)
        with ALONE if alone(*arguments, **named) else nullcontext():
            answer = original(*arguments, **named)
            after(*arguments, **named)
        return answer

    setattr(owner, name, dying)


def arm(ledger: Ledger) -> None:
    """Put a death after, or before, each step."""

    def nothing(*_: Any, **__: Any) -> None:
        return

    for step, (owner, name) in AFTER.items():
        once = step in ONCE
        _around(
            owner,
            name,
            nothing,
            lambda *_, step=step, **__: ledger.die_once(step),
            alone=lambda *_, once=once, **__: once,
        )
    for step, (owner, name) in BEFORE.items():
        _around(owner, name, lambda *_, step=step, **__: ledger.die_once(step), nothing)

    def creates(self: Engine, method: str, path: str, *_: Any, query: Any = None, **__: Any) -> bool:
        name = str((query or {}).get("name", ""))
        return (method, path) == ("POST", "/containers/create") and bool(LEASE_CONTAINER.fullmatch(name))

    def created(*arguments: Any, **named: Any) -> None:
        if creates(*arguments, **named):
            ledger.die_once(CREATED)

    _around(Engine, "call", nothing, created, alone=creates)

    def taking(step: str) -> "Callable[..., None]":
        return lambda *_: ledger.die_once(step) if threading.current_thread().name == "metering" else None

    _around(Meters, "save", taking(READ), taking(SAVED))
    merging = threading.local()
    _around(Outbox, "_merge", lambda *_: setattr(merging, "now", True), lambda *_: setattr(merging, "now", False))
    _around(
        Outbox, "_write_all", nothing, lambda *_: ledger.die_once(MERGED) if getattr(merging, "now", False) else None
    )

    def half(source: Any, target: Any) -> None:
        if Path(target).name == "desired.json":
            ledger.die_once(HALF_WRITTEN)

    _around(files.os, "replace", half, nothing)
    Outbox.__init__.__kwdefaults__["most"] = MOST_BATCHES  # type: ignore[index]


if __name__ == "__main__":
    arm(Ledger(Path(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
