"""Cumulative totals of every lease, kept in one small file that is flushed to disk before anybody is told.

A kernel counter may start again (container, network or machine restarted) and the agent may die between two looks. So for each
counter the file keeps `total`, and the `source` and `last` value it was computed from: the next look adds value − last, or
the whole value when the source is another. Counted twice or lost: nothing, as long as source and kernel outlive the agent.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nodes.agent import files
from nodes.agent.counters import Raw
from nodes.agent.protocol import Meter, Method, Reading

LONGEST_UNSEEN_MS = 60_000  # a gap between two healthy looks that still counts as uptime
FORGET_AFTER_SECONDS = 30 * 86_400  # after the portal stopped naming a lease
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
        self._leases: dict[str, dict[str, Any]] = stored.get("leases", {})
        self._methods: dict[str, Method] = {}
        self._totals: dict[tuple[str, str], Total] = {
            (lease_id, name): Total(**value)
            for lease_id, lease in self._leases.items()
            for name, value in lease["totals"].items()
        }
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
            self._methods[lease_id] = Method.CALIBRATED
            if instructions is not None:
                grown = self._total(lease_id, "perf").absorb(instructions) * NANO
                self._methods[lease_id] = Method.PERF
            # In instructions × 10⁹, so that nothing is rounded away and a new rate changes only what comes after.
            self._total(lease_id, "compute").total += grown

    def transfer(self, lease_id: str, raw: Raw) -> None:
        """Take bytes in + out."""
        with self._lock:
            self._total(lease_id, "transfer").absorb(raw)

    def healthy(self, lease_id: str, run: str, now_ms: int) -> None:
        """Take one passed health check. The time since the one before counts, if the same run passed that and not too long ago.

        Args:
            run: names one start of one container.
            now_ms: monotonic clock, the same for every process of one boot.
        """
        with self._lock:
            uptime = self._total(lease_id, "uptime")
            source = f"{self._boot}:{run}"
            gap = now_ms - uptime.last
            if uptime.source == source and 0 <= gap <= LONGEST_UNSEEN_MS:
                uptime.total += gap
            uptime.source, uptime.last = source, now_ms

    def unhealthy(self, lease_id: str) -> None:
        """Take a failed health check or an exit: time counts again from the next pass."""
        with self._lock:
            self._total(lease_id, "uptime").source = ""

    def held(self, lease_id: str, volume_bytes: int, now_ms: int) -> None:
        """Take the size of a volume. Until the next look it counts as holding this much, in byte-milliseconds."""
        with self._lock:
            storage, size = self._total(lease_id, "storage"), self._total(lease_id, "volume")
            if storage.source == self._boot and now_ms >= storage.last:
                storage.total += size.last * (now_ms - storage.last)
            storage.source, storage.last, size.last = self._boot, now_ms, volume_bytes

    def readings(self, lease_id: str, generation: int, at: str) -> "list[Reading]":
        """Return the totals of a lease in the meters' units, as last saved. A meter that never counted is left out.

        What was counted after `save`, by the thread that checks health for instance, is not told yet: if the agent died
        now, the next one would begin lower, and after a reboot it would not catch up.
        """
        with self._lock:
            found = []
            for meter, method, unit in (
                (Meter.COMPUTE, self._methods.get(lease_id, Method.CALIBRATED), NANO),
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

    def listed(self, lease_ids: "set[str]") -> None:
        """Take which leases the portal names; others are forgotten after a month, in case it names them again."""
        now = int(time.time())
        with self._lock:
            for lease_id in lease_ids:
                self._leases.setdefault(lease_id, {})["listed_at"] = now
            for lease_id in [
                key for key, lease in self._leases.items() if now - lease["listed_at"] > FORGET_AFTER_SECONDS
            ]:
                del self._leases[lease_id]
                for key in [key for key in self._totals if key[0] == lease_id]:
                    del self._totals[key]

    def save(self) -> None:
        """Put everything on disk; after this returns it survives a power cut."""
        with self._lock:
            leases = {key: {"listed_at": lease["listed_at"], "totals": {}} for key, lease in self._leases.items()}
            for (lease_id, name), total in self._totals.items():
                leases[lease_id]["totals"][name] = asdict(total)
            files.write_json(self._path, {"leases": leases})
            self._saved = self._numbers()

    def _numbers(self) -> "dict[tuple[str, str], int]":
        return {key: total.total for key, total in self._totals.items()}

    def _total(self, lease_id: str, name: str) -> Total:
        self._leases.setdefault(lease_id, {"listed_at": int(time.time())})
        return self._totals.setdefault((lease_id, name), Total())


def now_ms() -> int:
    """Return the monotonic clock: one per boot, shared by all processes, not moved by anybody setting the time."""
    return time.monotonic_ns() // 1_000_000
