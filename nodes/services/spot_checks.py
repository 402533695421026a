"""Give devices work without notice, whose answer can be checked: is it there, does it compute truly, is it as fast as it says?

How often follows BOINC's adaptive replication: a newcomer, and whoever failed, gets a check at every chance; after
`TRUSTED_AFTER` passed in a row the odds are one in as many as it has passed. Chances come at random times.

The life of a check: 1. `sweep` issues it and wakes the device. 2. The device reads it with its desired state; its time begins.
3. It answers, signed; its time ends. 4. `judge` works some rounds again, in a worker. 5. What was proven changes the device's
rate, its history counts the outcome. A check of a device that left before it could answer is called off.
"""

from __future__ import annotations

import random
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.alerts import raise_alert
from nodes.agent import benchmark, protocol
from nodes.errors import Conflict, Malformed, MovedMeanwhile, NotFound
from nodes.models import Device, DeviceHistory, SpotCheck
from nodes.prepared import Given, Prepared
from nodes.services.signatures import payload_of, read
from nodes.services.wake import wake
from nodes.states import DeviceState, SpotCheckState, transition_spot_check

TRUSTED_AFTER = 10
"""Checks passed in a row before they become rarer; BOINC's default for adaptive replication."""
RAREST = 120
"""At least one chance in so many is taken: a device changes hands, and hardware ages."""
ROUND_INSTRUCTIONS = 194_800_000
"""Of one round of `benchmark.chain`, counted with Valgrind as docs/agent-protocol.md says."""
WORK_SECONDS = 4
ROUNDS_JUDGED = 3
ANSWER_SECONDS = 600
SLACK_MILLISECONDS = 1000
"""Of the time between reading and answering, what starting a process and the network may take."""
RATE_FROM, RATE_OF = 3, 5
"""The rate in force changes when the best of the last five checks, at least three, is off by a quarter."""
MANY_AT_ONCE = 200
_RANDOM = random.SystemRandom()
_S = SpotCheckState


def sweep() -> None:
    """1. Give up on what was not answered. 2. Judge what waits (the queue may have lost it). 3. Decide on the chances due."""
    now = timezone.now()
    late = SpotCheck.objects.filter(state=_S.ISSUED, issued_at__lt=now - timedelta(seconds=ANSWER_SECONDS))
    for check in late.select_related("device")[:MANY_AT_ONCE]:
        _give_up(check, now)
    waiting = SpotCheck.objects.filter(state=_S.ANSWERED, answered_at__lt=now - timedelta(seconds=30))
    for check_id in waiting.values_list("pk", flat=True)[:MANY_AT_ONCE]:
        judge(check_id)
    due = DeviceHistory.objects.filter(next_chance_at__lte=now, device__state=DeviceState.ONLINE)
    for history in due.select_related("device").order_by("next_chance_at")[:MANY_AT_ONCE]:
        _take_chance(history, now)


def odds(passed_in_a_row: int) -> int:
    """Return in how many chances one is taken."""
    return 1 if passed_in_a_row < TRUSTED_AFTER else min(passed_in_a_row, RAREST)


_issued = Prepared(
    lambda: SpotCheck.objects.filter(device_id=Given(0, SpotCheck._meta.pk), state=_S.ISSUED).order_by("pk")[:1]
)


def handed_out(device: Device) -> protocol.SpotCheck:
    """Return the check the device should work on now; its time begins when it first reads this."""
    check = _issued.first(device.pk)
    if check is None:
        return protocol.SpotCheck()
    if check.fetched_at is None:
        SpotCheck.objects.filter(pk=check.pk, fetched_at=None).update(fetched_at=timezone.now())
    return protocol.SpotCheck(str(check.pk), check.seed, check.rounds)


def take_answer(*, device: Device, jws: str) -> None:
    """Store a device's answer once, with the moment it came; it is judged in a worker.

    Raises:
        BadSignature: not signed by this device.
        Malformed: not the agreed form.
        NotFound: this device has no such check.
        Conflict: it was answered with something else, or too late.
    """
    now = timezone.now()
    answer = _parse(device, payload_of(device, jws))
    with transaction.atomic():
        check = SpotCheck.objects.select_for_update().filter(pk=UUID(answer.id), device=device).first()
        if check is None:
            raise NotFound("This device has no such spot check.")
        if check.jws == jws:
            return
        if check.state != _S.ISSUED or check.fetched_at is None:
            raise Conflict("This spot check is over.")
        transition_spot_check(
            check, _S.ANSWERED, answered_at=now, jws=jws, processor_milliseconds=answer.processor_milliseconds
        )
    from nodes.tasks import judge_spot_check

    transaction.on_commit(lambda: judge_spot_check.delay(str(check.pk)))


def judge(check_id: UUID) -> None:
    """Work some rounds of an answered check again, without holding a lock, and take the outcome over. Idempotent."""
    check = SpotCheck.objects.select_related("device").filter(pk=check_id, state=_S.ANSWERED).first()
    if check is None:
        return
    answer = _parse(check.device, read(check.jws).payload)  # verified when it was taken
    wrong = _first_wrong_round(check, answer.digests)
    now = timezone.now()
    with transaction.atomic():
        history = DeviceHistory.objects.select_for_update().get(device=check.device_id)
        try:
            if wrong:
                transition_spot_check(check, _S.FAILED, decided_at=now, note=wrong)
                _count_failed(check, history, wrong)
                return
            transition_spot_check(check, _S.PASSED, decided_at=now, proven_rate=_proven_rate(check))
        except MovedMeanwhile:
            return
        DeviceHistory.objects.filter(pk=history.pk).update(
            checks_passed=F("checks_passed") + 1, passed_in_a_row=F("passed_in_a_row") + 1
        )
        _settle_rate(check.device)


