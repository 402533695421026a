"""Cumulative totals of every lease, kept in one small file that is flushed to disk before anybody is told.

A kernel counter may start again (container, network or machine restarted) and the agent may die between two looks. So for each
counter the file keeps `total`, and the `source` and `last` value it was computed from: the next look adds value − last, or
the whole value when the source is another. Counted twice or lost: nothing, as long as source and kernel outlive the agent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nodes.agent import files
from nodes.agent.counters import Raw
from nodes.agent.protocol import Meter, Method, Reading

log = logging.getLogger(__name__)
LONGEST_UNSEEN_MS = (
    60_000  # a gap between two healthy looks that still counts as uptime, beyond the pause between checks
)
KEPT_UNLISTED = 200  # leases the portal no longer names, in case it names them again; by number, because clocks jump
NANO = 1_000_000_000


@dataclass
class Total:
    """One growing number and what it was last computed from."""

    total: int = 0
    source: str = ""
    last: int = 0

    def absorb(self, raw: Raw) -> int:
        """Add what the counter grew by since the last look; returns that."""
        grown = raw.value - self.last if raw.source == self.source and raw.value >= self.last else raw.value
        self.total, self.source, self.last = self.total + grown, raw.source, raw.value
        return grown


class Meters:
    """Totals by lease. Safe to call from any thread. Nothing is on disk before `save`, and nothing is told before that."""

    def __init__(self, path: Path, *, instructions_per_second: int, boot_id: str) -> None:
        self._path, self._rate, self._boot = path, instructions_per_second, boot_id
        self._lock = threading.Lock()
        stored = files.read_json(path) or {}
        self._leases: dict[str, dict[str, Any]] = {}
        self._totals: dict[tuple[str, str], Total] = {
            (lease_id, name): Total(**value)
            for lease_id, lease in stored.get("leases", {}).items()
            for name, value in lease["totals"].items()
        }
        for lease_id, lease in stored.get("leases", {}).items():
            self._leases[lease_id] = {key: value for key, value in lease.items() if key in ("generation", "unlisted")}
        self._saved = self._numbers()

    def calibrate(self, instructions_per_second: int) -> None:
        """Turn processor time into instructions at another rate from now on; what was counted stays."""
        with self._lock:
            self._rate = instructions_per_second

    def cpu(self, lease_id: str, raw: Raw, instructions: "Raw | None" = None) -> None:
        """Take processor time in nanoseconds, and what the hardware counted in the same time where it did.

        Without a hardware count the time becomes instructions at the device's calibrated rate.
        """
        with self._lock:
            grown = self._total(lease_id, "cpu").absorb(raw) * self._rate
            if instructions is not None:
                grown = self._total(lease_id, "perf").absorb(instructions) * NANO
            # In instructions × 10⁹, so that nothing is rounded away and a new rate changes only what comes after.
            self._total(lease_id, "compute").total += grown

    def transfer(self, lease_id: str, raw: Raw) -> None:
        """Take bytes in + out."""
        with self._lock:
            self._total(lease_id, "transfer").absorb(raw)

    def healthy(self, lease_id: str, run: str, now_ms: int, *, pause_ms: int = 0) -> None:
        """Take one passed health check. The time since the one before counts, if the same run passed that and not too long ago.

        Args:
            run: names one start of one container.
            now_ms: monotonic clock, the same for every process of one boot.
            pause_ms: how long the release lets pass between two checks.
        """
        with self._lock:
            uptime = self._total(lease_id, "uptime")
            source = f"{self._boot}:{run}"
            gap = now_ms - uptime.last
            if uptime.source == source and 0 <= gap <= LONGEST_UNSEEN_MS + pause_ms:
                uptime.total += gap
            uptime.source, uptime.last = source, now_ms

    def unhealthy(self, lease_id: str) -> None:
        """Take a failed health check or an exit: time counts again from the next pass.

        On disk before this returns: an agent that died now would else count until then when it is back within a minute.
        """
        with self._lock:
            uptime = self._totals.get((lease_id, "uptime"))
            if uptime is not None and uptime.source:
                uptime.source = ""
                self._save_if_possible()

    def held(self, lease_id: str, volume_bytes: int, now_ms: int) -> None:
        """Take the size of a volume. Since the look before it held the smaller of the two sizes, in byte-milliseconds:
        what came and went between, or while the agent was away, nobody saw. A smaller size is on disk before this returns."""
        with self._lock:
            storage, size = self._total(lease_id, "storage"), self._total(lease_id, "volume")
            shrunk = volume_bytes < size.last
            if storage.source == self._boot and now_ms >= storage.last:
                storage.total += min(size.last, volume_bytes) * (now_ms - storage.last)
            storage.source, storage.last, size.last = self._boot, now_ms, volume_bytes
            if shrunk:
                self._save_if_possible()

    def held_by_another(self, lease_id: str) -> None:
        """Another lease counts the volume now: should it come back to this one, it counts from then."""
        with self._lock:
            storage = self._totals.get((lease_id, "storage"))
            if storage is not None and storage.source:
                storage.source = ""
                self._save_if_possible()

    def readings(self, lease_id: str, generation: int, at: str) -> "list[Reading]":
        """Return the totals of a lease in the meters' units, as last saved. A meter that never counted is left out.

        What was counted after `save`, by the thread that checks health for instance, is not told yet: if the agent died
        now, the next one would begin lower, and after a reboot it would not catch up.
        """
        with self._lock:
            found = []
            for meter, method, unit in (
                (Meter.COMPUTE, self._compute_method(lease_id), NANO),
                (Meter.TRANSFER, Method.INTERFACE, 1),
                (Meter.UPTIME, Method.CLOCK, 1),
                (Meter.STORAGE, Method.VOLUME, 1000),
            ):
                total = self._saved.get((lease_id, meter.value))
                if total is not None:
                    found.append(Reading(lease_id, generation, meter, total // unit, at, method))
            return found

    def transfers(self) -> "dict[str, int]":
        """Return the bytes in + out of every lease that is remembered."""
        with self._lock:
            return {lease_id: total.total for (lease_id, name), total in self._totals.items() if name == "transfer"}

    def generations(self) -> "dict[str, int]":
        """Return the generation of every lease that is remembered, whether the portal still names it or not."""
        with self._lock:
            return {key: lease["generation"] for key, lease in self._leases.items() if lease.get("generation")}

    def listed(
        self, generations: "Mapping[str, int]", *, is_wiped: "Callable[[str], bool]" = lambda lease_id: False
    ) -> None:
        """Take which leases the portal names. What is wiped and named no more is forgotten; of the others the last ones stay."""
        with self._lock:
            last = max((lease.get("unlisted", 0) for lease in self._leases.values()), default=0)
            for lease_id, lease in self._leases.items():
                if lease_id not in generations and not lease.get("unlisted"):
                    last += 1
                    lease["unlisted"] = last
            for lease_id, generation in generations.items():
                self._leases[lease_id] = {"generation": generation}
            unlisted = [key for key, lease in self._leases.items() if lease.get("unlisted")]
            old = sorted(unlisted, key=lambda key: int(self._leases[key]["unlisted"]))[:-KEPT_UNLISTED]
            self._forget({*old, *filter(is_wiped, unlisted)})

    def _forget(self, lease_ids: "set[str]") -> None:
        for lease_id in lease_ids:
            del self._leases[lease_id]
        for key in [key for key in self._totals if key[0] in lease_ids]:
            del self._totals[key]
            self._saved.pop(key, None)

    def save(self) -> None:
        """Put everything on disk; after this returns it survives a power cut."""
        with self._lock:
            self._save()

    def save_if_possible(self) -> None:
        """Put everything on disk, or with the next `save` that succeeds: a full disk ends no watch and no stop."""
        with self._lock:
            self._save_if_possible()

    def _save_if_possible(self) -> None:
        try:
            self._save()
        except OSError as error:
            log.error("The totals cannot be kept on disk (%s); they are in memory until they can.", error)

    def _save(self) -> None:
        leases: dict[str, dict[str, Any]] = {key: {**lease, "totals": {}} for key, lease in self._leases.items()}
        for (lease_id, name), total in self._totals.items():
            leases[lease_id]["totals"][name] = asdict(total)
        files.write_json(self._path, {"leases": leases})
        files.hold_ballast(self._path.parent)
        self._saved = self._numbers()

    def _compute_method(self, lease_id: str) -> Method:
        """The better method names a total that both had a part in: what it can be at most is bounded by that one."""
        return Method.PERF if (lease_id, "perf") in self._totals else Method.CALIBRATED

    def _numbers(self) -> "dict[tuple[str, str], int]":
        return {key: total.total for key, total in self._totals.items()}

    def _total(self, lease_id: str, name: str) -> Total:
        self._leases.setdefault(lease_id, {})
        return self._totals.setdefault((lease_id, name), Total())


def now_ms() -> int:
    """Return the monotonic clock: one per boot, shared by all processes, not moved by anybody setting the time."""
    return time.monotonic_ns() // 1_000_000
