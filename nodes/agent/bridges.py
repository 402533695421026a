"""A bridge of its own for each lease, with one spare made ahead: making one takes a quarter of the time a start takes.

Which lease a bridge belongs to is read from the container on it; a bridge without a container is nobody's.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass

from nodes.agent import sandbox, subnets
from nodes.agent.config import Config
from nodes.agent.engine import Engine, EngineError, filters
from nodes.agent.errors import AgentError, LeaseError
from nodes.agent.protocol import Reason

REFILL_AFTER_SECONDS = 0.5


@dataclass(frozen=True)
class Bridge:
    name: str
    subnet: str
    address: str  # of the one container on it


class Bridges:
    """The bridges of one device. Safe to call from any thread."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._label = f"{sandbox.LABEL}device={config.device_id}"
        self._lock = threading.Lock()
        self._spare: "Bridge | None" = None

    def take(self, *, outbound: bool) -> Bridge:
        """Return a bridge nobody has used before."""
        with self._lock:
            spare = None if outbound else self._spare
            if spare is not None:
                self._spare = None
        return spare or self._create(outbound=outbound)

    def refill(self) -> None:
        """Make a spare for the next start if there is none."""
        with self._lock:
            if self._spare is None:
                self._spare = self._create(outbound=False)

    def refill_soon(self) -> None:
        """Make the spare once the app that took the last one has had its start for itself."""
        timer = threading.Timer(REFILL_AFTER_SECONDS, self._try_refill)
        timer.daemon = True
        timer.start()

    def _try_refill(self) -> None:
        with contextlib.suppress(AgentError):  # then the next start makes its own
            self.refill()

    def remove(self, name: str) -> None:
        """Remove a bridge; it is fine if it is gone, or still has a container."""
        self._engine.call("DELETE", f"/networks/{name}", ignore=(403, 404))

    def remove_unused(self, used: "set[str]") -> None:
        """Remove what earlier runs left behind. Only at the start, before any lease takes one."""
        for network in self._engine.call("GET", "/networks", query=filters(label=[self._label])):
            if network["Name"] not in used:
                self.remove(network["Name"])
        self._spare = None

    def _create(self, *, outbound: bool) -> Bridge:
        prefix = sandbox.OUTBOUND_PREFIX if outbound else sandbox.CLOSED_PREFIX
        name = prefix + uuid.uuid4().hex[:10]
        for subnet, address in subnets.candidates(name, self._config.subnet_pool, subnets.routed()):
            try:
                body = sandbox.network_arguments(name, subnet, self._config.device_id)
                self._engine.call("POST", "/networks/create", body)
                return Bridge(name, subnet, address)
            except EngineError as error:
                if "overlaps" not in str(error):
                    raise
        raise LeaseError(
            Reason.DEVICE_ERROR,
            f"No free addresses are left in {self._config.subnet_pool} (subnet_pool in config.json).",
        )
