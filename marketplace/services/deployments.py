"""Deploy, start, stop, scale and delete. Placement happens here and now, so that a click is served at once."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from marketplace import policies, queries
from marketplace.errors import AlreadyDeployed, NoRelease, NotDeployed
from marketplace.estimates import ExpectedUse
from marketplace.models import App, Deployment, Release
from marketplace.services import periods, wiping
from marketplace.services.affordability import check_hour_is_covered, expected_nano_usd_per_hour
from marketplace.services.history import move, note
from marketplace.states import ON_DEVICE, DeploymentState, Desired
from marketplace.workloads import workload_for
from nodes.errors import NoDevice
from nodes.services import leases, placement, route_options, scaling

_S = DeploymentState
_CLEAR = {"reason": "", "message": "", "log_tail": "", "grace_started_at": None, "grace_ends_at": None}


def deploy(
    *,
    app: App,
    release: Release | None = None,
    expected: ExpectedUse | None = None,
    standby: bool = False,
    by: User,
    now: datetime | None = None,
) -> Deployment:
    """Place an app's release (the newest unless named) on a device for each replica; returns the deployment, already leased.

    Steps: may they · newest release and prices · a device for each replica · an hour's money · only then it is kept.

    Args:
        expected: what it is expected to use, and how many replicas of it.
        standby: one more device keeps it ready to start.

    Raises:
        NotYours, AlreadyDeployed, NoRelease, NoPriceList; NoDevice: why it cannot be placed; NotEnoughNTC, NoRate.
    """
    now, use = now or timezone.now(), expected or ExpectedUse()
    policies.check_can_deploy(by, app, queries.live_deployment(app))
    release = release or queries.newest_release(app)
    if release is None:
        raise NoRelease
    price_list = queries.price_list_in_force(now=now)
    hour = expected_nano_usd_per_hour(use, price_list)
    with transaction.atomic():
        deployment = Deployment(
            app=app,
            release=release,
            price_list=price_list,
            state_changed_at=now,
            created_at=now,
            created_by=by,
            expected_use=use.as_json(),
            expected_nano_usd_per_hour=hour,
            replicas=use.replicas,
            standby=standby,
        )
        _insert(deployment)
        _place(deployment, by=by, now=now, least=use.replicas)
        check_hour_is_covered(publisher_id=app.publisher_id, nano_usd_per_hour=hour, now=now)
        note(deployment, kind="deployed", words=f"Release {release.number} was deployed.", now=now, by=by)
        audit.record("app_deployed", subject=f"deployment:{deployment.pk}", by=by, release=release.number)
    return deployment


@transaction.atomic
def start(*, app: App, by: User, now: datetime | None = None) -> Deployment:
    """Run a stopped, failed or waiting app again, or one in grace after NTC was bought.

    Raises:
        NotYours, NotDeployed, WrongState, NoDevice, NotEnoughNTC, NoRate.
    """
    now = now or timezone.now()
    deployment = queries.lock_live_deployment(app)
    policies.check_can_start(by, deployment, app)
    assert deployment is not None  # noqa: S101  (the policy just said so)
    run_again(deployment, by=by, now=now)
    audit.record("app_started", subject=f"deployment:{deployment.pk}", by=by)
    return deployment


def run_again(deployment: Deployment, *, by: User | None, now: datetime) -> None:
    """Make a locked deployment run: place it, or wait for its last container to be gone first.

    Raises:
        NoDevice, NotEnoughNTC, NoRate.
    """
    check_hour_is_covered(
        publisher_id=deployment.app.publisher_id,
        nano_usd_per_hour=deployment.expected_nano_usd_per_hour,
        now=now,
    )
    if deployment.state == _S.STOPPING:
        if deployment.grace_ends_at is not None:
            route_options.set_grace(name=deployment.app.slug, ends_at=None)
        deployment.desired, deployment.grace_started_at, deployment.grace_ends_at = Desired.RUNNING, None, None
        deployment.save(update_fields=["desired", "grace_started_at", "grace_ends_at"])
        note(deployment, kind="start_asked", words="It will start again once it has stopped.", now=now, by=by)
        return
    place_again(deployment, by=by, now=now, words="Started.")


def place_again(deployment: Deployment, *, by: User | None, now: datetime, words: str) -> None:
    """Open a new lease for a locked deployment that has no container.

    Raises:
        NoDevice.
    """
    _place(deployment, by=by, now=now)
    move(deployment, _S.STARTING, kind="started", words=words, now=now, by=by, desired=Desired.RUNNING, **_CLEAR)


@transaction.atomic
def stop(*, app: App, by: User, now: datetime | None = None) -> Deployment:
    """Stop an app; its data is kept.

    Raises:
        NotYours, NotDeployed, WrongState.
    """
    now = now or timezone.now()
    deployment = queries.lock_live_deployment(app)
    policies.check_can_stop(by, deployment, app)
    assert deployment is not None  # noqa: S101
    if deployment.state in (_S.GRACE, _S.STOPPING):
        deployment.desired = Desired.STOPPED
        deployment.save(update_fields=["desired"])
        note(deployment, kind="stop_asked", words="It will stay stopped.", now=now, by=by)
    elif deployment.state == _S.WAITING:
        close_unfinished(deployment, by=by)
        move(deployment, _S.STOPPED, kind="stopped", words="Stopped.", now=now, by=by, desired=Desired.STOPPED)
    else:
        close(deployment, by=by, now=now, words="Stopping.", desired=Desired.STOPPED)
    audit.record("app_stopped", subject=f"deployment:{deployment.pk}", by=by)
    return deployment


def close(deployment: Deployment, *, by: User | None, now: datetime, words: str, **changes: object) -> None:
    """Ask the device of a locked deployment to stop it; `lease_events` hears when it has."""
    move(deployment, _S.STOPPING, kind="stopping", words=words, now=now, by=by, rolling=False, **changes)
    close_unfinished(deployment, by=by)


@transaction.atomic
def scale(*, app: App, replicas: int, standby: bool, by: User, now: datetime | None = None) -> Deployment:
    """Run an app on so many devices, with or without one more that keeps it ready; what is more than that stops.

    Raises:
        NotYours, NotDeployed, WrongState, Invalid; NoDevice: fewer devices can take it; NotEnoughNTC, NoRate.
    """
    now = now or timezone.now()
    deployment = queries.lock_live_deployment(app)
    policies.check_can_scale(by, deployment, app)
    assert deployment is not None  # noqa: S101
    use = dataclasses.replace(ExpectedUse.from_json(deployment.expected_use), replicas=replicas)
    hour = expected_nano_usd_per_hour(use, deployment.price_list)
    more = replicas > deployment.replicas
    if more:
        check_hour_is_covered(publisher_id=app.publisher_id, nano_usd_per_hour=hour, now=now)
    if deployment.state in ON_DEVICE:
        opened = scaling.scale(workload_id=deployment.pk, replicas=replicas, standby=standby, by=by)
        for lease in opened:
            periods.open_for_new_lease(deployment, lease, now=now)
    deployment.replicas, deployment.standby = replicas, standby
    deployment.expected_use, deployment.expected_nano_usd_per_hour = use.as_json(), hour
    deployment.save(update_fields=["replicas", "standby", "expected_use", "expected_nano_usd_per_hour"])
    words = f"It is to run on {replicas} device{'s' if replicas > 1 else ''}{', one more ready' if standby else ''}."
    note(deployment, kind="scaled", words=words, now=now, by=by)
    audit.record("app_scaled", subject=f"deployment:{deployment.pk}", by=by, replicas=replicas, standby=standby)
    return deployment


@transaction.atomic
def delete(*, app: App, by: User, now: datetime | None = None) -> Deployment:
    """Stop an app and wipe its data; the device's signed receipt arrives later and is kept.

    Raises:
        NotYours, NotDeployed, WrongState.
    """
    now = now or timezone.now()
    deployment = queries.lock_live_deployment(app)
    policies.check_can_delete(by, deployment, app)
    assert deployment is not None  # noqa: S101
    wiping.begin(deployment, by=by, now=now, words="Deleting: the app is stopped and its data wiped.")
    audit.record("app_deletion_asked", subject=f"deployment:{deployment.pk}", by=by)
    return deployment


def grace_period(now: datetime, seconds: int) -> dict[str, Any]:
    """Return the columns that begin a grace period."""
    return {"grace_started_at": now, "grace_ends_at": now + timedelta(seconds=seconds)}


def _insert(deployment: Deployment) -> None:
    try:
        with transaction.atomic():
            deployment.save(force_insert=True)
    except IntegrityError:  # somebody deployed it at the same moment
        raise AlreadyDeployed from None


def _place(deployment: Deployment, *, by: User | None, now: datetime, least: int = 1) -> None:
    deployment.release.app = deployment.app  # loaded already
    lease = placement.open_lease(
        workload=workload_for(deployment.release, deployment_id=deployment.pk),
        replicas=deployment.replicas,
        standby=deployment.standby,
        region=deployment.price_list.region,
        least=least,
        by=by,
    )
    deployment.lease_id = lease.pk
    deployment.save(update_fields=["lease_id"])
    periods.open_for_new_lease(deployment, lease, now=now)


def close_unfinished(deployment: Deployment, *, by: User | None) -> None:
    """Close every lease of which a device may still hold a container; closing twice does no harm."""
    leases.close_workload(workload_id=deployment.pk, by=by)


def would_fit(release: Release) -> str:
    """Return "" when a device could take the release now, else the reason in words."""
    try:
        return placement.can_place(workload=workload_for(release))
    except NoDevice as error:
        return error.message


def required(app: App) -> Deployment:
    """Return the app's live deployment, locked for the caller's transaction.

    Raises:
        NotDeployed: it has none.
    """
    deployment = queries.lock_live_deployment(app)
    if deployment is None:
        raise NotDeployed
    return deployment


def lock(deployment_id: UUID) -> Deployment | None:
    """Return a deployment locked for the caller's transaction, with its app and release."""
    return (
        Deployment.objects.select_for_update(of=("self",))
        .select_related("app", "release", "price_list")
        .filter(pk=deployment_id)
        .first()
    )