def first_chance(device: Device, now: datetime) -> datetime:
    """Return when a device that just enrolled is first looked at."""
    return now + timedelta(seconds=_RANDOM.uniform(0.0, min(60.0, settings.SPOT_CHECK_SECONDS)))


def _take_chance(history: DeviceHistory, now: datetime) -> None:
    pause = timedelta(seconds=settings.SPOT_CHECK_SECONDS * _RANDOM.uniform(0.5, 1.5))
    with transaction.atomic():
        mine = DeviceHistory.objects.filter(pk=history.pk, next_chance_at=history.next_chance_at)
        if not mine.update(next_chance_at=now + pause):
            return  # another worker decided
        if _RANDOM.randrange(odds(history.passed_in_a_row)) == 0:
            _issue(history.device, now)


def _issue(device: Device, now: datetime) -> None:
    if SpotCheck.objects.filter(device=device, state__in=[_S.ISSUED, _S.ANSWERED]).exists():
        return
    rounds = max(WORK_SECONDS, WORK_SECONDS * device.instructions_per_second // ROUND_INSTRUCTIONS)
    SpotCheck.objects.create(device=device, seed=secrets.token_hex(32), rounds=rounds, issued_at=now)
    wake(device.pk)


def _give_up(check: SpotCheck, now: datetime) -> None:
    """A device that was there and read it should have answered; one that went away, or never read it, is not to blame."""
    blamed = check.fetched_at is not None and check.device.state == DeviceState.ONLINE
    with transaction.atomic():
        history = DeviceHistory.objects.select_for_update().get(device=check.device_id)
        try:
            if not blamed:
                transition_spot_check(check, _S.DROPPED, decided_at=now)
                return
            words = f"It did not answer within {ANSWER_SECONDS // 60} minutes."
            transition_spot_check(check, _S.MISSED, decided_at=now, note=words)
        except MovedMeanwhile:
            return
        _count_failed(check, history, words)


def _count_failed(check: SpotCheck, history: DeviceHistory, words: str) -> None:
    DeviceHistory.objects.filter(pk=history.pk).update(checks_failed=F("checks_failed") + 1, passed_in_a_row=0)
    audit.record("spot_check_failed", subject=f"device:{check.device_id}", check=str(check.pk), why=words)
    if check.state == _S.FAILED:
        raise_alert(
            code="spot_check_failed",
            subject=f"device:{check.device_id}",
            message=f"The device {check.device.name} answered a spot check wrongly: {words}",
            mend="Look at its spot checks and capped readings in the admin. Its earnings are held; forfeit them if it lied.",
        )


def _first_wrong_round(check: SpotCheck, digests: tuple[str, ...]) -> str:
    """Return what is wrong with an answer in words, "" if nothing was found."""
    if len(digests) != check.rounds:
        return f"It answered {len(digests)} rounds instead of {check.rounds}."
    for number in _RANDOM.sample(range(check.rounds), min(ROUNDS_JUDGED, check.rounds)):
        begins_with = digests[number - 1] if number else check.seed
        if benchmark.round_digest(begins_with) != digests[number]:
            return f"Round {number + 1} of {check.rounds} came to something else here."
    return ""


def _proven_rate(check: SpotCheck) -> int:
    """Return the instructions a second that the work in this time proves, by the slower of the device's clock and ours."""
    assert check.answered_at is not None  # noqa: S101  (`take_answer` stored it)
    assert check.fetched_at is not None  # noqa: S101  (and asked for this)
    ours = (check.answered_at - check.fetched_at) // timedelta(milliseconds=1) - SLACK_MILLISECONDS
    return check.rounds * ROUND_INSTRUCTIONS * 1000 // max(1, ours, check.processor_milliseconds)


def _settle_rate(device: Device) -> None:
    """Let the best of the last checks be the rate in force when that is off by a quarter: a busy device shows less than it
    can in one check, but hardly in five."""
    passed = SpotCheck.objects.filter(device=device, state=_S.PASSED).order_by("-decided_at")
    recent = list(passed.values_list("proven_rate", flat=True)[:RATE_OF])
    locked = Device.objects.select_for_update().get(pk=device.pk)
    in_force, best = locked.instructions_per_second, max(recent)
    if len(recent) < RATE_FROM or 4 * abs(best - in_force) <= in_force:
        return
    known = [(since.isoformat() if since else "", rate) for since, rate in locked.rates]
    rates = [*known, (timezone.now().isoformat(), best)]
    Device.objects.filter(pk=device.pk).update(benchmark={**locked.benchmark, "proven_rate": best, "rates": rates})
    audit.record("device_rate_changed", subject=f"device:{device.pk}", was=in_force, now=best)
    wake(device.pk)


def _parse(device: Device, payload: bytes) -> protocol.SpotCheckAnswer:
    try:
        answer = protocol.from_json(protocol.SpotCheckAnswer, payload)
        UUID(answer.id)
        for digest in answer.digests:
            if len(bytes.fromhex(digest)) != 32:
                raise ValueError("SpotCheckAnswer.digests: not of 32 bytes each.")
    except (protocol.ProtocolError, ValueError) as error:
        raise Malformed(str(error)) from None
    if answer.device_id != str(device.pk):
        raise Malformed("SpotCheckAnswer.device_id: not the device that signed.")
    if not 0 <= answer.processor_milliseconds < 2**40:
        raise Malformed("SpotCheckAnswer.processor_milliseconds: out of range.")
    return answer
