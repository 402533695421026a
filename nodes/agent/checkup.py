"""Examines the device again once an hour and tells the portal what it found, for the device's page.

In a process of its own, `interchain-node doctor`: what looking at everything takes in memory is given back at once.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

log = logging.getLogger(__name__)
EVERY_SECONDS = 3600.0
RETRY_SECONDS = 60.0
LONGEST_SECONDS = 120.0
NOT_TOLD = 4  # exit code of `doctor`: the portal could not be told


class Checkup(threading.Thread):
    """The device's regular check-up."""

    def __init__(self, home: Path) -> None:
        super().__init__(name="checkup", daemon=True)
        self._command = [sys.executable, "-m", "nodes.agent", "doctor", "--home", str(home)]
        self._stopping = threading.Event()
        self._told = ""

    def run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = EVERY_SECONDS if self._look() else RETRY_SECONDS

    def stop(self) -> None:
        self._stopping.set()

    def _look(self) -> bool:
        """Return whether the portal knows now."""
        try:
            done = subprocess.run(self._command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("The check-up could not be done: %s", error)
            return False
        wrong = "\n".join(line for line in done.stdout.splitlines() if line.startswith("FAIL"))
        if wrong and wrong != self._told:
            log.warning("%s", wrong)
        self._told = wrong
        return done.returncode in (0, 1)
