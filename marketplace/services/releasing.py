"""A new release of a deployed app: it takes over copy by copy, and goes back by itself when it fails (nodes/services/rollouts.py)."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from marketplace import emails, failures, policies, queries
from marketplace.errors import NoRelease, NothingBefore
from marketplace.models import App, Deployment, Release
from marketplace.services import deployments
from marketplace.services.history import move, note
from marketplace.states import ON_DEVICE, DeploymentState, Desired
from marketplace.workloads import workload_for
from nodes.models import Rollout
from nodes.queries import last_rollout
from nodes.services import rollouts
from nodes.states import RolloutState

_CLEAR = {"reason": "", "message": "", "log_tail": "", "grace_started_at": None, "grace_ends_at": None}


@transaction.atomic
def redeploy(*, app: App, release: Release | None = None, by: User, now: datetime | None = None) -> Deployment:
    """Let another release (the newest unless named) take over from the present one, copy by copy; volume and address stay.

    Raises:
        NotYours, NotDeployed, WrongState, NoRelease, NoDevice, NotEnoughNTC, NoRate.
    """
    now = now or timezone.now()
    deployment = queries.lock_live_deployment(app)
    policies.check_can_redeploy(by, deployment, app)
    assert deployment is not None  # noqa: S101
    release = release or queries.newest_release(app)
    if release is None or release.app_id != app.pk:
        raise NoRelease
    put(deployment, release, by=by, now=now)
    audit.record("app_redeployed", subject=f"deployment:{deployment.pk}", by=by, release=release.number)
    return deployment


def put(deployment: Deployment, release: Release, *, by: User | None, now: datetime) -> None:
    """Run another release of a locked deployment.

    Raises:
        NoDevice, NotEnoughNTC, NoRate.
    """
    before = deployment.previous_release if deployment.rolling else deployment.release
    words = f"Release {release.number} is taking over from release {deployment.release.number}."
    deployment.release, deployment.previous_release = release, before if before != release else None
    deployment.rollback_message = ""
    kept = ["release", "previous_release", "rollback_message", "rolling"]
    if deployment.state not in ON_DEVICE or deployment.lease_id is None:
        deployment.rolling = False
        deployment.save(update_fields=kept)
        note(deployment, kind="redeployed", words=words, now=now, by=by)
        deployments.run_again(deployment, by=by, now=now)
        return
    rollout = rollouts.begin(workload=workload_for(release, deployment_id=deployment.pk), by=by)
    deployment.rolling = rollout is not None
    deployment.save(update_fields=kept)
    to = deployment.state if deployment.rolling else DeploymentState.STARTING
    move(deployment, to, kind="redeployed", words=words, now=now, by=by, desired=Desired.RUNNING, **_CLEAR)


@transaction.atomic
def roll_back(*, app: App, by: User, now: datetime | None = None) -> Deployment:
    """Go back to the release that ran before: what is under way is given up, what is done is taken back copy by copy.

    Raises:
        NotYours, NotDeployed, WrongState; NothingBefore: there is no release to go back to; NoDevice, NotEnoughNTC, NoRate.
    """
    now = now or timezone.now()
    deployment = queries.lock_live_deployment(app)
    policies.check_can_redeploy(by, deployment, app)
    assert deployment is not None  # noqa: S101  (the policy just said so)
    before = deployment.previous_release
    if before is None:
        raise NothingBefore
    if deployment.rolling:
        _went_back(deployment, rollouts.cancel(workload_id=deployment.pk, by=by), now=now)
    else:
        put(deployment, before, by=by, now=now)
    audit.record("app_rolled_back", subject=f"deployment:{deployment.pk}", by=by, release=before.number)
    return deployment


def follow(deployment: Deployment, *, now: datetime) -> None:
    """Bring a locked deployment in line with what came of its release; safe to repeat."""
    rollout = last_rollout(deployment.pk) if deployment.rolling else None
    if rollout is None or rollout.state == RolloutState.ROLLING:
        return
    if rollout.state == RolloutState.ROLLED_BACK:
        _went_back(deployment, rollout, now=now)
        return
    deployment.rolling = False
    deployment.save(update_fields=["rolling"])
    if rollout.state == RolloutState.DONE:
        words = f"Release {deployment.release.number} has taken over."
        note(deployment, kind="released", words=words, now=now)


def _went_back(deployment: Deployment, rollout: Rollout, *, now: datetime) -> None:
    given_up, before = deployment.release, deployment.previous_release
    if before is None:
        return
    why = _why(rollout)
    words = f"Release {given_up.number} was taken back; release {before.number} goes on. {why}"
    deployment.release, deployment.previous_release, deployment.rolling = before, None, False
    deployment.rollback_message = words
    deployment.save(update_fields=["release", "previous_release", "rolling", "rollback_message"])
    note(deployment, kind="rolled_back", words=words, now=now)
    if rollout.reason == "asked":
        return
    emails.owe(
        key=f"rolled-back:{rollout.pk}",
        user=deployment.app.publisher,
        template="rolled_back",
        subject=f"{deployment.app.name}: release {given_up.number} was taken back",
        now=now,
        deployment=deployment,
        given_up=given_up,
        why=why,
        log_tail=rollout.log_tail,
    )


def _why(rollout: Rollout) -> str:
    return (
        rollout.message
        if rollout.reason in ("asked", "no_progress")
        else failures.explain(rollout.reason, rollout.message)
    )
