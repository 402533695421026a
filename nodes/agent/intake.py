"""Whether this device takes apps now, and which: the owner's switch, hours, traffic and limits, held to here whatever the portal says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone

from nodes.agent import limits, switch
from nodes.agent.board import Board
from nodes.agent.config import Home, OwnLimits
from nodes.agent.diagnosis import Finding
from nodes.agent.errors import LeaseError
from nodes.agent.limits import Standing
from nodes.agent.meter import Meters
from nodes.agent.protocol import Action, DesiredLease, Limits, Mode, Reason
from nodes.agent.reconcile import Note
from nodes.agent.traffic import Traffic

log = logging.getLogger(__name__)
TICK_SECONDS = 2.0


class Intake(threading.Thread):
    """Looks every two seconds; declines what may not run, and stops what may not go on."""

    def __init__(
        self,
        home: Home,
        own: OwnLimits,
        board: Board,
        meters: Meters,
        *,
        news: "Callable[[], None]",
        wake: "Callable[[], None]",
    ) -> None:
        """Args: news: the portal should hear of a new standing. wake: the loop has something to stop or start."""
        super().__init__(name="intake", daemon=True)
        self._home, self._own, self._board, self._meters = home, own, board, meters
        self._news, self._wake = news, wake
        self.traffic = Traffic(home.traffic)
        self._stopping = threading.Event()
        self.standing = self.look()

    def run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self.tick()
            except Exception:  # an owner's limits must not end with one fault
                log.exception("The owner's limits could not be looked at; trying again.")

    def stop(self) -> None:
        self._stopping.set()
        self.traffic.save()

    def tick(self) -> None:
        """1. Count the traffic. 2. Where we stand. 3. Stop what may not go on; let what may again start afresh."""
        others, before = self._own.look(), self.standing
        self.standing = self.look()
        self._enforce(afresh=others)
        if before != self.standing:
            log.info("This device is %s. %s", self.standing.mode.value, self.standing.reason)
        if others or before != self.standing:
            self._news()
            self._wake()

    def look(self) -> Standing:
        """Return the strictest of the owner's switch and, for both sets of limits, hours and traffic."""
        now = datetime.now(timezone.utc)
        used = self.traffic.add(self._meters.transfers(), self.month(now))
        found = [self._switched(now.timestamp())]
        for each in self._both():
            found += [limits.by_clock(each, now), limits.by_traffic(each, used)]
        return limits.strictest(found)

    def month(self, now: datetime) -> str:
        """Return the month traffic is counted in: by the zone of the limit in force, the device's own first."""
        own, asked = self._both()
        return limits.month(own if own.transfer_bytes_per_month else asked, now)

    def downloaded(self, size: int) -> None:
        self.traffic.add_download(size, self.month(datetime.now(timezone.utc)))

    def load(self) -> "dict[str, int]":
        """Return the figure reports carry."""
        return {"transfer_month_bytes": self.traffic.used(self.month(datetime.now(timezone.utc)))}

    def admit(self, lease: DesiredLease) -> None:
        """Return if the lease may start here now.

        Raises:
            LeaseError: `declined`; the portal finds it another place.
        """
        reason = self.standing.reason or "The device's owner takes no new apps now."
        objections = [reason] if self.standing.mode is not Mode.OPEN and not self._was_here(lease) else []
        objections += [limits.objection(each, lease.workload) for each in self._both()]
        objections.append(self._lacks_room(lease))
        for objection in filter(None, objections):
            raise LeaseError(Reason.DECLINED, objection, permanent=True)

    def _both(self) -> "tuple[Limits, Limits]":
        return self._own.now, self._board.desired.limits

    def _switched(self, now: float) -> Standing:
        chosen = switch.read(self._home.mode)
        if chosen.mode is Mode.DRAINING and now - chosen.since > self._own.now.drain_minutes * 60:
            return Standing(Mode.CLOSED, "Its owner drained it at the device.")
        words = {Mode.PAUSED: "Its owner paused it at the device.", Mode.DRAINING: "Its owner drains it at the device."}
        return Standing(chosen.mode, words.get(chosen.mode, ""))

    def _was_here(self, lease: DesiredLease) -> bool:
        """A pause lets what runs go on, so also what crashed a moment ago; draining and closed do not."""
        return self.standing.mode is Mode.PAUSED and lease.lease_id in self._board.seen

    def _lacks_room(self, lease: DesiredLease) -> str:
        """Generations that share a volume never run side by side, so such a workload counts once; others count each."""
        with self._board.lock:
            listed = [other for other in self._board.desired.leases if not _is_same(other, lease)]
            running = [other for other in listed if self._takes_room(other, before=lease)]
        holding = {_place(other): other.workload for other in listed if other.workload.volume_path or other in running}
        sums = {
            "cpu_millis": sum({_place(other): other.workload.cpu_millis for other in running}.values()),
            "memory_bytes": sum({_place(other): other.workload.memory_bytes for other in running}.values()),
            "disk_bytes": sum(workload.disk_bytes for workload in holding.values()),
        }
        names = {"cpu_millis": "processor", "memory_bytes": "memory", "disk_bytes": "disk"}
        for name, taken in sums.items():
            most = limits.least(*(getattr(each, name) for each in self._both()))
            if most and taken + getattr(lease.workload, name) > most:
                return f"The device's owner lends no more {names[name]} than is in use."
        return ""

    def _takes_room(self, other: DesiredLease, *, before: DesiredLease) -> bool:
        note = self._board.note(other.lease_id)
        if other.action is not Action.RUN or note.failed:
            return False
        if other.lease_id in self._board.seen:
            return True
        # Of two that start at once the one listed first has the room.
        leases = self._board.desired.leases
        return note.busy and leases.index(other) < (leases.index(before) if before in leases else len(leases))

    def _enforce(self, *, afresh: bool) -> None:
        declined: "list[tuple[str, str]]" = []
        with self._board.lock:
            for lease in self._board.desired.leases:
                note = self._board.note(lease.lease_id)
                if lease.action is not Action.RUN or note.busy:
                    continue
                why = next(filter(None, (limits.objection(each, lease.workload) for each in self._both())), "")
                if self.standing.mode is Mode.CLOSED:
                    why = why or self.standing.reason
                if why and not note.failed:
                    declined.append((lease.lease_id, why))
                elif not why and note.failed and note.reason is Reason.DECLINED and (afresh or self._may_again(note)):
                    self._board.notes[lease.lease_id] = Note()
                    self._wake()
        for lease_id, why in declined:
            log.info("lease %s: %s", lease_id, why)
            self._board.fail(lease_id, Finding(Reason.DECLINED, why), permanent=True)
            self._wake()

    def _may_again(self, note: Note) -> bool:
        """What was declined for want of room or for the mode gets another chance a minute later, if it is still wanted."""
        return self.standing.mode is Mode.OPEN and time.monotonic() - note.unhealthy_since > 60.0


def _is_same(one: DesiredLease, other: DesiredLease) -> bool:
    """Whether these never run side by side."""
    shares = bool(one.workload.volume_path or other.workload.volume_path)
    return one.lease_id == other.lease_id or (shares and one.workload.id == other.workload.id)


def _place(lease: DesiredLease) -> str:
    return lease.workload.id if lease.workload.volume_path else lease.lease_id
