"""Which of the Engine's runtimes a workload runs under; whether gVisor works here is found out elsewhere (gvisor.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nodes.agent import files
from nodes.agent.errors import LeaseError
from nodes.agent.protocol import Reason, Runtime, Workload

FILE = "gvisor.json"  # in the device's folder: the Engine's name of the runtime that was proven


def proven(folder: Path) -> str:
    """Return the Engine's name of the runtime the last trial has proven, "" if none."""
    document = files.read_json(folder / FILE)
    return str(document.get("runtime") or "") if isinstance(document, dict) else ""


def choose(workload: Workload, ask: "Callable[[], str]") -> str:
    """Return the Engine's name of gVisor for a workload that is to run under it, "" for one that is not.

    Raises:
        LeaseError: it must, and cannot here.
    """
    if workload.runtime is not Runtime.GVISOR:
        return ""
    # Docker's resolver is reached by rules in the container's network, which gVisor's own network does not pass through.
    found = "" if workload.outbound else ask()
    if not found and not workload.runtime_optional:
        message = "The app is to run under gVisor, which does not work on this device (any more)."
        raise LeaseError(Reason.DECLINED, message, permanent=True)
    return found
