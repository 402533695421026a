"""Puts the parts of an enrolled device together, starts them, and ends them in the right order.

Longer than 300 lines because it is the one list of all parts, in the order they start and end.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading
from pathlib import Path

from nodes.agent import config as configuration
from nodes.agent import doctor, files, keys, runtimes, self_stop, tls, tunnel
from nodes.agent.board import Board
from nodes.agent.checkup import Checkup
from nodes.agent.config import Config, Home, OwnLimits
from nodes.agent.contact import Contact
from nodes.agent.counters import Counters
from nodes.agent.courier import Courier
from nodes.agent.directory import Directory
from nodes.agent.disk_pace import DiskPace
from nodes.agent.docker_executor import DockerExecutor
from nodes.agent.engine import Engine
from nodes.agent.errors import AgentError, SetupError
from nodes.agent.firewall import Firewall
from nodes.agent.images import Images
from nodes.agent.intake import Intake
from nodes.agent.link import Link
from nodes.agent.link_trust import LinkTrust
from nodes.agent.loop import Agent, stored_desired, stored_hold
from nodes.agent.meter import Meters
from nodes.agent.metering import Metering
from nodes.agent.outbox import Outbox, Receipts
from nodes.agent.perf import Perf
from nodes.agent.protocol import Desired, Goodbye, Image, Report, Tunnel
from nodes.agent.rotation import Rotation
from nodes.agent.server_api import CONNECT_SECONDS, Portal, patiently
from nodes.agent.snapshots import Snapshots
from nodes.agent.spot_checks import SpotChecks
from nodes.agent.steps import Steps
from nodes.agent.trials import Trials
from nodes.agent.tunnel import Tunnels
from nodes.agent.update import Updater
from nodes.agent.watch import Watch

log = logging.getLogger(__name__)
GOODBYE_SECONDS = 3.0
AWAKE_AFTER_SECONDS = 30.0  # not asleep by then: the sleep was called off
EVENTS_PAUSE_SECONDS = 2.0


class Node:
    """An enrolled device at work."""

    def __init__(self, home: Home) -> None:
        """Raises: SetupError: the device may not run strangers' programs, or is not enrolled."""
        settings, key = configuration.load(home), keys.load(home.key)
        home.create()
        try:
            self._lock = files.lock(home.root / "lock")
        except BlockingIOError:
            raise SetupError(f"Another agent is at work in {home.root} already.") from None
        files.note_holder(self._lock)
        engine, firewall = Engine(settings.engine), Firewall()
        # What runs here already is looked after on a full disk, too; it may well be what fills it.
        tried = Trials(engine, device_id=settings.device_id)
        doctor.require(doctor.examine(engine, firewall, folder=home.root, tried=tried), but="disk")
        root = Path(str(engine.call("GET", "/info").get("DockerRootDir") or "/"))
        self._disk_pace = pace = DiskPace(home.disk_pace, root, pinned=settings.flushed_bytes_per_second)
        pace.begin()
        counters = Counters()
        if settings.portal_url.startswith("https:"):
            tls.spread_authorities(home.authorities)
        self._portal = _portal(settings, key)
        images = Images(
            engine, fetch=self._fetch, folder=home.archives, downloaded=lambda size: self._intake.downloaded(size)
        )
        self._own = own = OwnLimits(home, settings)
        executor = DockerExecutor(
            settings,
            own=own,
            engine=engine,
            images=images,
            restore=lambda *what: self._snapshots.restore(*what),
            proven=lambda: runtimes.proven(home.root),
            tried=tried,
            disk_pace=lambda: pace.bytes_per_second,
        )
        meters = Meters(home.meters, instructions_per_second=settings.instructions_per_second, boot_id=counters.boot_id)
        outbox = Outbox(home.outbox, key=key, device_id=settings.device_id, now=self._portal.now)
        receipts = Receipts(home.receipts)
        executor.prepare()
        self._settings, self._key, self._executor = settings, key, executor
        self._wake = threading.Event()
        self._checkup = Checkup(home.root)
        stored = stored_desired(home)
        board = Board(self_stop.without(stored, stored_hold(home)) if stored else None, executor)
        watch = Watch(board, meters, wake=self._wake.set)
        self._intake = Intake(home, own, board, meters, news=lambda: self._courier.changed(), wake=self._wake.set)
        self._metering = Metering(
            meters=meters,
            counters=counters,
            perf=Perf(),
            outbox=outbox,
            executor=executor,
            view=lambda: self.agent.view(),
            overfull=lambda lease, finding: self.agent.overfull(lease, finding),
            arrived=lambda: self._courier.arrived(),
            now=self._portal.now,
        )
        steps = Steps(
            board,
            watch,
            executor,
            counters=counters,
            receipts=receipts,
            key=key,
            device_id=settings.device_id,
            wake=self._wake.set,
            look=self._metering.look,
            take_last=self._metering.take_last,
            started=self._metering.started,
            arrived=lambda: self._courier.arrived(),
            admit=self._intake.admit,
        )
        self.agent = agent = Agent(
            home,
            board,
            executor=executor,
            firewall=firewall,
            watch=watch,
            steps=steps,
            meters=meters,
            receipts=receipts,
            wake=self._wake,
        )
        self._tunnels = Tunnels(
            home.root, device_id=settings.device_id, key=lambda: self._key.openssh(), wanted=self._tunnelled
        )
        self._rotation = Rotation(home, key, device_id=settings.device_id, portal=self._portal)
        self._updater = Updater(home, portal=lambda: _portal(settings, key), restart=lambda: self.stop(Goodbye.UPDATE))
        self._meters = meters
        self._snapshots = Snapshots(
            home.root,
            device_id=settings.device_id,
            sign=key.sign,
            portal=lambda: _portal(settings, key),
            opened=executor.opened,
            runs=lambda lease_id: (seen := board.seen.get(lease_id)) is not None and seen.running,
        )
        self._spot_checks = SpotChecks(device_id=settings.device_id, sign=key.sign, send=self._send_spot_check)
        self._contact = Contact()
        self._contact.on_informed = agent.release
        self._directory = Directory(
            home,
            settings,
            self._contact,
            desired=lambda: agent.view().desired,
            hold=agent.hold,
            news=lambda: self._courier.changed(),
            returned=lambda: self._courier.look(),
            portal_answers=Portal(settings.portal_url, seconds=CONNECT_SECONDS).answers,
        )
        self._courier = Courier(
            self._portal,
            outbox=outbox,
            receipts=receipts,
            report=self._report,
            desired=self._want,
            revoked=agent.revoked,
            refused=self._rotation.refused,
            upkeep=self._upkeep,
            contact=self._contact,
        )
        board.on_news = self._courier.changed
        self._reason = Goodbye.STOP
        trust = LinkTrust(home, settings)
        self._link = Link(settings.link_url, token=self._portal.token, trust=trust, look=self._courier.look)
        self._contact.on_returned = self._link.hurry

    def run(self) -> None:
        """Work until `stop` is called; then say goodbye. Containers go on running."""
        threads = (
            self._courier,
            self._link,
            self._metering,
            self._intake,
            self._checkup,
            self._directory,
            self._tunnels,
            threading.Thread(target=self._events, name="events", daemon=True),
        )
        for thread in threads:
            thread.start()
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process: no need to look at it again
        self.agent.run()
        self._goodbye()

    def stop(self, reason: Goodbye = Goodbye.STOP) -> None:
        """End the work, saying why; apps go on."""
        self._reason = reason
        self.agent.stopping.set()
        self._wake.set()

    def sleep(self) -> None:
        """Say goodbye before the computer sleeps, and say nothing until it is awake, or did not fall asleep after all."""

        def rest() -> None:
            self._courier.rest(seconds=GOODBYE_SECONDS)
            self._link.rest(Goodbye.SLEEP)
            # The monotonic clock stands still while the computer sleeps.
            timer = threading.Timer(AWAKE_AFTER_SECONDS, self.awake)
            timer.daemon = True
            timer.start()

        threading.Thread(target=rest, name="goodbye", daemon=True).start()

    def awake(self) -> None:
        self._courier.resume()
        self._link.wake()
        self._wake.set()

    def _goodbye(self) -> None:
        """Last readings, last report, a closed link: in that order, each within its time."""
        self._metering.stop()
        self._intake.stop()
        self._checkup.stop()
        self._tunnels.stop()
        try:
            self._metering.take()
        except (AgentError, OSError) as error:
            log.warning("The last readings could not be taken: %s", error)
        self._courier.stop(seconds=GOODBYE_SECONDS)
        self._directory.stop()
        self._link.stop(self._reason)
        log.info("Stopped (%s). Apps keep running; the next start takes over where this left.", self._reason.value)

    def _want(self, desired: Desired) -> None:
        """Take what the portal wants, in the courier's thread."""
        self._meters.calibrate(desired.instructions_per_second or self._settings.instructions_per_second)
        self.agent.want(desired)
        self._tunnels.changed()
        self._spot_checks.want(desired.spot_check)
        self._snapshots.want(desired.leases)

    def _send_spot_check(self, jws: str) -> None:
        portal = _portal(self._settings, self._key)
        try:
            patiently(lambda: portal.spot_check(jws))
        finally:
            portal.close()

    def _report(self) -> Report:
        """Return what the loop sees of the leases, and what the device is to its owner."""
        report, standing = self.agent.report(), self._intake.standing
        return dataclasses.replace(
            report,
            load={**report.load, **self._intake.load()},
            mode=standing.mode,
            mode_reason=standing.reason,
            limits=self._own.now,
            can_update=self._updater.possible,
            update_failure=self._updater.failure,
            directory_port=self._directory.port,
            can_tunnel=tunnel.possible(),
        )

    def _tunnelled(self) -> "tuple[Tunnel, dict[str, int]]":
        view = self.agent.view()
        ports = {lease_id: seen.host_port for lease_id, seen in view.seen.items() if seen.running and seen.host_port}
        return view.desired.tunnel, ports

    def _upkeep(self) -> None:
        """What the device does for itself now and then, in the courier's thread."""
        gc.collect()  # empties Python's free lists, which hold 0.8 MB once they are full (docs/adr/0317)
        desired = self.agent.view().desired
        if desired.new_key or self._rotation.due():
            self._rotation.run()
        self._updater.reported()
        self._updater.want(desired.release)
        self._directory.upkeep(self._portal)
        self._disk_pace.upkeep()

    def _events(self) -> None:
        while not self.agent.stopping.is_set():
            try:
                self._executor.wait_for_change(self.agent.stopping)
                self._wake.set()
            except AgentError:
                self.agent.distrust()
                self.agent.stopping.wait(EVENTS_PAUSE_SECONDS)
                self._wake.set()

    def _fetch(self, image: Image, path: Path, cancelled: threading.Event) -> None:
        """Download an archive over a connection of its own, so that reports do not wait for it."""
        portal = _portal(self._settings, self._key)
        patiently(lambda: portal.download(image.archive_sha256, path, most=image.archive_bytes, cancelled=cancelled))


def _portal(settings: Config, key: keys.DeviceKey) -> Portal:
    return Portal(settings.portal_url, device_id=settings.device_id, key=key)
