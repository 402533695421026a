"""What runs containers for the agent, and exactly what each verb promises.

The states of a lease here are read from the Engine each time; nothing is remembered between calls:

    ABSENT    no container. The workload's volume may exist.
    RUNNING   one container with the lease's labels, its process is alive.
    EXITED    the container is there, its process is not; its logs and exit code can be read.
    PARTIAL   a container that was never started: a warm standby, or what a crash in the middle of `start` leaves.

| verb   | allowed before | after it returned                         | after it raised          |
|--------|----------------|-------------------------------------------|--------------------------|
| start  | any            | RUNNING                                   | ABSENT, PARTIAL, EXITED  |
| ready  | any            | PARTIAL, or RUNNING if it was             | ABSENT, PARTIAL, EXITED  |
| stop   | any            | EXITED, PARTIAL or ABSENT; nothing runs   | any; call it again       |
| remove | any            | ABSENT; the volume is as it was           | any; call it again       |
| wipe   | any            | ABSENT, no volume, image gone if unused   | any; call it again       |

Between `stop` and `remove` the agent reads the last counters: they go with the container's network.
Every verb may be repeated, from any state, by any number of agent restarts: done twice is done once.
Agents that share one Engine never see each other's leases.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from nodes.agent.protocol import DesiredLease
from nodes.agent.reconcile import Seen

STOP_SECONDS = 10  # between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Volume:
    bytes: int
    bounded: bool  # whether the kernel holds it to `disk_bytes`
    hidden: bool = False  # it holds more where nobody looks (holdings.py)


@dataclass(frozen=True)
class Layer:
    """A container's writable layer."""

    bytes: int
    files: int
    hidden: bool = False  # it holds more where nobody looks (holdings.py)


class Executor(Protocol):
    """Runs leases. Errors are `LeaseError` (this lease cannot run) or `SetupError` (nothing can run here)."""

    def prepare(self) -> None:
        """Tidy what earlier runs of the agent left half done. Called once, before anything else."""

    def know_keys(self, keys: "dict[str, str]") -> None:
        """Take the keys of encrypted volumes by workload id, base64url; they stay in memory."""

    def observe(self) -> "dict[str, Seen]":
        """Return every lease of this device that has anything but a volume, by lease id."""

    def start(self, lease: DesiredLease, *, cancelled: threading.Event) -> Seen:
        """Bring the lease to RUNNING: image, network, volume, container. An EXITED container is started again as it is.

        Raises:
            LeaseError: with the reason.
            Cancelled: the event was set; the lease is ABSENT or PARTIAL.
        """

    def make_ready(self, lease: DesiredLease, *, cancelled: threading.Event) -> Seen:
        """Bring the lease to PARTIAL, so that nothing but the start is left to do. Raises as `start`."""

    def stop(self, lease_id: str) -> None:
        """End the lease's process: SIGTERM, and SIGKILL ten seconds later. Its container, network and volume stay."""

    def remove(self, lease_id: str) -> None:
        """Bring the lease to ABSENT, killing what runs. The volume stays."""

    def wipe(self, lease: DesiredLease, *, keep_volume: bool) -> int:
        """Bring the lease to ABSENT and remove volume, image (unless something else uses it) and with them every secret.

        Args:
            keep_volume: a newer generation of the workload on this device uses it.

        Returns:
            the bytes the volume held.
        """

    def log_tail(self, lease_id: str) -> str:
        """Return the last lines the container wrote, "" if there is none."""

    def kill(self, lease_id: str) -> None:
        """End the lease's process at once, asking nothing of it. It is fine if it runs no more."""

    def volume(self, workload_id: str) -> "Volume | None":
        """Return what the workload's volume holds; None if it has none."""

    def opened(self, workload_id: str) -> "AbstractContextManager[str]":
        """Return where on this device the workload's volume lies while the block lasts, whether its app runs or not.

        Raises:
            AgentError: there is none, or it cannot be seen from here.
        """

    def layer(self, seen: Seen, allowed: int) -> "Layer | None":
        """Return what the container wrote beside its volume; None where the kernel holds it to its size, or it may write nothing.

        Args:
            allowed: bytes; what is beyond is not counted to the end.
        """

    def is_full(self, lease_id: str) -> bool:
        """Whether the container, which has ended, had no room left beside its volume, where the kernel holds it to its size."""

    def room(self) -> int:
        """Return what is free where containers write: bytes, and what the files would cost that may still be made."""

    def free(self) -> int:
        """Return how many bytes can still be written where containers write."""

    def growing(self, running: "Iterable[tuple[Seen, str]]", free: int) -> "set[str]":
        """Return the leases to end because the disk is nearly full and they go on writing; cheap enough for several times a second.

        Args:
            running: with the path of the volume inside, "" for none. free: what `free` returned now.
        """

    def wait_for_change(self, stopping: threading.Event) -> None:
        """Return when a container of this device died or was removed.

        Raises:
            AgentError: the wait was cut short; what Docker and the firewall have may be another thing than before.
        """
