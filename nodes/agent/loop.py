"""The agent: compares what is wanted with what Docker has, and takes the steps that differ.

Threads, each of which may hang or fail without the others noticing:

    main        this loop; sleeps until something happens or is due
    courier     all HTTPS with the portal
    link        the WebSocket that says "look"
    events      waits for Docker to say that a container died
    metering    counters and disks
    directory   gossips the directory with peers, and sees whether this device is cut off
    directory-http  answers clients and peers
    health      asks every running lease whether it is well
    step-*      one per step under way
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time

from nodes.agent import __version__, capacity, diagnosis, files, reconcile, self_stop
from nodes.agent.board import Board
from nodes.agent.config import Home
from nodes.agent.diagnosis import Finding
from nodes.agent.errors import AgentError
from nodes.agent.executor import Executor
from nodes.agent.firewall import Firewall
from nodes.agent.meter import Meters
from nodes.agent.metering import View
from nodes.agent.outbox import Receipts
from nodes.agent.protocol import Action, Desired, DesiredLease, ProtocolError, Reason, Report, from_json, to_json
from nodes.agent.reconcile import Note
from nodes.agent.self_stop import Decision
from nodes.agent.steps import Steps
from nodes.agent.watch import Watch

log = logging.getLogger(__name__)
ROUND_SECONDS = 15.0  # Docker tells us what changes; this is for what it did not tell
RETRY_SECONDS = 5.0  # after a round that was cut short
FIREWALL_SECONDS = 20.0  # a start relies on no older look; quiet rounds look anyway, so that it seldom waits for one
UNSAFE_ROUNDS = 3  # rounds without firewall before what runs is stopped
SHORTEST_PAUSE = 0.01


class Agent:
    """One device's loop. `wiring.py` puts it together."""

    def __init__(
        self,
        home: Home,
        board: Board,
        *,
        executor: Executor,
        firewall: Firewall,
        watch: Watch,
        steps: Steps,
        meters: Meters,
        receipts: Receipts,
        wake: threading.Event,
    ) -> None:
        self._home, self._board, self._executor, self._firewall = home, board, executor, firewall
        self._watch, self._steps, self._meters, self._receipts = watch, steps, meters, receipts
        self._wake = wake
        self.stopping = threading.Event()
        self._unsafe_rounds, self._firewall_due = 0, 0.0
        self._load = capacity.Load(home.root)
        self._removed = home.removed.exists()
        self._told, self._held = stored_desired(home) or Desired(), stored_hold(home)

    def run(self) -> None:
        """Go round until `stopping`; containers are left running."""
        while not self.stopping.is_set():
            self._wake.clear()
            pause = RETRY_SECONDS
            try:
                self.round()
                pause = ROUND_SECONDS
            except AgentError as error:
                self.distrust()
                log.warning("This round was cut short: %s", error)
            except Exception:
                log.exception("This round was cut short by a fault of the agent; going on.")
            with self._board.lock:
                due = reconcile.next_due(self._board.desired, self._board.seen, self._board.notes)
            if not self._wake.wait(max(SHORTEST_PAUSE, min(pause, due - time.monotonic()))):
                self._firewall_due = 0.0
        self._watch.stop()

    def round(self) -> None:
        """Look, decide, begin the steps, tell.

        1. the firewall stands; 2. what Docker has; 3. exits since the last look; 4. a health monitor for each that runs;
        5. steps, each in its own thread; 6. the portal hears what changed.
        """
        self._check_firewall()
        seen = self._executor.observe()
        board = self._board
        with board.lock:
            board.seen = seen
            listed = {lease.lease_id for lease in board.desired.leases}
            board.notes = reconcile.keep_only(board.notes, {*seen, *listed})
            for lease_id in listed:
                board.notes.setdefault(lease_id, Note(wiped=self._receipts.has(lease_id)))
            for lease in board.desired.leases:
                self._notice_exit(lease)
            self._watch.keep()
            if board.informed:
                for step in reconcile.plan(board.desired, seen, board.notes, time.monotonic()):
                    self._steps.launch(step)
            board.tell()

    # --- what other threads call -------------------------------------------------------------------------------------

    def distrust(self) -> None:
        """Docker was away: whoever started it again may have set the firewall anew. Look before anything starts."""
        self._firewall_due = 0.0

    def view(self) -> View:
        with self._board.lock:
            return View(self._board.desired, dict(self._board.seen))

    def report(self) -> Report:
        """Return what the portal should know now."""
        return Report(self._board.statuses(), __version__, self._load.now())

    def want(self, desired: Desired) -> None:
        """Take a new desired state.

        0. Keys of volumes go to memory and nowhere else. 1. It is on disk, where it ends something: an agent that died must not begin again what was ended. 2. What it makes
        pointless is cut short. 3. The loop acts on it. 4. It is on disk, where it only adds: a start does not wait for the disk.
        """
        self._executor.know_keys({lease.workload.id: lease.volume_key for lease in desired.leases if lease.volume_key})
        desired = without_keys(desired)
        with self._board.lock:
            self._told = desired
            before = {lease.lease_id for lease in self._board.desired.leases}
        listed = {lease.lease_id for lease in desired.leases}
        ends = not before <= listed or any(lease.action is not Action.RUN for lease in desired.leases)
        if ends:
            self._keep(desired)
        self._pursue(self_stop.without(desired, self._held))
        if not ends:
            self._keep(desired)
        self._receipts.forget(lambda lease_id: lease_id in listed)

    def hold(self, decision: Decision) -> None:
        """Stop leases because this device is cut off; their data is kept, also over a restart."""
        with self._board.lock:
            held = self._held | decision.lease_ids
            if held == self._held:
                return
            log.error("%s Stopping %d leases until the portal answers.", decision.why, len(held - self._held))
            self._held = held
        try:
            files.write_json(self._home.self_stop, sorted(held))
        except OSError as error:
            log.error("That these leases are stopped cannot be kept on disk (%s).", error)
        self._pursue(self_stop.without(self._told, held))

    def release(self) -> None:
        """The portal answers: what it wants counts again."""
        if self._removed:
            self._removed = False
            self._home.removed.unlink(missing_ok=True)
        if self._held:
            log.info("The portal answers: starting what it wants here.")
            self._held = frozenset()
            self._home.self_stop.unlink(missing_ok=True)
            self._pursue(self._told)

    def _pursue(self, desired: Desired) -> None:
        """Let the loop bring about a desired state."""
        listed = {lease.lease_id: lease.generation for lease in desired.leases}
        with self._board.lock:
            before = {lease.lease_id: lease for lease in self._board.desired.leases}
            self._board.desired, self._board.informed = desired, True
            for lease_id in before.keys() - listed.keys():
                self._steps.cancel(lease_id)
            for lease in desired.leases:
                self._change_of_mind(before.get(lease.lease_id), lease)
            self._meters.listed(listed, is_wiped=self._receipts.has)
        self._wake.set()

    def _keep(self, desired: Desired) -> None:
        try:
            files.write_atomic(self._home.desired, to_json(desired))
        except OSError as error:  # a full disk must not keep an app running that the portal ends
            log.error("The desired state cannot be kept on disk (%s).", error)

    def revoked(self) -> None:
        """The owner removed this device from the portal: stop every app; volumes are kept."""
        if not self._removed:
            self._removed = True
            with contextlib.suppress(OSError):  # only what its owner types reads it
                self._home.removed.touch()
        if self._board.desired.leases:
            log.error("This device was removed from the portal. Stopping all apps; their volumes are kept.")
            self.want(Desired())

    def overfull(self, lease: DesiredLease, finding: Finding) -> None:
        """A lease holds more on disk than it may, or than the disk has room for: end it at once, before it fills the owner's disk."""
        self._board.fail(lease.lease_id, finding, permanent=finding.permanent)
        self._executor.kill(lease.lease_id)
        self._wake.set()

    # --- parts of a round --------------------------------------------------------------------------------------------

    def _change_of_mind(self, before: "DesiredLease | None", after: DesiredLease) -> None:
        if before is None or before.action is after.action:
            return
        self._steps.cancel(after.lease_id)
        if after.action is Action.RUN:  # told to run again: a clean sheet
            self._board.notes[after.lease_id] = Note(busy=self._board.note(after.lease_id).busy)

    def _notice_exit(self, lease: DesiredLease) -> None:
        seen, note = self._board.seen.get(lease.lease_id), self._board.note(lease.lease_id)
        if seen is None or seen.running or note.busy or not note.running_since or lease.action is not Action.RUN:
            return
        self._watch.drop(lease.lease_id)
        filled = seen.exit_code != 0 and self._executor.is_full(lease.lease_id)
        found = diagnosis.exited(seen, lease.workload, filled=filled)
        log.warning("lease %s: %s", lease.lease_id, found.message)
        self._board.fail(lease.lease_id, found, permanent=found.permanent)

    def _check_firewall(self) -> None:
        if not self._unsafe_rounds and time.monotonic() < self._firewall_due:
            return
        self._firewall_due = time.monotonic() + FIREWALL_SECONDS
        try:
            if self._firewall.ensure():
                log.info("Firewall rules set.")
            self._unsafe_rounds = 0
        except AgentError as error:
            self._unsafe_rounds += 1
            log.error("%s", error)
            if self._unsafe_rounds >= UNSAFE_ROUNDS:
                self._give_up_all(Finding(Reason.DEVICE_ERROR, str(error)))
        self._steps.unsafe = bool(self._unsafe_rounds)

    def _give_up_all(self, finding: Finding) -> None:
        for lease in self._board.desired.leases:
            if lease.action is Action.RUN and not self._board.note(lease.lease_id).failed:
                self._board.fail(lease.lease_id, finding, permanent=True)


def without_keys(desired: Desired) -> Desired:
    """Return the desired state as it may be kept on the disk and written to logs."""
    leases = tuple(dataclasses.replace(lease, volume_key="") for lease in desired.leases)
    return dataclasses.replace(desired, leases=leases)


def stored_desired(home: Home) -> "Desired | None":
    """Return the desired state the portal gave last, so that a portal out of reach stops nothing; None if there is none."""
    try:
        return from_json(Desired, home.desired.read_bytes())
    except FileNotFoundError:
        return None
    except ProtocolError as error:
        log.error("%s is damaged (%s). What runs is left alone until the portal answers.", home.desired, error)
        return None


def stored_hold(home: Home) -> "frozenset[str]":
    """Return the leases this device stopped itself before it ended."""
    found = files.read_json(home.self_stop)
    return frozenset(str(lease_id) for lease_id in found) if isinstance(found, list) else frozenset()
