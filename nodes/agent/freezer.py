"""The kernel's cgroup freezer: a lease's processes stand still, and go on where they were (cgroup v1 and v2).

The lease's own cgroup is frozen, above Docker's; where Docker leaves cgroups to systemd there is none, and the container's is. A frozen
cgroup outlives whoever froze it: so every start of the agent and every uninstall thaws what an agent that was killed left frozen.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodes.agent.counters import CGROUP_HOME
from nodes.agent.reconcile import Seen

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Files:
    """What to write, and where it is read whether every process stands still."""

    switch: Path
    on: str
    off: str
    state: Path
    still: str

    def set(self, word: str) -> None:
        self.switch.write_text(word)

    def is_on(self) -> bool:
        return self.switch.read_text().strip() != self.off

    def is_still(self) -> bool:
        return self.still in self.state.read_text().splitlines()


class Freezer:
    """Freezes leases of one device. Safe to call from any thread."""

    def __init__(self, cgroups: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> None:
        self._cgroups, self._proc = cgroups, proc
        self._lock = threading.Lock()
        self._frozen: "dict[str, tuple[_Files, float]]" = {}  # and since when
        self._thawed: "dict[str, float]" = {}  # when each was thawed last
        self._closed = False

    def freeze(self, seen: Seen) -> bool:
        """Have a lease's processes stand still; what a call into the kernel has begun goes to its end first.

        Returns:
            whether it is frozen now by this call; not if somebody else froze it, or the freezer is closed.
        """
        with self._lock:
            files = self._files(seen)
            if self._closed or files is None or seen.lease_id in self._frozen:
                return False
            try:
                if files.is_on():
                    return False
                self._frozen[seen.lease_id] = files, time.monotonic()
                files.set(files.on)
            except OSError as error:
                log.warning("lease %s cannot be frozen: %s", seen.lease_id, error)
                self._frozen.pop(seen.lease_id, None)
                return False
            return True

    def is_still(self, lease_id: str) -> bool:
        """Whether it was frozen here, and each of its processes stands still by now."""
        with self._lock:
            found = self._frozen.get(lease_id)
            with suppress(OSError):
                return found is not None and found[0].is_still()
            return False

    def thaw(self, lease_id: str) -> float:
        """Let a lease go on; it is fine if it is not frozen. Returns the seconds it was."""
        with self._lock:
            return self._thaw(lease_id)

    def kill(self, lease_id: str) -> None:
        """End a lease that stands still without one more step of its own, and thaw it: a frozen process takes no signal."""
        if self.is_still(lease_id):
            with self._lock, suppress(OSError):
                folder = self._frozen[lease_id][0].switch.parent
                for listed in [folder / "cgroup.procs", *folder.glob("*/cgroup.procs")]:
                    for word in listed.read_text().split():
                        if int(word) > 1:  # 0: a process this agent cannot see
                            os.kill(int(word), signal.SIGKILL)
        self.thaw(lease_id)

    def stood_still_since(self, lease_id: str, moment: float) -> bool:
        """Whether a lease was frozen at any time since the moment on the monotonic clock."""
        with self._lock:
            return lease_id in self._frozen or self._thawed.get(lease_id, float("-inf")) >= moment

    def close(self) -> None:
        """Thaw everything and freeze nothing any more: the agent ends."""
        with self._lock:
            self._closed = True
            for lease_id in list(self._frozen):
                self._thaw(lease_id)

    def thaw_left(self, leases: Iterable[Seen]) -> None:
        """Thaw what an agent that was killed left frozen."""
        for seen in leases:
            files = self._files(seen)
            with suppress(OSError):  # it has ended
                if files is not None and files.is_on():
                    log.warning("lease %s was left frozen; it goes on.", seen.lease_id)
                    files.set(files.off)

    def _thaw(self, lease_id: str) -> float:
        found = self._frozen.pop(lease_id, None)
        if found is None:
            return 0.0
        files, since = found
        with suppress(OSError):  # it was killed, and its cgroup removed
            files.set(files.off)
        now = time.monotonic()
        self._thawed = {key: at for key, at in self._thawed.items() if now - at < 3600}
        self._thawed[lease_id] = now
        return now - since

    def _files(self, seen: Seen) -> "_Files | None":
        for folder in (self._cgroups / "freezer" / CGROUP_HOME / seen.lease_id, *self._of_process(seen, "freezer")):
            state = folder / "freezer.state"
            if state.exists():
                return _Files(state, "FROZEN", "THAWED", state, "FROZEN")
        for folder in (self._cgroups / CGROUP_HOME / seen.lease_id, *self._of_process(seen, "")):
            switch = folder / "cgroup.freeze"
            if switch.exists():
                return _Files(switch, "1", "0", folder / "cgroup.events", "frozen 1")
        return None

    def _of_process(self, seen: Seen, controller: str) -> "list[Path]":
        """Return the container's own cgroup in one tree. Its id must be in the name: a dead container's number may be another's."""
        if not seen.pid or not seen.container_id:
            return []
        found = []
        with suppress(OSError):
            for line in (self._proc / str(seen.pid) / "cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                if controllers == controller and seen.container_id in path:
                    found.append(self._cgroups / controller / path.lstrip("/"))
        return found
