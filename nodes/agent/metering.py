"""Looks at every lease's counters now and then, keeps the totals, and hands readings to the outbox. A thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

from nodes.agent import diagnosis, holdings, reconcile, sandbox
from nodes.agent.counters import Counters
from nodes.agent.diagnosis import Finding
from nodes.agent.disk_reserve import RESERVE_BYTES
from nodes.agent.errors import AgentError
from nodes.agent.executor import Executor, Volume
from nodes.agent.meter import Meters, now_ms
from nodes.agent.outbox import Outbox
from nodes.agent.perf import Perf
from nodes.agent.protocol import Action, Desired, DesiredLease, Reading, Reason
from nodes.agent.reconcile import Seen

log = logging.getLogger(__name__)
SHORTEST_DISK_PAUSE = 10.0
DISK_SHARE = 500  # looking at a volume takes at most 1/500 of a core, however many files it has
TICK_SECONDS = 5.0
WATCH_SECONDS = 0.1  # while something that could fill the disk unhindered writes, or little is free
QUIET_WATCH_SECONDS = 0.5  # while nothing was written lately, and no disk could be filled meanwhile
FASTEST_DISK = 10_000_000_000  # bytes a second; no disk of an owner takes more
NOTICED_BYTES = 4 * 2**20  # so much less free from one look to the next: somebody writes
WRITES_FOR_SECONDS = 2.0  # who wrote a moment ago may go on
SUDDEN_BYTES = 8 * 2**20  # so much less free than when it was last looked for: look at once who took it


@dataclass(frozen=True)
class View:
    """What is wanted and what is there, at one moment."""

    desired: Desired
    seen: "dict[str, Seen]"


@dataclass(frozen=True)
class _Look:
    """When a lease's disk was looked at."""

    took: float = 0.0  # seconds
    ended: float = 0.0  # by time.monotonic()


