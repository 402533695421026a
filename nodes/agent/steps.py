"""Takes the steps the plan names, each in a thread of its own: a download of minutes delays no other lease."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone

from nodes.agent import diagnosis, reconcile
from nodes.agent.board import Board
from nodes.agent.counters import Counters
from nodes.agent.diagnosis import Finding
from nodes.agent.errors import AgentError, Cancelled, LeaseError
from nodes.agent.executor import Executor
from nodes.agent.keys import DeviceKey
from nodes.agent.outbox import Receipts
from nodes.agent.protocol import DesiredLease, Reason, WipeReceipt, to_json
from nodes.agent.reconcile import Seen, Step, Verb
from nodes.agent.watch import Watch

log = logging.getLogger(__name__)
RETRY_SECONDS = 5.0  # after a stop or wipe that did not succeed


class Steps:
    """Runs steps; whatever goes wrong in one concerns its lease alone."""

    def __init__(
        self,
        board: Board,
        watch: Watch,
        executor: Executor,
        *,
        counters: Counters,
        receipts: Receipts,
        key: DeviceKey,
        device_id: str,
        wake: "Callable[[], None]",
        look: "Callable[[Seen], None]",
        take_last: "Callable[[Seen], None]",
        arrived: "Callable[[], None]",
        started: "Callable[[str], None]" = lambda lease_id: None,
        admit: "Callable[[DesiredLease], None]" = lambda lease: None,
    ) -> None:
        """Args: look, take_last: read the counters of a lease before and after it is stopped. arrived: told when a receipt waits.
        started: told which lease runs from now on. admit: raises `LeaseError` where the owner's limits say no."""
        self._board, self._watch, self._executor = board, watch, executor
        self._counters, self._receipts, self._key, self._device_id = counters, receipts, key, device_id
        self._wake, self._arrived, self._admit = wake, arrived, admit
        self._look, self._take_last, self._started = look, take_last, started
        self._cancels: dict[str, threading.Event] = {}
        self.unsafe = False  # set while the firewall does not stand: nothing is started

    def launch(self, step: Step) -> None:
        """Begin a step and return at once."""
        cancel = threading.Event()
        with self._board.lock:
            self._cancels[step.lease_id] = cancel
            self._board.change(step.lease_id, busy=True)
        name = f"step-{step.verb.value}-{step.lease_id[:8]}"
        threading.Thread(target=self._take, args=(step, cancel), name=name, daemon=True).start()

    def cancel(self, lease_id: str) -> None:
        """Cut the lease's step short if one is under way and can be."""
        cancel = self._cancels.get(lease_id)
        if cancel is not None:
            cancel.set()

    def _take(self, step: Step, cancel: threading.Event) -> None:
        log.info("%s lease %s", step.verb.value, step.lease_id)
        try:
            self._dispatch(step, cancel)
        except Cancelled as error:
            log.info("lease %s: %s", step.lease_id, error)
        except LeaseError as error:
            self._failed(step, error)
        except AgentError as error:
            self._failed(step, LeaseError(Reason.DEVICE_ERROR, str(error)))
        except OSError as error:
            self._failed(step, LeaseError(Reason.DEVICE_ERROR, diagnosis.of_device(error)))
        except Exception as error:
            log.exception("lease %s: a fault of the agent", step.lease_id)
            self._failed(
                step, LeaseError(Reason.DEVICE_ERROR, f"The agent has a fault of its own: {type(error).__name__}")
            )
        finally:
            with self._board.lock:
                self._cancels.pop(step.lease_id, None)
                self._board.change(step.lease_id, busy=False)
            self._wake()

    def _dispatch(self, step: Step, cancel: threading.Event) -> None:
        if step.verb is Verb.STOP or step.lease is None:
            self._stop(step.lease_id)
        elif step.verb is Verb.START:
            self._start(step.lease, cancel)
        elif step.verb is Verb.READY:
            self._make_ready(step.lease, cancel)
        elif step.verb is Verb.RESTART:
            self._restart(step.lease)
        else:
            self._wipe(step.lease)

    def _start(self, lease: DesiredLease, cancel: threading.Event) -> None:
        """1. Firewall and owner allow it. 2–7. The container runs (docker_executor.py). 8. Its health is watched.
        Killed before the container runs, the next plan starts it; after, it finds it running and watches it."""
        if self.unsafe:
            message = "The device's firewall rules are not in place; nothing is started meanwhile."
            raise LeaseError(Reason.DEVICE_ERROR, message)
        self._admit(lease)
        seen = self._executor.start(lease, cancelled=cancel)
        with self._board.lock:
            self._board.seen[lease.lease_id] = seen
            if seen.running and not cancel.is_set():
                self._watch.add(seen, lease)
                self._started(lease.lease_id)
            else:
                self._board.change(lease.lease_id, running_since=time.monotonic())

    def _make_ready(self, lease: DesiredLease, cancel: threading.Event) -> None:
        self._admit(lease)
        seen = self._executor.make_ready(lease, cancelled=cancel)
        with self._board.lock:
            self._board.seen[lease.lease_id] = seen

    def _restart(self, lease: DesiredLease) -> None:
        """End what is not healthy, saying why; a later round starts it again or leaves it."""
        with self._board.lock:
            seen, note = self._board.seen[lease.lease_id], self._board.note(lease.lease_id)
            self._watch.drop(lease.lease_id)
        found = diagnosis.unwell(seen, lease.workload, alive=note.alive)
        self._board.fail(lease.lease_id, found, permanent=not note.was_healthy)
        self._executor.stop(lease.lease_id)

    def _stop(self, lease_id: str) -> None:
        """1. Uptime ends. 2. Counters. 3. Nothing runs. 4. Last counters, on disk and in the outbox. 5. No container, no network.
        6. No cgroup. Killed before 5, the next plan begins again with 1: what is done already changes nothing; killed after,
        an empty cgroup stays until the lease is wiped."""
        self._watch.drop(lease_id)
        with self._board.lock:
            seen = self._board.seen.get(lease_id)
        if seen is not None and seen.running:
            self._look(seen)
        self._executor.stop(lease_id)
        if seen is not None:
            try:
                self._take_last(dataclasses.replace(seen, pid=0))
            except OSError as error:  # the totals are in memory and are written with the next reading that can be
                log.warning("lease %s: its last reading cannot be written yet: %s", lease_id, error)
        self._executor.remove(lease_id)
        self._counters.remove_cgroup(lease_id)

    def _wipe(self, lease: DesiredLease) -> None:
        """1–6. As a stop. 7. No volume, no image. 8. The signed receipt is on disk. 9. It is sent.
        Killed before 8, the next process wipes what is left and signs then."""
        self._stop(lease.lease_id)
        if not self._receipts.has(lease.lease_id):
            with self._board.lock:
                newest = reconcile.newest_generations(self._board.desired)[lease.workload.id]
            held = self._executor.wipe(lease, keep_volume=newest > lease.generation)
            at = datetime.now(timezone.utc).isoformat()
            receipt = WipeReceipt(lease.lease_id, lease.generation, lease.workload.id, self._device_id, at, held)
            self._receipts.put(lease.lease_id, self._key.sign(to_json(receipt)))
        self._board.change(lease.lease_id, wiped=True)
        self._arrived()

    def _failed(self, step: Step, error: LeaseError) -> None:
        log.warning("lease %s: %s", step.lease_id, error)
        if step.verb in (Verb.STOP, Verb.WIPE):
            self._board.change(step.lease_id, retry_at=time.monotonic() + RETRY_SECONDS)
        else:
            self._board.fail(step.lease_id, Finding(error.reason, str(error)), permanent=error.permanent)
