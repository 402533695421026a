"""Carries everything between agent and portal over HTTPS, in a thread of its own: a portal that hangs delays no app."""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable

from nodes.agent import backoff, wording
from nodes.agent.contact import Contact
from nodes.agent.errors import AgentError, PortalRefused, PortalUnreachable
from nodes.agent.outbox import Outbox, Receipts
from nodes.agent.protocol import Desired, Report
from nodes.agent.server_api import Portal

log = logging.getLogger(__name__)
LONGEST_PAUSE_SECONDS = 60.0
UNCHANGED_REPORTS = 4  # report intervals; a report that only says the same is sent once in so many
DEVICE_REVOKED = "device_revoked"


class Courier(threading.Thread):
    """Fetches the desired state when told to or when due, sends reports when they change or are due, empties outbox and receipts."""

    def __init__(
        self,
        portal: Portal,
        *,
        outbox: Outbox,
        receipts: Receipts,
        report: "Callable[[], Report]",
        desired: "Callable[[Desired], None]",
        revoked: "Callable[[], None]",
        refused: "Callable[[PortalRefused], None]" = lambda error: None,
        upkeep: "Callable[[], None]" = lambda: None,
        contact: "Contact | None" = None,
    ) -> None:
        """Args: report: asked for what to say. desired: given what the portal wants. revoked: the owner removed the device.
        refused: told of every refusal. upkeep: called after each report that arrived; may use the portal.
        contact: told whether the portal answers."""
        super().__init__(name="courier", daemon=True)
        self._portal, self._outbox, self._receipts = portal, outbox, receipts
        self._report, self._desired, self._revoked = report, desired, revoked
        self._refusal, self._upkeep = refused, upkeep
        self._contact = contact or Contact()
        self._wake = threading.Event()
        self._stopping, self._resting = False, False
        self._one_round = threading.Lock()
        self._look, self._changed = True, True
        self._times = Desired()
        self._poll_due = self._report_due = 0.0
        self._pause = self._away_until = 0.0
        self._told: "Report | None" = None  # what the portal took last, and until when it need not hear it again
        self._told_until = 0.0

    def look(self) -> None:
        """Fetch the desired state now."""
        self._look = True
        self._wake.set()

    def changed(self, within_seconds: float = 0.0) -> None:
        """Send a report now, or with the next one but no later than so many seconds from now."""
        self._report_due = min(self._report_due, time.monotonic() + within_seconds)
        self._wake.set()

    def arrived(self) -> None:
        """Send readings and receipts now."""
        self._wake.set()

    def rest(self, *, seconds: float) -> None:
        """Say nothing more from now until `resume`; waits so long for what is being said."""
        self._resting = True
        if self._one_round.acquire(timeout=seconds):
            self._one_round.release()

    def resume(self) -> None:
        """Go on after a rest, with everything at once."""
        self._resting, self._changed, self._told = False, True, None
        self.look()

    def run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            if self._resting:
                self._wake.wait()
                continue
            try:
                with self._one_round:
                    self.round()
                self._pause = 0.0
            except PortalRefused as error:
                self._refused(error)
            except PortalUnreachable as error:
                self._contact.failed()
                self._slow_down(
                    f"The portal cannot be used now ({error}). Apps go on; trying again.", error.retry_after
                )
            except Exception:  # a fault of ours must not silence the device
                log.exception("Unexpected; trying again.")
                self._slow_down("")
            self._wait()
        self._farewell()

    def round(self) -> None:
        """Do whatever is due, the wishes of the portal first."""
        now = time.monotonic()
        if self._look or now >= self._poll_due:
            self._look = False
            self._fetch()
            self._poll_due = now + max(1, self._times.poll_interval_seconds) * _jitter()
        if self._changed or time.monotonic() >= self._report_due:
            self._changed = False
            # Before what is told is looked at, so that what changes meanwhile is told next.
            self._report_due = time.monotonic() + max(1, self._times.report_interval_seconds)
            self._tell(self._report())
            self._upkeep()
        self.deliver()

    def _tell(self, report: Report) -> None:
        """Send a report, unless it says what the last one said a short while ago: how loaded the device is may wait."""
        news = dataclasses.replace(report, load={})
        if news == self._told and time.monotonic() < self._told_until:
            return
        self._told = None
        self._contact.asked()
        try:
            self._portal.report(report)
            self._contact.answered()
        except AgentError:
            self._changed = True
            raise
        self._told = news
        self._told_until = time.monotonic() + UNCHANGED_REPORTS * max(1, self._times.report_interval_seconds) - 0.5

    def deliver(self) -> None:
        """Send what waits in the outbox and the receipts until both are empty.

        1. The oldest goes out. 2. The portal has it. 3. It leaves the disk. Killed before 3, it goes twice, which changes nothing.
        """
        while True:
            waiting = self._outbox.oldest()
            if waiting is None:
                break
            name, jws = waiting
            try:
                accepted = self._portal.readings(jws)
                if accepted.refused:
                    log.warning("The portal does not know leases %s as this device's.", ", ".join(accepted.refused))
                self._outbox.confirmed(name)
            except PortalRefused as error:
                if not error.permanent or error.code == DEVICE_REVOKED:
                    raise
                log.error("The portal refused readings for good (%s: %s); set aside.", error.code, error)
                self._outbox.refused(name)
        for lease_id, jws in self._receipts.waiting():
            try:
                self._portal.receipt(jws)
            except PortalRefused as error:
                if not error.permanent or error.code == DEVICE_REVOKED:
                    raise
                log.error("The portal refused the wipe receipt of %s (%s: %s).", lease_id, error.code, error)
            self._receipts.confirmed(lease_id)

    def stop(self, *, seconds: float) -> None:
        """End the thread, then try for so long to say what is left to say."""
        self._stopping = True
        self._wake.set()
        self.join(seconds)

    def _farewell(self) -> None:
        """Say what is left to say; what does not arrive waits on disk for the next start."""
        try:
            self._portal.report(self._report())
            self.deliver()
        except AgentError as error:
            log.info("The portal could not be told goodbye: %s", error)
        self._portal.close()

    def _fetch(self) -> None:
        self._contact.asked()
        try:
            desired = self._portal.desired()
        except AgentError:
            self._poll_due = 0.0
            raise
        if desired is not None:
            self._times = desired
            self._desired(desired)
        self._contact.informed()

    def _refused(self, error: PortalRefused) -> None:
        self._contact.refused()
        if error.code == DEVICE_REVOKED:
            self._revoked()
        self._refusal(error)
        revoked = error.code == DEVICE_REVOKED
        words = wording.REMOVED if revoked else f"The portal refused this device ({error.code}: {error})."
        self._slow_down(words, error.retry_after)

    def _slow_down(self, message: str, asked: float = 0.0) -> None:
        if message and not self._pause:
            log.warning(message)
        self._pause = min(max(1.0, self._pause * 2), LONGEST_PAUSE_SECONDS)
        self._away_until = time.monotonic() + backoff.obey(asked) if asked else 0.0

    def _wait(self) -> None:
        if self._pause:
            # Not woken by every change of an app: the portal is down or angry. A link that comes up again calls look(), and
            # so does the directory when this device is no longer cut off; perhaps while the last attempt was still failing.
            until = max(time.monotonic() + self._pause * _jitter(), self._away_until)
            while not self._stopping and time.monotonic() < until:
                if self._look and time.monotonic() >= self._away_until:
                    return
                self._wake.wait(max(0.0, (self._away_until if self._look else until) - time.monotonic()))
                self._wake.clear()
            return
        self._wake.wait(max(0.05, min(self._poll_due, self._report_due) - time.monotonic()))


def _jitter() -> float:
    return 0.8 + 0.4 * random.random()  # noqa: S311 (devices must not come all at once)
