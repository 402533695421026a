"""Interleavings of faults that showed a deliberate mistake (mutants.py): played each time, whatever the generator draws."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from nodes.agent import courier
from nodes.tests.test_metering_under_faults import DAY, FUSE, Bills


def damaged_in_the_outbox(bills: Bills) -> None:
    bills.work(0, 10, 50, 123_456)
    bills.take_a_reading(0, None)
    bills.damage_a_file(0, 0, 0, True)


def damaged_and_merged(bills: Bills) -> None:
    damaged_in_the_outbox(bills)
    bills.lose_the_portal(0, 6, 0)


def merged_while_idle(bills: Bills) -> None:
    bills.lose_the_portal(0, 6, 2)


def killed_while_ill(bills: Bills) -> None:
    bills.take_a_reading(0, None)
    bills.fall_ill_and_recover(0, 20, True)


def away_while_ill(bills: Bills) -> None:
    bills.fall_ill_while_nobody_looks(0, 600)


def counters_begin_again(bills: Bills) -> None:
    bills.work(0, 20, 50, 10**6)
    bills.take_a_reading(0, None)
    bills.stop_and_start_the_lease(0, None, 0, 0)
    bills.work(0, 1, 1, 1)
    bills.take_a_reading(0, None)
    bills.reboot(0, timedelta(minutes=1), timedelta(seconds=1))
    bills.work(0, 1, 1, 1)


def a_larger_counter_begins(bills: Bills) -> None:
    bills.work(0, 1, 1, 1000)
    bills.take_a_reading(0, None)
    bills.restart_docker(0)
    bills.work(0, 1, 1, 10**6)


def lost_on_the_way(bills: Bills) -> None:
    bills.work(0, 10, 50, 1000)
    bills.take_a_reading(0, None)
    bills.deliver(0, None, ("lost",))


def shrunk_between_two_looks(bills: Bills) -> None:
    bills.change_the_volume(0, 10**9)
    bills.change_the_volume_between_two_looks(0, 10, 20)


def grown_between_two_looks(bills: Bills) -> None:
    bills.change_the_volume_between_two_looks(0, 10**9, 20)


def crashed_between_two_checks(bills: Bills) -> None:
    bills.crash_between_two_checks(0, 50)


def agent_started_long_after_a_reboot(bills: Bills) -> None:
    bills.change_the_volume(0, 10**9)
    bills.take_a_reading(0, None)
    bills.reboot(0, timedelta(minutes=1), timedelta(days=40))


def shrunk_killed_and_grown(bills: Bills) -> None:
    bills.change_the_volume(0, 10**9)
    bills.take_a_reading(0, None)
    bills.change_the_volume(0, 10)
    bills.kill_the_agent(0, 55, 0, 10**9)


def told_twice_and_replayed(bills: Bills) -> None:
    bills.work(0, 10, 50, 1000)
    bills.take_a_reading(0, None)
    bills.deliver(0, None, ("unanswered",))
    bills.work(0, 10, 50, 1000)
    bills.take_a_reading(0, None)
    bills.deliver(0, None, ("arrives", "lost"))
    bills.replay(0, 0)
    bills.replay(0, 90 * DAY)


def told_by_an_old_key_and_by_strangers(bills: Bills) -> None:
    bills.work(0, 10, 50, 1000)
    bills.take_a_reading(0, None)
    bills.deliver(0, None, ())
    bills.change_the_key(0)
    bills.sign_with_another_key(0)
    for bit in range(500, 560):
        bills.flip_a_bit(0, bit)


def two_with_one_key(bills: Bills) -> None:
    bills.work(0, 20, 50, 10**6)
    bills.take_a_reading(0, None)
    bills.copy_the_device()
    for which in (1, 0, 1):
        bills.work(which, 20, 50, 10**6)
        bills.take_a_reading(which, None)
        bills.deliver(which, None, ())


INTERLEAVINGS: list[Callable[[Bills], None]] = [
    damaged_in_the_outbox,
    damaged_and_merged,
    merged_while_idle,
    killed_while_ill,
    away_while_ill,
    counters_begin_again,
    a_larger_counter_begins,
    lost_on_the_way,
    shrunk_between_two_looks,
    grown_between_two_looks,
    crashed_between_two_checks,
    agent_started_long_after_a_reboot,
    shrunk_killed_and_grown,
    told_twice_and_replayed,
    told_by_an_old_key_and_by_strangers,
    two_with_one_key,
]


@pytest.mark.parametrize("play", INTERLEAVINGS, ids=lambda play: play.__name__)
def test_an_interleaving_that_once_found_something(
    play: Callable[[Bills], None], db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    FUSE.install(monkeypatch)
    monkeypatch.setattr(courier.log, "disabled", True)
    bills = Bills()
    bills.enrol()
    try:
        play(bills)
        bills.never_more_than_was_used()
    finally:
        bills.teardown()
