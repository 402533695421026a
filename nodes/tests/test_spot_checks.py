"""Spot checks: work that proves speed and truth, given without notice, the rarer the more was passed. The stranger answers nothing."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from interchain_site.core.models import StaffAlert
from interchain_site.testing.devices import make_device
from nodes import queries
from nodes.agent import benchmark, protocol
from nodes.errors import BadSignature, Conflict, Malformed, NotFound
from nodes.models import Device, DeviceHistory, SpotCheck
from nodes.services import spot_checks, trust
from nodes.states import DeviceState, SpotCheckState, transition_device

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def _judged_here(monkeypatch) -> None:
    monkeypatch.setattr("nodes.tasks.judge_spot_check.delay", lambda check_id: spot_checks.judge(check_id))
    monkeypatch.setattr(spot_checks, "WORK_SECONDS", 1)  # ten rounds


def due(box) -> SpotCheck | None:
    """Let the device's next chance come and return the check it got."""
    trust.observe()
    DeviceHistory.objects.filter(device=box.device).update(next_chance_at=timezone.now())
    spot_checks.sweep()
    return SpotCheck.objects.filter(device=box.device, state=SpotCheckState.ISSUED).first()


def answer(box, check: SpotCheck, digests: tuple[str, ...] | None = None, **changes: object) -> str:
    found = protocol.SpotCheckAnswer(
        str(check.pk), box.id, benchmark.chain(check.seed, check.rounds)[0] if digests is None else digests, 100
    )
    return box.sign(protocol.to_json(dataclasses.replace(found, **changes)))


def read(box) -> protocol.SpotCheck:
    return queries.desired_of(box.device).spot_check


def pass_one(box, *, takes: float = 1.0, transaction) -> SpotCheck:
    """Pass a check that takes the device so many seconds from reading to answering."""
    with time_machine.travel(timezone.now(), tick=False) as clock:
        check = due(box)
        assert read(box).id == str(check.pk)
        jws = answer(box, check)
        clock.shift(takes)
        with transaction(execute=True):
            spot_checks.take_answer(device=box.device, jws=jws)
    check.refresh_from_db()
    return check


@pytest.fixture
def commits(django_capture_on_commit_callbacks):
    return django_capture_on_commit_callbacks


def history(box) -> DeviceHistory:
    return DeviceHistory.objects.get(device=box.device)


def test_a_newcomer_gets_one_at_every_chance_and_passes(box, commits):
    check = pass_one(box, transaction=commits)
    assert check.state == SpotCheckState.PASSED
    assert (history(box).checks_passed, history(box).passed_in_a_row) == (1, 1)
    assert read(box).id == ""


def test_a_wrong_round_fails_it_and_tells_staff(box, commits):
    check = due(box)
    read(box)
    made_up = tuple(f"{number:064x}" for number in range(check.rounds))
    with commits(execute=True):
        spot_checks.take_answer(device=box.device, jws=answer(box, check, made_up))
    check.refresh_from_db()
    assert check.state == SpotCheckState.FAILED
    assert "came to something else" in check.note
    assert (history(box).checks_failed, history(box).passed_in_a_row) == (1, 0)
    assert StaffAlert.objects.filter(code="spot_check_failed", subject=f"device:{box.id}").exists()


def test_too_few_rounds_fail_it(box, commits):
    check = due(box)
    read(box)
    with commits(execute=True):
        spot_checks.take_answer(device=box.device, jws=answer(box, check, ()))
    check.refresh_from_db()
    assert check.state == SpotCheckState.FAILED


def test_the_work_cannot_be_done_without_what_came_before():
    """Each round begins with what the last came to: a second core, or a table, is of no use."""
    digests, _ = benchmark.chain("00" * 32, 3)
    assert digests[1] == benchmark.round_digest(digests[0])
    assert benchmark.chain("01" * 32, 1)[0] != digests[:1]


def test_an_answer_counts_once_and_the_same_again_changes_nothing(box, commits):
    check = due(box)
    read(box)
    jws = answer(box, check)
    with commits(execute=True):
        spot_checks.take_answer(device=box.device, jws=jws)
        spot_checks.take_answer(device=box.device, jws=jws)
    spot_checks.judge(check.pk)
    assert history(box).checks_passed == 1
    with pytest.raises(Conflict):
        spot_checks.take_answer(device=box.device, jws=answer(box, check, processor_milliseconds=1))


def test_what_the_queue_lost_is_judged_by_the_sweep(box):
    check = due(box)
    read(box)
    spot_checks.take_answer(device=box.device, jws=answer(box, check))
    with time_machine.travel(timezone.now() + timedelta(minutes=1), tick=False):
        spot_checks.sweep()
    check.refresh_from_db()
    assert check.state == SpotCheckState.PASSED


