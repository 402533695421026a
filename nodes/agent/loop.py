"""The agent: compares what is wanted with what Docker has, and takes the steps that differ.

Threads, each of which may hang or fail without the others noticing:

    main        this loop; sleeps until something happens or is due
    courier     all HTTPS with the portal
    link        the WebSocket that says "look"
    events      waits for Docker to say that a container died
    metering    counters and disks
    health-*    one per running lease
    step-*      one per step under way (a start may download for minutes)
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from datetime import datetime, timezone

from nodes.agent import __version__, capacity, diagnosis, files, reconcile
from nodes.agent.config import Home
from nodes.agent.counters import Counters
from nodes.agent.errors import AgentError, Cancelled, LeaseError
from nodes.agent.executor import Executor
from nodes.agent.firewall import Firewall
from nodes.agent.health import Monitor, run_id
from nodes.agent.keys import DeviceKey
from nodes.agent.meter import Meters, now_ms
from nodes.agent.metering import View
from nodes.agent.outbox import Receipts
from nodes.agent.protocol import (
    Action,
    Desired,
    DesiredLease,
    ProtocolError,
    Reason,
    Report,
    WipeReceipt,
    from_json,
    to_json,
)
from nodes.agent.reconcile import Note, Seen, Step, Verb

log = logging.getLogger(__name__)
ROUND_SECONDS = 15.0  # Docker tells us what changes; this is for what it did not tell
RETRY_SECONDS = 5.0  # after a stop or wipe that did not succeed
HINT_AFTER_SECONDS = 5.0  # a start that takes longer gets a first guess why
UNSAFE_ROUNDS = 3  # rounds without firewall before what runs is stopped
MONITOR_STOP_SECONDS = 1.0


class Agent:
    """One device's loop. `wire` gives it the threads it talks to."""

    def __init__(
        self,
        home: Home,
        *,
        device_id: str,
        key: DeviceKey,
        executor: Executor,
        firewall: Firewall,
        meters: Meters,
        counters: Counters,
        receipts: Receipts,
    ) -> None:
        self._home, self._device_id, self._key = home, device_id, key
        self._executor, self._firewall, self._meters, self._counters = executor, firewall, meters, counters
        self._receipts = receipts
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self.stopping = threading.Event()
        self._seen: dict[str, Seen] = {}
        self._notes: dict[str, Note] = {}
        self._monitors: dict[str, Monitor] = {}
        self._cancels: dict[str, threading.Event] = {}
        self._said: object = None
        self._unsafe_rounds = 0
        self._load = capacity.Load(home.root)
        self._desired = _stored(home)
        self.changed = self.arrived = lambda: None
        self.take_last = lambda seen: None

    # --- what other threads call -------------------------------------------------------------------------------------

    def view(self) -> View:
        with self._lock:
            return View(self._desired, dict(self._seen))

    def report(self) -> Report:
        """Return what the portal should know now."""
        with self._lock:
            statuses = reconcile.statuses(self._desired, self._seen, self._notes)
        return Report(statuses, __version__, self._load.now())

    def wake(self) -> None:
        self._wake.set()

    def want(self, desired: Desired) -> None:
        """Take a new desired state: steps it makes pointless are cut short, it is kept on disk, the loop acts at once."""
        with self._lock:
            before = {lease.lease_id: lease for lease in self._desired.leases}
            self._desired = desired
            now_wanted = {lease.lease_id: lease for lease in desired.leases}
            for lease_id, cancel in self._cancels.items():
                after = now_wanted.get(lease_id)
                if after is None or after.action is not before.get(lease_id, after).action:
                    cancel.set()
            for lease in desired.leases:
                self._restart_count(before.get(lease.lease_id), lease)
            self._meters.listed(set(now_wanted))
        self._wake.set()
        files.write_atomic(self._home.desired, to_json(desired))
        self._receipts.forget(lambda lease_id: lease_id in now_wanted)

    def revoked(self) -> None:
        """The owner removed this device from the portal: stop every app, keep their volumes until the portal says otherwise."""
        log.error("This device was removed from the portal. Stopping all apps; volumes are kept.")
        self.want(Desired())

    def overfull(self, lease: DesiredLease, held: int) -> None:
        """A lease holds more on disk than it may: stop it before it fills the owner's disk."""
        with self._lock:
            finding = diagnosis.overfull(held, lease.workload)
            self._fail(lease.lease_id, finding, permanent=True)
        self._wake.set()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Go round until `stopping`; containers are left running."""
        pause = 0.0
        while not self.stopping.is_set():
            self._wake.clear()
            try:
                self.round()
                pause = ROUND_SECONDS
            except AgentError as error:
                log.warning("This round was cut short: %s", error)
                pause = RETRY_SECONDS
            except Exception:
                log.exception("This round was cut short by a fault of the agent; going on.")
                pause = RETRY_SECONDS
            with self._lock:
                due = reconcile.next_due(self._desired, self._seen, self._notes)
            self._wake.wait(max(0.01, min(pause, due - time.monotonic())))
        for monitor in list(self._monitors.values()):
            monitor.stop()

    def round(self) -> None:
        """Look, decide, start the steps, tell.

        1. the firewall stands; 2. what Docker has; 3. exits since the last look; 4. health monitors for what runs;
        5. steps, each in its own thread; 6. the portal hears what changed.
        """
        self._check_firewall()
        seen = self._executor.observe()
        with self._lock:
            now = time.monotonic()
            self._seen = seen
            self._notes = reconcile.keep_only(self._notes, {*seen, *(lease.lease_id for lease in self._desired.leases)})
            for lease in self._desired.leases:
                self._notes.setdefault(lease.lease_id, Note(wiped=self._receipts.has(lease.lease_id)))
            self._notice_exits(now)
            self._watch(now)
            for step in reconcile.plan(self._desired, seen, self._notes, now):
                self._launch(step)
            self._tell()

    def _check_firewall(self) -> None:
        try:
            if self._firewall.ensure() and self._unsafe_rounds:
                log.warning("The firewall rules stand again.")
            self._unsafe_rounds = 0
        except AgentError as error:
            self._unsafe_rounds += 1
            log.error("%s", error)
            if self._unsafe_rounds < UNSAFE_ROUNDS:
                return
            with self._lock:
                for lease in self._desired.leases:
                    if lease.action is Action.RUN and not self._note(lease.lease_id).failed:
                        self._fail(lease.lease_id, diagnosis.Finding(Reason.DEVICE_ERROR, str(error)), permanent=True)

    def _notice_exits(self, now: float) -> None:
        for lease in self._desired.leases:
            seen, note = self._seen.get(lease.lease_id), self._note(lease.lease_id)
            if seen is None or seen.running or note.busy or not note.running_since or lease.action is not Action.RUN:
                continue
            self._unwatch(lease.lease_id)
            self._meters.unhealthy(lease.lease_id)
            self._fail(lease.lease_id, diagnosis.exited(seen, lease.workload))

    def _watch(self, now: float) -> None:
        """Keep exactly one monitor for each start of each container that should run."""
        wanted = {lease.lease_id: lease for lease in self._desired.leases if lease.action is Action.RUN}
        for lease_id, monitor in list(self._monitors.items()):
            seen = self._seen.get(lease_id)
            if lease_id not in wanted or seen is None or not seen.running or run_id(seen) != monitor.run_id:
                self._unwatch(lease_id)
        for lease_id, lease in wanted.items():
            seen, note = self._seen.get(lease_id), self._note(lease_id)
            if (
                seen is not None
                and seen.running
                and lease_id not in self._monitors
                and not note.failed
                and not note.busy
            ):
                self._monitor(seen, lease, now)

    def _monitor(self, seen: Seen, lease: DesiredLease, now: float) -> None:
        self._change(seen.lease_id, running_since=now, was_healthy=False, healthy=False)
        monitor = Monitor(seen, lease.workload.port, lease.workload.health, self._hear)
        self._monitors[seen.lease_id] = monitor
        monitor.start()

    def _unwatch(self, lease_id: str) -> None:
        monitor = self._monitors.pop(lease_id, None)
        if monitor is not None:
            monitor.stop()
            if self._note(lease_id).healthy:
                self._change(lease_id, healthy=False)

    def _hear(self, monitor: Monitor, well: bool) -> None:
        """Take one result of a health check, in the monitor's thread."""
        lease_id, now = monitor.seen.lease_id, time.monotonic()
        with self._lock:
            if self._monitors.get(lease_id) is not monitor:
                return
            note, lease = self._note(lease_id), self._lease(lease_id)
            if well:
                self._meters.healthy(lease_id, monitor.run_id, now_ms())
                if not note.healthy:
                    self._change(
                        lease_id,
                        healthy=True,
                        was_healthy=True,
                        healthy_since=now,
                        reason=Reason.NONE,
                        message="",
                        log_tail="",
                    )
                    self._tell()
            elif lease is not None and (note.healthy or self._deserves_hint(note, now)):
                self._meters.unhealthy(lease_id)
                found = diagnosis.silent(monitor.seen, lease.workload)
                since = now if note.healthy else note.unhealthy_since
                self._change(lease_id, healthy=False, unhealthy_since=since, reason=found.reason, message=found.message)
                self._tell()
                self._wake.set()

    @staticmethod
    def _deserves_hint(note: Note, now: float) -> bool:
        return not note.was_healthy and not note.message and now - note.running_since > HINT_AFTER_SECONDS

    # --- steps -------------------------------------------------------------------------------------------------------

    def _launch(self, step: Step) -> None:
        cancel = threading.Event()
        self._cancels[step.lease_id] = cancel
        self._change(step.lease_id, busy=True)
        name = f"step-{step.verb.value}-{step.lease_id[:8]}"
        threading.Thread(target=self._perform, args=(step, cancel), name=name, daemon=True).start()

    def _perform(self, step: Step, cancel: threading.Event) -> None:
        """Take one step; whatever goes wrong concerns this lease alone."""
        log.info("%s lease %s", step.verb.value, step.lease_id)
        try:
            {Verb.START: self._start, Verb.RESTART: self._restart, Verb.STOP: self._stop, Verb.WIPE: self._wipe}[
                step.verb
            ](step, cancel)
        except Cancelled as error:
            log.info("lease %s: %s", step.lease_id, error)
        except LeaseError as error:
            self._failed(step, error)
        except AgentError as error:
            self._failed(step, LeaseError(Reason.DEVICE_ERROR, str(error)))
        except Exception as error:
            log.exception("lease %s: a fault of the agent", step.lease_id)
            self._failed(
                step, LeaseError(Reason.DEVICE_ERROR, f"The agent has a fault of its own: {type(error).__name__}")
            )
        finally:
            with self._lock:
                self._cancels.pop(step.lease_id, None)
                self._change(step.lease_id, busy=False)
            self._wake.set()

    def _start(self, step: Step, cancel: threading.Event) -> None:
        assert step.lease is not None
        self._firewall.ensure()
        seen = self._executor.start(step.lease, cancelled=cancel)
        with self._lock:
            self._seen[step.lease_id] = seen
            if seen.running and not cancel.is_set():
                self._monitor(seen, step.lease, time.monotonic())
            else:
                self._change(step.lease_id, running_since=time.monotonic())

    def _restart(self, step: Step, cancel: threading.Event) -> None:
        """End what is not healthy, saying why; a later round starts it again or leaves it."""
        assert step.lease is not None
        with self._lock:
            seen, note = self._seen[step.lease_id], self._note(step.lease_id)
            self._unwatch(step.lease_id)
        found = diagnosis.silent(seen, step.lease.workload)
        self._fail(step.lease_id, found, permanent=not note.was_healthy)
        self._executor.stop(step.lease_id)

    def _stop(self, step: Step, cancel: threading.Event) -> None:
        with self._lock:
            self._unwatch(step.lease_id)
        self._executor.stop(step.lease_id)
        self._read_last(step.lease_id)
        self._executor.remove(step.lease_id)
        self._counters.remove_cgroup(step.lease_id)

    def _wipe(self, step: Step, cancel: threading.Event) -> None:
        assert step.lease is not None
        lease = step.lease
        self._stop(step, cancel)
        if not self._receipts.has(lease.lease_id):
            with self._lock:
                newest = reconcile.newest_generations(self._desired)[lease.workload.id]
            held = self._executor.wipe(lease, keep_volume=newest > lease.generation)
            at = datetime.now(timezone.utc).isoformat()
            receipt = WipeReceipt(lease.lease_id, lease.generation, lease.workload.id, self._device_id, at, held)
            self._receipts.put(lease.lease_id, self._key.sign(to_json(receipt)))
        with self._lock:
            self._change(lease.lease_id, wiped=True)
        self.arrived()

    def _read_last(self, lease_id: str) -> None:
        with self._lock:
            seen = self._seen.get(lease_id)
        if seen is not None:
            self.take_last(dataclasses.replace(seen, pid=0))

    def _failed(self, step: Step, error: LeaseError) -> None:
        log.warning("lease %s: %s", step.lease_id, error)
        if step.verb in (Verb.STOP, Verb.WIPE):
            with self._lock:
                self._change(step.lease_id, retry_at=time.monotonic() + RETRY_SECONDS)
        else:
            self._fail(step.lease_id, diagnosis.Finding(error.reason, str(error)), permanent=error.permanent)

    def _fail(self, lease_id: str, finding: diagnosis.Finding, *, permanent: bool = False) -> None:
        tail = self._log_tail(lease_id)
        with self._lock:
            note = reconcile.after_failure(
                self._note(lease_id),
                time.monotonic(),
                reason=finding.reason,
                message=finding.message,
                log_tail=tail,
                permanent=permanent,
            )
            self._notes[lease_id] = note

    def _log_tail(self, lease_id: str) -> str:
        try:
            return self._executor.log_tail(lease_id)
        except AgentError:
            return ""

    # --- small helpers -----------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        said = reconcile.statuses(self._desired, self._seen, self._notes)
        if said != self._said:
            self._said = said
            self.changed()

    def _restart_count(self, before: "DesiredLease | None", after: DesiredLease) -> None:
        """A lease that is to run again after a stop starts with a clean sheet."""
        if before is not None and before.action is not after.action and after.action is Action.RUN:
            self._notes[after.lease_id] = Note(busy=self._note(after.lease_id).busy)

    def _note(self, lease_id: str) -> Note:
        return self._notes.get(lease_id) or Note()

    def _change(self, lease_id: str, **changes: object) -> None:
        self._notes[lease_id] = dataclasses.replace(self._note(lease_id), **changes)  # type: ignore[arg-type]

    def _lease(self, lease_id: str) -> "DesiredLease | None":
        return next((lease for lease in self._desired.leases if lease.lease_id == lease_id), None)


def _stored(home: Home) -> Desired:
    """Return the desired state the portal gave last, so that a portal out of reach stops nothing."""
    try:
        return from_json(Desired, home.desired.read_bytes())
    except (FileNotFoundError, ProtocolError):
        return Desired()
