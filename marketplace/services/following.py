"""Keep a deployment's state true to its lease. Derived, not remembered: each call reads the lease as it is now."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from interchain_site.core.errors import Conflict, DomainError
from interchain_site.core.templatetags.ui import duration
from marketplace import failures
from marketplace.models import Deployment
from marketplace.services import deployments, periods, releasing, wiping
from marketplace.services.history import move
from marketplace.states import DeploymentState, Desired, can_move
from nodes import queries as nodes_queries
from nodes.agent.protocol import Reason
from nodes.models import Lease
from nodes.queries import LeaseSummary
from nodes.services import data_home
from nodes.states import LeaseState

log = structlog.get_logger(__name__)
_S, _L = DeploymentState, LeaseState
DEVICE_FAULTS = (Reason.DECLINED.value, Reason.DEVICE_ERROR.value)


@transaction.atomic
def follow(*, deployment_id: UUID, now: datetime | None = None) -> Deployment | None:
    """Bring one deployment in line with its newest lease; safe to repeat at any time.

    Steps: lock it · adopt a lease that nodes opened · deleting goes on by itself · else map the lease's state.
    """
    now = now or timezone.now()
    deployment = deployments.lock(deployment_id)
    if deployment is None or deployment.state == _S.DELETED:
        return deployment
    if deployment.state == _S.DELETING:
        wiping.advance(deployment, now=now)
        return deployment
    lease = nodes_queries.lease_summary(deployment.pk)
    if lease is None:
        return deployment
    _adopt(deployment, lease, now=now)
    releasing.follow(deployment, now=now)
    _apply(deployment, lease, now=now)
    return deployment


def follow_many(*, deployment_ids: Collection[UUID]) -> None:
    """Bring those of these ids that are deployments in line, each by itself; what fails is logged and left to the sweep."""
    for deployment_id in Deployment.objects.filter(pk__in=deployment_ids).values_list("pk", flat=True):
        try:
            follow(deployment_id=deployment_id)
        except Exception:
            log.exception("not_followed", deployment=str(deployment_id))


def _adopt(deployment: Deployment, lease: LeaseSummary, *, now: datetime) -> None:
    if deployment.lease_id == lease.lease_id:
        return
    deployment.lease_id = lease.lease_id
    deployment.save(update_fields=["lease_id"])
    periods.open_for_lease(
        deployment, lease_id=lease.lease_id, owner_id=lease.owner_id, device_id=lease.device_id, now=now
    )


def _apply(deployment: Deployment, lease: LeaseSummary, *, now: datetime) -> None:
    match lease.state:
        case _L.OFFERED | _L.PREPARING:
            _to(deployment, _S.STARTING, lease, f"Starting on {lease.device_name}.{_age_of_data(lease, now)}", now)
        case _L.RUNNING:
            _to(deployment, _S.RUNNING, lease, f"Running on {lease.device_name}.", now)
        case _L.UNHEALTHY:
            _to(deployment, _S.UNHEALTHY, lease, failures.explain(lease.reason, lease.message), now)
        case _L.LOST:
            _to(deployment, _S.WAITING, lease, _silent(lease), now)
        case _L.DRAINING | _L.STOPPED if deployment.rolling:
            pass  # the election goes on: with the new release, or back to the one before
        case _L.DRAINING if not lease.reason:
            _to(deployment, _S.STOPPING, lease, "Stopping.", now)
        case _L.DRAINING | _L.STOPPED:
            _ended(deployment, lease, now)
        case _:
            pass


def _silent(lease: LeaseSummary) -> str:
    newest = data_home.newest_snapshot(lease.workload_id) if lease.has_volume else None
    return failures.silent(
        keeps_data=lease.has_volume,
        snapshot_at=newest.taken_at if newest else None,
        patience=duration(settings.DATA_FAILOVER_SECONDS),
    )


def _age_of_data(lease: LeaseSummary, now: datetime) -> str:
    if lease.data_of is None:
        return ""
    return f" Its data is that of a snapshot taken {duration((now - lease.data_of).total_seconds())} before."


def _ended(deployment: Deployment, lease: LeaseSummary, now: datetime) -> None:
    """Steps: out of balance → grace · asked to stop → stopped · broke by itself → failed · asked to run → place again.

    What a device's owner declined, or the device could not do, is not the app's fault: it is placed again.
    """
    gone = lease.state == _L.STOPPED
    if deployment.state in (_S.STOPPED, _S.FAILED, _S.GRACE):
        return
    if deployment.grace_started_at is not None:
        if gone:
            _to(deployment, _S.GRACE, lease, "Stopped: the balance is used up. The data is kept for now.", now)
    elif deployment.desired == Desired.STOPPED:
        if gone:
            _to(deployment, _S.STOPPED, lease, "Stopped; its data is kept.", now)
    elif lease.reason not in ("", *DEVICE_FAULTS) and deployment.state in (_S.STARTING, _S.RUNNING, _S.UNHEALTHY):
        deployments.close_unfinished(deployment, by=None)
        _to(deployment, _S.FAILED, lease, failures.explain(lease.reason, lease.message), now)
    elif gone:
        place_or_wait(deployment, now=now)


def place_or_wait(deployment: Deployment, *, now: datetime) -> None:
    """Run a locked deployment that is asked to run; where that is not possible now, wait and say why."""
    try:
        with transaction.atomic():
            deployments.place_again(deployment, by=None, now=now, words="Placed again.")
    except Conflict as error:  # an election was faster; its lease's signal brings us here again
        log.info("placed_meanwhile", deployment=str(deployment.pk), why=error.message)
        deployment.refresh_from_db()
    except DomainError as error:
        deployment.refresh_from_db()
        if deployment.state != _S.WAITING or deployment.message != error.message:
            told: dict[str, Any] = {"reason": error.code, "message": error.message}
            move(deployment, _S.WAITING, kind="waiting", words=error.message, now=now, **told)


def _to(deployment: Deployment, to: DeploymentState, lease: LeaseSummary, words: str, now: datetime) -> None:
    """Move unless nothing changed or the table has no such move (then a later look decides)."""
    bad = to in (_S.FAILED, _S.UNHEALTHY, _S.WAITING)
    changes: dict[str, Any] = {
        "reason": (lease.reason or ("device_silent" if to == _S.WAITING else "")) if bad else "",
        "message": words if bad else "",
        "log_tail": lease.log_tail if bad else "",
    }
    same = all(getattr(deployment, name) == value for name, value in changes.items() if name != "log_tail")
    if deployment.state == to and same:
        if bad and deployment.log_tail != lease.log_tail:
            Deployment.objects.filter(pk=deployment.pk).update(log_tail=lease.log_tail)
        return
    if deployment.state != to and not can_move(deployment.state, to):
        log.info("move_not_in_table", deployment=str(deployment.pk), state=deployment.state, to=str(to))
        return
    move(deployment, to, kind=to.value, words=words, now=now, **changes)


def out_of_step(limit: int = 500) -> list[Deployment]:
    """Return running deployments no lease of which runs, and those whose release is taking over: a message about them may be lost."""
    running = Lease.objects.filter(state=LeaseState.RUNNING, workload_id=OuterRef("pk"))
    rows = Deployment.objects.filter(~Exists(running), state=_S.RUNNING) | Deployment.objects.filter(rolling=True)
    return list(rows.order_by("state_changed_at")[:limit])
