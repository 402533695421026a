"""Whatever happens to devices, networks and clocks, and whoever sends what again: a bill is the true use, or less, never more.

Hypothesis interleaves the faults of a month or more over simulated computers (simulation.py). After each step nothing is billed that
was not used; at the end, where no fault took what nobody had looked at, all of it is. Longer than 300 lines because each fault is a
rule of the one machine.
"""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from interchain_site.core.errors import DomainError
from interchain_site.testing.cast import make_cast
from interchain_site.testing.devices import BENCHMARK, make_device, make_workload
from nodes.agent import courier, keys, protocol
from nodes.agent.outbox import _payload
from nodes.agent.protocol import Meter, ReadingBatch
from nodes.models import Lease, MeterTotal
from nodes.services import placement
from nodes.tests.damage import doubled, flipped, higher_totals
from nodes.tests.metering_simulation import Computer, Fuse, Portal

FUSE = Fuse()
DAY = 86_400
which = st.integers(0, 1)  # of the computers, where there are two
kill_at = st.none() | st.integers(0, 7)
seconds = st.integers(1, 20)
pick = st.integers(0, 10**6)  # one of what there is then, or one of its bits
fates = st.lists(st.sampled_from(["arrives", "lost", "unanswered"]), max_size=4).map(tuple)


