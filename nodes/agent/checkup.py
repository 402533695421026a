"""Examines the device again once an hour and tells the portal what it found, for the device's page. A thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from nodes.agent import doctor
from nodes.agent.engine import Engine
from nodes.agent.errors import AgentError
from nodes.agent.firewall import Firewall
from nodes.agent.protocol import Check, CheckReport

log = logging.getLogger(__name__)
EVERY_SECONDS = 3600.0
RETRY_SECONDS = 60.0


class Checkup(threading.Thread):
    """The device's regular check-up."""

    def __init__(
        self,
        engine: Engine,
        firewall: Firewall,
        *,
        folder: Path,
        portal_url: str,
        tell: "Callable[[CheckReport], None]",
    ) -> None:
        super().__init__(name="checkup", daemon=True)
        self._engine, self._firewall, self._folder, self._portal_url = engine, firewall, folder, portal_url
        self._tell = tell
        self._stopping = threading.Event()
        self._wrong: "set[str] | None" = None

    def run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = EVERY_SECONDS if self._look() else RETRY_SECONDS

    def stop(self) -> None:
        self._stopping.set()

    def _look(self) -> bool:
        """Return whether the portal knows now."""
        try:
            checks = doctor.examine(self._engine, self._firewall, folder=self._folder, portal_url=self._portal_url)
            self._log(checks)
            self._tell(CheckReport(tuple(checks)))
        except AgentError as error:
            log.info("The portal could not be told what the check-up found: %s", error)
            return False
        except Exception:
            log.exception("The check-up failed; trying again.")
            return False
        return True

    def _log(self, checks: "list[Check]") -> None:
        wrong = {check.name for check in checks if not check.ok and check.needed}
        for check in checks:
            if check.name in wrong and check.name not in (self._wrong or set()):
                log.warning("%s %s", check.message, check.mend)
        self._wrong = wrong
