"""A bridge of its own for each lease, with one spare made ahead, and a holder on it: that is most of the time a start takes.

Which lease a bridge belongs to is read from the labels of the app's container; a bridge that none names is nobody's.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass, replace

from nodes.agent import sandbox, subnets
from nodes.agent.config import Config
from nodes.agent.engine import Engine, EngineError, filters
from nodes.agent.errors import AgentError, LeaseError
from nodes.agent.holders import Held, Holders
from nodes.agent.protocol import Reason

REFILL_AFTER_SECONDS = 0.5


@dataclass(frozen=True)
class Bridge:
    name: str
    address: str  # of the one container on it
    holder: "Held | None" = None


class Bridges:
    """The bridges of one device. Safe to call from any thread."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._holders = Holders(config, engine)
        self._label = f"{sandbox.LABEL}device={config.device_id}"
        self._lock = threading.Lock()
        self._spare: "Bridge | None" = None

    def take(self, lease_id: str, *, outbound: bool, port: int, alone: bool = False) -> Bridge:
        """Return a bridge for a lease: the one it has kept, or one nobody has used before. Its holder leads to the app's port.

        Args:
            alone: without a holder, for a runtime that cannot join another container's network.
        """
        if alone:
            self._holders.release(sandbox.holder_name(lease_id))
            return self.create(outbound=outbound)
        if not outbound:
            kept = self.take_up(lease_id, port=port)
            if kept is not None:
                return Bridge(kept.bridge, kept.address, kept)
        with self._lock:
            spare = None if outbound else self._spare
            if spare is not None:
                self._spare = None
        if spare is not None and spare.holder is not None and not self._holders.give(spare.holder, lease_id, port):
            self.remove(spare.name, lease_id)
            spare = None
        return spare or self.create(outbound=outbound)

    def take_up(self, lease_id: str, *, port: int) -> "Held | None":
        """Return the holder a lease has, ready again if it died; None if there is none or it cannot be."""
        return self._holders.held_by(lease_id, port)

    def refill(self) -> None:
        """Make a spare for the next start if there is none."""
        with self._lock:
            if self._spare is None:
                bare = self.create(outbound=False)
                self._spare = replace(bare, holder=self._holders.hold(bare.name, bare.address))

    def refill_soon(self) -> None:
        """Make the spare once the app that took the last one has had its start for itself."""
        timer = threading.Timer(REFILL_AFTER_SECONDS, self._try_refill)
        timer.daemon = True
        timer.start()

    def _try_refill(self) -> None:
        with contextlib.suppress(AgentError):  # then the next start makes its own
            self.refill()

    def of(self, lease_id: str) -> str:
        """Return the bridge of a lease that has a holder but no container, "" if it has neither."""
        detail = self._engine.call("GET", f"/containers/{sandbox.holder_name(lease_id)}/json", ignore=(404,))
        return str(detail["Config"]["Labels"][f"{sandbox.LABEL}holder"]) if detail else ""

    def remove(self, name: str, lease_id: str = "") -> None:
        """Remove a bridge and the holder on it; it is fine if they are gone, or an app's container is on it itself."""
        self._holders.release(sandbox.holder_name(lease_id) if lease_id else name)
        self._engine.call("DELETE", f"/networks/{name}", ignore=(403, 404))

    def remove_unused(self, used: "set[str]") -> None:
        """Remove what earlier runs left behind. Only at the start, before any lease takes one."""
        self._holders.remove_spare()
        for network in self._engine.call("GET", "/networks", query=filters(label=[self._label])):
            if network["Name"] not in used:
                self.remove(network["Name"])
        self._spare = None
        self._holders.prepare()

    def create(self, *, outbound: bool) -> Bridge:
        """Return a new bridge with nobody on it."""
        prefix = sandbox.OUTBOUND_PREFIX if outbound else sandbox.CLOSED_PREFIX
        name = prefix + uuid.uuid4().hex[:10]
        for subnet, address in subnets.candidates(name, self._config.subnet_pool, subnets.routed()):
            try:
                body = sandbox.network_arguments(name, subnet, self._config.device_id)
                self._engine.call("POST", "/networks/create", body)
                return Bridge(name, address)
            except EngineError as error:
                if "overlaps" not in str(error):
                    raise
        raise LeaseError(
            Reason.DEVICE_ERROR,
            f"No free addresses are left in {self._config.subnet_pool} (subnet_pool in config.json).",
        )