def test_silence_fails_a_device_that_was_there_and_read_it(box):
    check = due(box)
    read(box)
    with time_machine.travel(timezone.now() + timedelta(seconds=spot_checks.ANSWER_SECONDS + 1), tick=False):
        spot_checks.sweep()
    check.refresh_from_db()
    assert check.state == SpotCheckState.MISSED
    assert history(box).checks_failed == 1


@pytest.mark.parametrize("why", ["it left", "it never read it"])
def test_silence_of_others_is_nobodys_fault(box, why):
    check = due(box)
    if why == "it left":
        read(box)
        transition_device(box.device, DeviceState.OFFLINE)
    with time_machine.travel(timezone.now() + timedelta(seconds=spot_checks.ANSWER_SECONDS + 1), tick=False):
        spot_checks.sweep()
    check.refresh_from_db()
    assert check.state == SpotCheckState.DROPPED
    assert history(box).checks_failed == 0


def test_odds_follow_what_was_passed():
    assert [spot_checks.odds(number) for number in (0, 9, 10, 50, 10_000)] == [1, 1, 10, 50, spot_checks.RAREST]


def test_the_trusted_are_checked_less_and_one_failure_begins_anew(box, monkeypatch):
    trust.observe()
    DeviceHistory.objects.update(passed_in_a_row=100)
    monkeypatch.setattr(spot_checks._RANDOM, "randrange", lambda n: n - 1)  # any other number than the one in n
    assert due(box) is None
    DeviceHistory.objects.update(passed_in_a_row=9)
    assert due(box) is not None


def test_only_one_is_open_and_a_pause_spares_a_device(box):
    first = due(box)
    assert due(box).pk == first.pk
    SpotCheck.objects.all().delete()
    transition_device(box.device, DeviceState.PAUSED)
    assert due(box) is None


def test_a_device_slower_than_it_says_is_taken_at_what_it_proves(box, commits):
    """It says 2·10⁹ instructions a second; work of one such second takes it four, by the portal's clock, whatever it says."""
    claimed = box.device.instructions_per_second
    for number in range(3):
        pass_one(box, takes=5.0, transaction=commits)
        box.device.refresh_from_db()
        assert (box.device.instructions_per_second < claimed) == (number == 2)
    assert box.device.instructions_per_second == pytest.approx(claimed / 4, rel=0.15)
    assert queries.desired_of(box.device).instructions_per_second == box.device.instructions_per_second
    (never, before), (since, after) = box.device.rates
    assert (never, before, after) == (None, claimed, box.device.instructions_per_second)
    assert abs(since - timezone.now()) < timedelta(minutes=5)


def test_a_busy_moment_changes_no_rate(box, commits):
    claimed = box.device.instructions_per_second
    for takes in (9.0, 1.9, 30.0, 8.0, 12.0):
        pass_one(box, takes=takes, transaction=commits)
    box.device.refresh_from_db()
    assert box.device.instructions_per_second == claimed


def test_a_claim_of_less_processor_time_than_passed_proves_nothing(box, commits):
    """The slower of both clocks counts: a device cannot talk itself fast."""
    check = pass_one(box, takes=11.0, transaction=commits)
    assert check.proven_rate == check.rounds * spot_checks.ROUND_INSTRUCTIONS // 10


def test_strangers_answer_nothing(box, cast):
    stranger = make_device(cast.owner, "Other")
    check = due(box)
    read(box)
    with pytest.raises(BadSignature):
        spot_checks.take_answer(device=box.device, jws=answer(stranger, check))
    with pytest.raises(NotFound):
        spot_checks.take_answer(device=stranger.device, jws=answer(stranger, check, device_id=stranger.id))
    with pytest.raises(Malformed):
        spot_checks.take_answer(device=stranger.device, jws=answer(stranger, check, device_id=box.id))
    check.refresh_from_db()
    assert check.state == SpotCheckState.ISSUED


@pytest.mark.parametrize("digests", [("zz",), ("00",), ("",)])
def test_an_answer_of_another_form_is_refused(box, digests):
    check = due(box)
    read(box)
    with pytest.raises(Malformed):
        spot_checks.take_answer(device=box.device, jws=answer(box, check, digests))


def test_the_path_of_agents(agent, box, commits):
    check = due(box)
    assert agent.send("desired").json()["spot_check"]["id"] == str(check.pk)
    with commits(execute=True):
        assert agent.send("spot-check", answer(box, check)).status_code == 204
    check.refresh_from_db()
    assert check.state == SpotCheckState.PASSED
    assert Device.objects.get(pk=box.device.pk).history.passed_in_a_row == 1