class Metering(threading.Thread):
    """Takes readings every `reading_interval_seconds` and looks at the disks as often as is cheap."""

    def __init__(
        self,
        *,
        meters: Meters,
        counters: Counters,
        perf: Perf,
        outbox: Outbox,
        executor: Executor,
        view: "Callable[[], View]",
        overfull: "Callable[[DesiredLease, Finding], None]",
        arrived: "Callable[[], None]",
        now: "Callable[[], float]" = time.time,
    ) -> None:
        """Args: overfull: told when a lease holds more than it may. arrived: told when the outbox has something new.
        now: seconds since 1970 by the portal's clock as far as it is known; dates readings, and nothing else."""
        super().__init__(name="metering", daemon=True)
        self._meters, self._counters, self._outbox, self._executor = meters, counters, outbox, executor
        self._perf = perf
        self._view, self._overfull, self._arrived, self._now = view, overfull, arrived, now
        self._stopping, self._bell = threading.Event(), threading.Event()
        self._new: "deque[str]" = deque()
        self._one_at_a_time = threading.Lock()
        self._sent: dict[tuple[str, str], int] = {}
        self._lost = 0
        self._disk_due: dict[str, float] = {}
        self._unbounded: dict[str, _Look] = {}  # the last look at each lease the kernel does not hold
        self._room = self._last_room = self._free = 0
        self._writes_until = 0.0  # somebody wrote lately

    def run(self) -> None:
        taken = float("-inf")
        while not self._stopping.is_set():
            interval = max(1, self._view().desired.reading_interval_seconds)
            self._try(self._look_at_disks)
            if time.monotonic() - taken >= interval:
                taken = time.monotonic()
                self._try(self.take)
            self._try(partial(self._wait, min(TICK_SECONDS, interval)))

    def _try(self, part: "Callable[[], None]") -> None:
        """What fails for one lease, or by a fault of ours, must not end the metering of all."""
        try:
            part()
        except (AgentError, OSError) as error:
            log.warning("Readings could not be taken (%s); trying again.", error)
        except Exception:
            log.exception("Readings could not be taken; trying again.")

    def stop(self) -> None:
        self._stopping.set()
        self._bell.set()

    def started(self, lease_id: str) -> None:
        """Look soon whether the kernel holds what was started now: else it could fill the disk before its turn."""
        self._new.append(lease_id)
        self._bell.set()

    def take(self) -> None:
        """Take a reading.

        1. Read every counter. 2. The totals are on disk. 3. What grew is signed and in the outbox, on disk.
        Killed before 2, the kernel still has it; killed before 3, the next process sends every total once.
        """
        with self._one_at_a_time:
            view = self._view()
            for seen in view.seen.values():
                self._try(partial(self._read, seen))
            self._meters.save()
            listed = {lease.lease_id: lease.generation for lease in view.desired.leases}
            known = {**self._meters.generations(), **listed}
            self._forget(known)
            self._send(known)

    def look(self, seen: Seen) -> None:
        """Read the counters of a lease that is about to be stopped: some Engines' go with its last process."""
        with self._one_at_a_time:
            self._read(seen)

    def take_last(self, seen: Seen) -> None:
        """Read the counters of a lease that is about to be removed, and send them: the portal may soon stop naming it."""
        with self._one_at_a_time:
            self._read(seen)
            self._perf.forget(seen.lease_id)
            self._meters.unhealthy(seen.lease_id)
            self._meters.save()
            self._send({seen.lease_id: seen.generation})

    def _read(self, seen: Seen) -> None:
        # In this order: what the hardware counts between the two reads is not turned into instructions by the rate as well.
        instructions = self._perf.read(seen.lease_id)
        cpu = self._counters.cpu_nanoseconds(seen.lease_id, seen.pid, seen.container_id)
        if cpu is not None:
            # The hardware counts from when it is told to; the time before that is turned into instructions by the rate.
            self._meters.cpu(seen.lease_id, cpu, instructions)
            if seen.running and self._perf.available:
                self._perf.watch(seen.lease_id)
        transfer = self._counters.interface_bytes(seen.bridge)
        if transfer is not None:
            self._meters.transfer(seen.lease_id, transfer)

    def _send(self, generations: "dict[str, int]") -> None:
        """Put what grew since it was last put there into the outbox. The totals are on disk already."""
        if self._outbox.lost != self._lost:  # a batch could not be delivered: say all of it again
            self._lost = self._outbox.lost
            self._sent.clear()
        at = datetime.fromtimestamp(self._now(), timezone.utc).isoformat()
        told: "list[Reading]" = [
            reading
            for lease_id, generation in generations.items()
            for reading in self._meters.readings(lease_id, generation, at)
        ]
        grown = [item for item in told if item.total > self._sent.get((item.lease_id, item.meter.value), -1)]
        if grown:
            self._outbox.put(grown)
            self._sent.update({(item.lease_id, item.meter.value): item.total for item in grown})
            self._arrived()

    def _forget(self, kept: "dict[str, int]") -> None:
        self._sent = {key: total for key, total in self._sent.items() if key[0] in kept}
        self._disk_due = {lease_id: due for lease_id, due in self._disk_due.items() if lease_id in kept}

    def _wait(self, seconds: float) -> None:
        """Pause; cut short by a start, and when the disk has filled noticeably while something runs that the kernel does not hold
        to its size. Meanwhile, who grows on a nearly full disk is ended."""
        until = time.monotonic() + seconds
        while (
            not self._stopping.is_set()
            and (left := until - time.monotonic()) > 0
            and not self._bell.wait(min(left, self._pause()))
        ):
            self._end_who_grows()
            if self._unbounded and self._fills():
                for lease_id, look in self._unbounded.items():
                    # At once, but no more than half of the time is spent on looking at it.
                    self._disk_due[lease_id] = min(self._disk_due.get(lease_id, 0.0), look.ended + look.took)
                return

    def _pause(self) -> float:
        """Return how long neither `_end_who_grows` nor, while something is not held to its size, `_fills` need be asked."""
        grows = max(WATCH_SECONDS, (self._free - RESERVE_BYTES) / FASTEST_DISK)
        return min(grows, self._watch_pause()) if self._unbounded else grows

    def _end_who_grows(self) -> None:
        self._free = self._executor.free()
        view = self._view()
        wanted = {lease.lease_id: lease for lease in view.desired.leases}
        running = [
            (seen, wanted[seen.lease_id].workload.volume_path or "")
            for seen in view.seen.values()
            if seen.running and seen.lease_id in wanted
        ]
        for lease_id in self._executor.growing(running, self._free):
            self._overfull(wanted[lease_id], Finding(Reason.DEVICE_ERROR, diagnosis.DISK_FULL))

    def _watch_pause(self) -> float:
        """Return how long nobody need look: no app can take a large part of what is free meanwhile, however fast the disk is."""
        if time.monotonic() < self._writes_until:
            return WATCH_SECONDS
        return max(WATCH_SECONDS, min(QUIET_WATCH_SECONDS, self._last_room / (4 * FASTEST_DISK)))

    def _fills(self) -> bool:
        room = self._executor.room()
        taken, self._last_room = max(0, self._last_room - room), room
        if taken >= NOTICED_BYTES:
            self._writes_until = time.monotonic() + WRITES_FOR_SECONDS
        filled = self._room - room >= SUDDEN_BYTES
        self._room = room if filled else max(self._room, room)  # however slowly it fills, it adds up
        return filled

    def _look_at_disks(self) -> None:
        """Measure what each lease holds, as often as its size allows. A workload's volume counts once, for its newest lease with one."""
        self._bell.clear()
        while self._new:
            self._disk_due.pop(self._new.popleft(), None)
        view = self._view()
        with_volume = tuple(lease for lease in view.desired.leases if lease.workload.volume_path)
        newest = reconcile.newest_generations(Desired(leases=with_volume))
        self._unbounded = {lease_id: took for lease_id, took in self._unbounded.items() if lease_id in view.seen}
        # Those that are quickly looked at first: who has many files must not hide who fills the disk.
        for lease in sorted(view.desired.leases, key=lambda lease: self._unbounded.get(lease.lease_id, _Look()).took):
            if time.monotonic() < self._disk_due.get(lease.lease_id, 0.0) or lease.action is Action.WIPE:
                continue
            began = time.monotonic()
            volume = self._executor.volume(lease.workload.id) if lease.workload.volume_path else None
            if volume is not None and lease.generation == newest[lease.workload.id]:
                self._meters.held(lease.lease_id, volume.bytes, now_ms())
            else:
                self._meters.held_by_another(lease.lease_id)
            bounded = self._limit_disk(lease, view.seen.get(lease.lease_id), volume)
            took = time.monotonic() - began
            self._disk_due[lease.lease_id] = time.monotonic() + max(SHORTEST_DISK_PAUSE, took * DISK_SHARE)
            self._unbounded.pop(lease.lease_id, None)
            if not bounded:
                self._unbounded[lease.lease_id] = _Look(took, time.monotonic())

    def _limit_disk(self, lease: DesiredLease, seen: "Seen | None", volume: "Volume | None") -> bool:
        """End a lease that holds more than it may. Returns whether the kernel, not this look, keeps it from holding more."""
        if seen is None or not seen.running:
            return True
        allowed, finding = lease.workload.disk_bytes, None
        if volume is not None and (volume.bytes > allowed or volume.hidden):
            finding = diagnosis.overfull(volume.bytes, allowed, layer=False)
        layer = self._executor.layer(seen, sandbox.layer_allowance(lease.workload))
        if layer is not None:
            held, allowed = layer.bytes + layer.files * holdings.FILE_BYTES, sandbox.layer_allowance(lease.workload)
            if held > allowed or layer.hidden:
                finding = diagnosis.overfull(held, allowed, layer=bool(lease.workload.volume_path))
        if finding is not None:
            self._overfull(lease, finding)
        return layer is None and (volume is None or volume.bounded)