class Bills(RuleBasedStateMachine):
    """One lease, on one computer or on two with the same key."""

    @initialize()
    def enrol(self) -> None:
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.folder = tempfile.TemporaryDirectory()
        cast = make_cast()
        self.box, self.other = make_device(cast.owner), make_device(cast.publisher, "Other")
        lease = self._lease()
        self.portal = Portal(self.box, lease)
        home = Path(self.folder.name) / "first"
        home.mkdir()
        (home / "key").write_bytes(self.box.key.as_pem(private=True))
        (home / "key").chmod(0o600)
        self.computers = [Computer(home, self.portal, BENCHMARK.instructions_per_second)]
        self.old_keys: list[keys.DeviceKey] = []
        self.billed: dict[Meter, int] = {}

    def _lease(self) -> Lease:
        workload = make_workload(volume_path="/data")
        lease = placement.open_lease(workload=workload, by=None)
        box = next(box for box in (self.box, self.other) if box.device.pk == lease.device_id)
        self.box, self.other = box, self.other if box is self.box else self.box
        box.runs(lease)
        return lease

    def teardown(self) -> None:
        if not hasattr(self, "atomic"):
            return
        try:
            self._settle()
        finally:
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)
            self.folder.cleanup()

    def _settle(self) -> None:
        """Everything calms down, is looked at and delivered."""
        for computer in self.computers:
            computer.look_at_disk()
            computer.check_health()
            for _ in range(3):  # a batch that was damaged on disk is said again after it was found
                computer.take(FUSE)
                computer.deliver(FUSE)
            assert len(computer.outbox) == 0
        self.never_more_than_was_used()
        only, billed = self.computers[0], self.portal.billed()
        for meter, used in only.truth.totals(only.rate).items():
            if meter not in only.lossy:
                words = f"{meter.value}: all that was used is billed, for none of it was lost ({sorted(only.lossy)})"
                assert billed.get(meter, 0) == used, words
        assert not MeterTotal.objects.filter(lease=self.portal.lease, capped=True).exists(), "what was used is possible"

    @invariant()
    def never_more_than_was_used(self) -> None:
        if not hasattr(self, "portal"):
            return
        for meter, billed in self.portal.billed().items():
            used = max(computer.truth.totals(computer.rate)[meter] for computer in self.computers)
            assert 0 <= billed <= used, f"{meter.value}: {billed} billed, {used} used"
            assert billed >= self.billed.get(meter, 0), f"{meter.value} fell"
            self.billed[meter] = billed

    def computer(self, number: int) -> Computer:
        return self.computers[number % len(self.computers)]

    # --- what is normal -----------------------------------------------------------------------------------------------

    @rule(which=which, seconds=seconds, percent=st.integers(0, 50), traffic=st.integers(0, 10**6))
    def work(self, which: int, seconds: int, percent: int, traffic: int) -> None:
        computer = self.computer(which)
        computer.pass_time(seconds, percent=percent, traffic=traffic)
        computer.check_health()

    @rule(which=which, steps=kill_at)
    def take_a_reading(self, which: int, steps: int | None) -> None:
        self.computer(which).take(FUSE, steps)

    @rule(which=which, steps=kill_at, fates=fates)
    def deliver(self, which: int, steps: int | None, fates: tuple[str, ...]) -> None:
        self.computer(which).deliver(FUSE, steps, fates)

    @rule(which=which, seconds=seconds, killed=st.booleans())
    def fall_ill_and_recover(self, which: int, seconds: int, killed: bool) -> None:
        """The agent may be killed while the app is ill: the next one is there within the minute."""
        computer = self.computer(which)
        computer.fall_ill()
        computer.pass_time(seconds, percent=1, healthy=False)
        if killed:
            computer.killed()
        computer.recover()

    @rule(which=which, size=st.integers(0, 10**9))
    def change_the_volume(self, which: int, size: int) -> None:
        self.computer(which).resize(size)

    @rule(which=which, size=st.integers(0, 10**9), seconds=seconds)
    def change_the_volume_between_two_looks(self, which: int, size: int, seconds: int) -> None:
        computer = self.computer(which)
        computer.look_at_disk()
        computer.pass_time(seconds)
        computer.volume = size
        computer.pass_time(seconds)
        computer.lossy.add(Meter.STORAGE)
        computer.look_at_disk()
        computer.check_health()

    @rule(which=which)
    def restart_the_app(self, which: int) -> None:
        self.computer(which).restart_container()

    @rule(which=which, steps=kill_at, seconds=st.integers(0, 55), percent=st.integers(0, 50))
    def stop_and_start_the_lease(self, which: int, steps: int | None, seconds: int, percent: int) -> None:
        """Before anybody looks again, the new counters may be beyond what the old ones came to."""
        computer = self.computer(which)
        computer.stop_and_start(FUSE, steps)
        computer.pass_time(seconds, percent=percent, traffic=percent * 1000)
        computer.check_health()

    @rule(which=which)
    def change_the_key(self, which: int) -> None:
        computer = self.computer(which)
        try:
            old = keys.load(computer.folder / "key")
            computer.rotate()
            self.old_keys.append(old)
        except DomainError:  # the other computer with this key was first
            (computer.folder / "next").unlink()

    # --- what goes wrong on a device -----------------------------------------------------------------------------------

    @rule(which=which, seconds=st.integers(0, 100), percent=st.integers(0, 50), size=st.none() | st.integers(0, 10**9))
    def kill_the_agent(self, which: int, seconds: int, percent: int, size: int | None) -> None:
        """For a while nobody looks; the app goes on, and its volume may become another size."""
        computer = self.computer(which)
        computer.pass_time(seconds, percent=percent, traffic=seconds)
        if size is not None:
            computer.volume = size
            computer.lossy.add(Meter.STORAGE)
        computer.killed()
        computer.look_at_disk()
        computer.check_health()

    @rule(which=which, seconds=st.integers(61, 600))
    def fall_ill_while_nobody_looks(self, which: int, seconds: int) -> None:
        """The agent is away for more than a minute, and the app was not well meanwhile."""
        computer = self.computer(which)
        computer.check_health()
        computer.pass_time(seconds, healthy=False)
        computer.killed()
        computer.check_health()

    @rule(
        which=which,
        off=st.sampled_from([timedelta(minutes=1), timedelta(days=31)]),
        until_agent=st.sampled_from([timedelta(seconds=1), timedelta(days=40)]),
    )
    def reboot(self, which: int, off: timedelta, until_agent: timedelta) -> None:
        """The agent may be started long after: the monotonic clock, which begins anew, is beyond where it was then."""
        self.computer(which).reboot(off=off, until_agent=until_agent)
        self.computer(which).recover()

    @rule(which=which, seconds=st.integers(1, 50))
    def crash_between_two_checks(self, which: int, seconds: int) -> None:
        """The app was gone for a while, and another start of it passes the next check: no check failed."""
        computer = self.computer(which)
        computer.check_health()
        computer.pass_time(seconds, healthy=False)
        computer.run += 1
        computer.check_health()

    @rule(which=which)
    def restart_docker(self, which: int) -> None:
        computer = self.computer(which)
        computer.restart_container()
        computer.lose_unlooked(Meter.TRANSFER)
        computer.kernel.new_bridge()

    @rule(which=which, hours=st.integers(1, 48))
    def sleep(self, which: int, hours: int) -> None:
        """The monotonic clock stands still, and so does the app."""
        self.portal.now += timedelta(hours=hours)

    @rule(which=which, wall=st.sampled_from([-DAY, -3600, 0, 20, 3600, DAY, 400 * DAY]))
    def set_the_clock(self, which: int, wall: int) -> None:
        self.computer(which).wall = wall

    @rule(which=which, minutes=st.sampled_from([6, 60]), busy=st.integers(0, 6))
    def lose_the_portal(self, which: int, minutes: int, busy: int) -> None:
        """For as long; the app works in the first `busy` sixths of it and waits in the others, so that what the batches
        merged first say is said by no other."""
        computer = self.computer(which)
        for part in range(6):
            for _ in range(minutes // 6):
                computer.pass_time(60, percent=5 * (part < busy), traffic=1000 * (part < busy))
                computer.check_health()
            computer.take(FUSE)
            computer.deliver(FUSE, fates=("lost",))

    @rule(which=which, pick=pick, bit=pick, higher=st.booleans())
    def damage_a_file(self, which: int, pick: int, bit: int, higher: bool) -> None:
        """A bit of a waiting batch is another than was written: any, or one of those that let a total read higher."""
        waiting = sorted((self.computer(which).folder / "out").glob("*.jws"))
        if waiting:
            path = picked(waiting, pick)
            jws = path.read_text()
            path.write_text(picked(higher_totals(jws), bit) if higher else flipped(jws, bit))

    @precondition(lambda self: len(self.computers) == 1)
    @rule()
    def copy_the_device(self) -> None:
        """Somebody starts a second computer with this one's key."""
        self.computers.append(self.computers[0].cloned(Path(self.folder.name) / "second"))

    # --- what comes over the network -----------------------------------------------------------------------------------

    @precondition(lambda self: self.portal.heard)
    @rule(pick=pick, later=st.sampled_from([0, 1, 90 * DAY]))
    def replay(self, pick: int, later: int) -> None:
        self.portal.now += timedelta(seconds=later)
        try:
            self.portal.ingest(picked(self.portal.heard, pick))
        except DomainError:
            assert later or self.old_keys or any(computer.wall for computer in self.computers)

    @precondition(lambda self: self.portal.heard)
    @rule(pick=pick, bit=pick)
    def flip_a_bit(self, pick: int, bit: int) -> None:
        jws = picked(self.portal.heard, pick)
        self.refused_or_known(flipped(jws, bit), as_said=jws)

    @precondition(lambda self: self.portal.heard)
    @rule(pick=pick)
    def sign_with_another_key(self, pick: int) -> None:
        """Another device's key, and one of this device's that was replaced long ago."""
        batch = _payload(picked(self.portal.heard, pick))
        forged = protocol.to_json(ReadingBatch(batch.id, batch.device_id, batch.created_at, doubled(batch)))
        self.refused_or_known(self.other.sign(forged))
        if self.old_keys:
            self.portal.now += timedelta(days=8)
            self.refused_or_known(self.old_keys[0].sign(forged))

    def refused_or_known(self, jws: str, *, as_said: str = "") -> None:
        before = self.portal.billed()
        try:
            answer = self.portal.ingest(jws)
            # The last bits of base64 may carry nothing: then it says the same, and is signed by whom it says.
            assert _payload(jws) == _payload(as_said)
            assert answer.duplicate or self.portal.billed() != before
        except DomainError:
            assert self.portal.billed() == before


def picked(among: list[Any], number: int) -> Any:
    return among[number % len(among)]


def test_any_interleaving_of_faults_bills_the_true_use_or_less(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    FUSE.install(monkeypatch)
    monkeypatch.setattr(courier.log, "disabled", True)  # refusals by the thousand
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Bills, settings=settings(max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=checks)
    )
