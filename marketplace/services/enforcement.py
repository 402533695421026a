"""What follows from a publisher's balance: warnings, the stop at zero, grace, restart after NTC was bought, the wipe.

Every step looks at how things are now and locks one deployment at a time, so repeating any of it is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from billing import money
from billing.errors import NoRate
from billing.queries import available_of_many, balances, rate_in_force
from interchain_site.core import alerts, audit
from interchain_site.core.errors import DomainError
from marketplace import emails, queries
from marketplace.errors import NotEnoughNTC, TooMuchToBill
from marketplace.models import BalanceWatch, Deployment
from marketplace.services import deployments, wiping
from marketplace.services.affordability import hour_in_units, missing_units
from marketplace.services.history import move, note
from marketplace.states import ASKED_TO_RUN, AT_REST, DeploymentState, Desired

log = structlog.get_logger(__name__)
_S = DeploymentState


def enforce(*, publisher_ids: Collection[int], now: datetime | None = None) -> None:
    """Stop what can no longer be paid and warn who is running low. A constant number of queries while all is well."""
    now = now or timezone.now()
    if not publisher_ids:
        return
    costing = queries.costing_of(list(publisher_ids))
    available = available_of_many(list({deployment.app.publisher_id for deployment in costing}))
    for deployment in costing:
        if available[deployment.app.publisher_id] <= 0:
            guarded(stop_for_balance, deployment, now)
    _warn([deployment for deployment in costing if available[deployment.app.publisher_id] > 0], available, now)


@transaction.atomic
def stop_for_balance(deployment_id: UUID, now: datetime) -> None:
    """Stop one deployment because nothing is left to pay it, and begin its grace period; one at rest only begins it."""
    deployment = deployments.lock(deployment_id)
    if deployment is None or deployment.grace_started_at is not None:
        return
    if deployment.state not in (*ASKED_TO_RUN, *AT_REST):
        return
    at_rest = deployment.state in AT_REST
    grace: dict[str, Any] = deployments.grace_period(now, settings.GRACE_SECONDS)
    words = f"The balance is used up. The app is stopped and its data kept until {grace['grace_ends_at']:%Y-%m-%d %H:%M} UTC."
    if at_rest:
        move(deployment, _S.GRACE, kind="grace", words=words, now=now, desired=Desired.STOPPED, **grace)
    elif deployment.state == _S.WAITING:
        deployments.close_unfinished(deployment, by=None)
        move(deployment, _S.GRACE, kind="grace", words=words, now=now, **grace)
    else:
        deployments.close(deployment, by=None, now=now, words=words, **grace)
    emails.owe(
        key=f"grace:{deployment.pk}:{now.isoformat()}",
        user=deployment.app.publisher,
        template="stopped_at_zero",
        subject=f"{deployment.app.name} {'will be wiped' if at_rest else 'was stopped'}: your balance is used up",
        now=now,
        deployment=deployment,
        missing=missing_to_run(deployment, now),
    )
    audit.record("app_stopped_at_zero", subject=f"deployment:{deployment.pk}")


def missing_to_run(deployment: Deployment, now: datetime) -> int:
    """Return how much NTC its publisher must buy for an hour of a deployment; 0 if none, or while there is no rate."""
    try:
        needed = hour_in_units(deployment.expected_nano_usd_per_hour, now)
    except NoRate:
        return 0
    return missing_units(needed, balances(deployment.app.publisher_id))


def stop_unbillable(*, lease_ids: Collection[UUID], now: datetime | None = None) -> None:
    """Stop what is said to have used more than can be charged, say why, and tell staff. Repeating it does no harm."""
    now = now or timezone.now()
    for lease_id in lease_ids:
        for deployment in Deployment.objects.filter(charge_periods__lease_id=lease_id).distinct():
            guarded(_stop_unbillable, deployment, now)
        alerts.raise_alert(
            code="lease_too_much_to_bill",
            subject=f"lease:{lease_id}",
            message="A device reports more use of a lease than can be charged. Its app was stopped; nothing of it was charged.",
            mend="Look at the device's readings in the admin; if they are false, revoke the device.",
        )


@transaction.atomic
def _stop_unbillable(deployment_id: UUID, now: datetime) -> None:
    deployment = deployments.lock(deployment_id)
    if deployment is None or not deployment.asked_to_run:
        return
    deployments.close_unfinished(deployment, by=None)
    words = TooMuchToBill.message
    told: dict[str, Any] = {"reason": TooMuchToBill.code, "message": words, "desired": Desired.STOPPED}
    move(deployment, _S.FAILED, kind="failed", words=words, now=now, **told)
    emails.owe(
        key=f"unbillable:{deployment.lease_id}",
        user=deployment.app.publisher,
        template="too_much_to_bill",
        subject=f"{deployment.app.name} was stopped: its use cannot be charged",
        now=now,
        deployment=deployment,
    )
    audit.record("app_stopped_unbillable", subject=f"deployment:{deployment.pk}", lease=str(deployment.lease_id))


def credited(*, publisher_id: int, now: datetime | None = None) -> None:
    """After NTC was bought: warnings count anew, and apps in grace restart."""
    BalanceWatch.objects.filter(publisher_id=publisher_id).update(warned_hours=None, round=F("round") + 1)
    resume(publisher_id=publisher_id, now=now)


def resume(*, publisher_id: int, now: datetime | None = None) -> None:
    """Let what is in grace go on by itself, as far as the balance reaches."""
    now = now or timezone.now()
    waiting = Deployment.objects.filter(
        app__publisher_id=publisher_id, grace_started_at__isnull=False, state__in=(_S.GRACE, _S.STOPPING)
    ).order_by("created_at")
    for deployment in waiting:
        guarded(_resume_one, deployment, now)


@transaction.atomic
def _resume_one(deployment_id: UUID, now: datetime) -> None:
    deployment = deployments.lock(deployment_id)
    if deployment is None or deployment.grace_started_at is None or deployment.state not in (_S.GRACE, _S.STOPPING):
        return
    clear: dict[str, Any] = {"grace_started_at": None, "grace_ends_at": None, "message": "", "reason": ""}
    if deployment.desired == Desired.STOPPED:  # what still stops gets there by itself
        to = _S.STOPPED if deployment.state == _S.GRACE else deployment.state
        move(deployment, to, kind="grace_over", words="NTC was bought; the data is kept.", now=now, **clear)
        return
    try:
        with transaction.atomic():
            deployments.run_again(deployment, by=None, now=now)
        audit.record("app_restarted_after_top_up", subject=f"deployment:{deployment.pk}")
    except NotEnoughNTC as error:
        deployment.refresh_from_db()
        if deployment.message != error.message:
            Deployment.objects.filter(pk=deployment.pk).update(message=error.message)
            note(deployment, kind="not_restarted", words=f"Not restarted yet. {error.message}", now=now)
        _tell_too_little(deployment, error.message, now)
    except DomainError as error:
        deployment.refresh_from_db()
        if deployment.state == _S.GRACE:
            clear |= {"message": error.message, "reason": error.code}
            move(deployment, _S.WAITING, kind="waiting", words=error.message, now=now, **clear)


def _tell_too_little(deployment: Deployment, words: str, now: datetime) -> None:
    """Say by mail, once for each time NTC came in, how much is still missing."""
    available = balances(deployment.app.publisher_id).available
    emails.owe(
        key=f"too_little:{deployment.pk}:{deployment.grace_started_at}:{available}",
        user=deployment.app.publisher,
        template="too_little",
        subject=f"{deployment.app.name} is not restarted yet: too little NTC for an hour",
        now=now,
        deployment=deployment,
        words=words,
    )


def end_graces(*, now: datetime | None = None) -> None:
    """Wipe what nobody paid for until the end of its grace period."""
    now = now or timezone.now()
    over = Deployment.objects.filter(grace_ends_at__lte=now, state__in=(_S.GRACE, _S.STOPPING)).order_by(
        "grace_ends_at"
    )
    for deployment in over[:200]:
        guarded(_end_grace, deployment, now)


@transaction.atomic
def _end_grace(deployment_id: UUID, now: datetime) -> None:
    deployment = deployments.lock(deployment_id)
    if deployment is None or deployment.grace_ends_at is None or deployment.grace_ends_at > now:
        return
    if deployment.state not in (_S.GRACE, _S.STOPPING):
        return
    wiping.begin(deployment, by=None, now=now, words="The grace period is over: its data is being wiped.")
    emails.owe(
        key=f"wiped:{deployment.pk}",
        user=deployment.app.publisher,
        template="grace_over",
        subject=f"The data of {deployment.app.name} is being wiped",
        now=now,
        deployment=deployment,
    )
    audit.record("grace_ended", subject=f"deployment:{deployment.pk}")


def _warn(costing: Sequence[Deployment], available: Mapping[int, int], now: datetime) -> None:
    hours = hours_left(costing, available, now)
    watches = {watch.publisher_id: watch for watch in BalanceWatch.objects.filter(publisher_id__in=list(hours))}
    people = {deployment.app.publisher_id: deployment.app.publisher for deployment in costing}
    for publisher_id, left in hours.items():
        crossed = min((hour for hour in settings.BALANCE_WARNING_HOURS if left < hour), default=None)
        warned = watches[publisher_id].warned_hours if publisher_id in watches else None
        if crossed is None or (warned is not None and warned <= crossed):
            continue
        with transaction.atomic():
            watch, _ = BalanceWatch.objects.select_for_update().get_or_create(publisher_id=publisher_id)
            if watch.warned_hours is not None and watch.warned_hours <= crossed:
                continue
            watch.warned_hours = crossed
            watch.save(update_fields=["warned_hours"])
            emails.owe(
                key=f"low:{publisher_id}:{watch.round}:{crossed}",
                user=people[publisher_id],
                template="running_low",
                subject=f"Your balance lasts less than {crossed} hour{'s' if crossed > 1 else ''}",
                now=now,
                hours=crossed,
                available=available[publisher_id],
                running=any(row.asked_to_run for row in costing if row.app.publisher_id == publisher_id),
            )


def hours_left(costing: Sequence[Deployment], available: Mapping[int, int], now: datetime) -> dict[int, Fraction]:
    """Return per publisher how many hours the balance lasts at the last hour's burn; people who burn nothing are absent."""
    burn = queries.measured_burn([deployment.pk for deployment in costing], now)
    per_publisher: dict[int, int] = {}
    for deployment in costing:
        publisher_id = deployment.app.publisher_id
        per_publisher[publisher_id] = per_publisher.get(publisher_id, 0) + burn.get(deployment.pk, 0)
    burning = {publisher_id: nano for publisher_id, nano in per_publisher.items() if nano > 0}
    if not burning:
        return {}
    rate = Fraction(rate_in_force(now))
    with_commission = {pk: nano + money.commission_units(nano)[0] for pk, nano in burning.items()}
    return {pk: available[pk] * rate / nano for pk, nano in with_commission.items()}


def guarded(step: Callable[[UUID, datetime], object], deployment: Deployment, now: datetime) -> None:
    """Run one deployment's step; its failure is logged and does not keep the others from theirs."""
    try:
        step(deployment.pk, now)
    except Exception:
        log.exception("step_failed", deployment=str(deployment.pk), step=getattr(step, "__name__", "step"))
