"""What a publisher does with an app's data: copy it now, set how often, put an older state back."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from interchain_site.core.models import User
from marketplace import policies
from marketplace.models import App, Deployment
from marketplace.services import deployments, periods
from marketplace.services.history import move, note
from marketplace.states import ON_DEVICE, DeploymentState
from marketplace.workloads import workload_for
from nodes import queries as nodes_queries
from nodes.errors import Conflict
from nodes.models import Lease, Snapshot
from nodes.services import placement, snapshots


@transaction.atomic
def take_snapshot(*, app: App, by: User, now: datetime | None = None) -> Snapshot:
    """Have the device copy the app's volume now.

    Raises:
        NotYours, NotDeployed; Conflict: it keeps no data, or nobody can read it now.
    """
    deployment = _mine(app, by)
    lease = nodes_queries.lease_summary(deployment.pk)
    if lease is None:
        raise Conflict("It was never placed on a device, so there is no data to copy.")
    snapshot = snapshots.want(lease=Lease.objects.get(pk=lease.lease_id), cause=Snapshot.Cause.DEMAND, by=by)
    note(
        deployment,
        kind="snapshot_asked",
        words="A snapshot of its data was asked for.",
        now=now or timezone.now(),
        by=by,
    )
    return snapshot


@transaction.atomic
def restore(*, app: App, snapshot_id: UUID, by: User, now: datetime | None = None) -> Deployment:
    """Put an older state of the app's data back. What runs is restarted with it; what is stopped begins with it.

    Raises:
        NotYours, NotDeployed; NotFound: no such snapshot; NoDevice, Conflict.
    """
    now, deployment = now or timezone.now(), _mine(app, by)
    taken = snapshots.want_restored(workload_id=deployment.pk, snapshot_id=snapshot_id, by=by)
    words = f"Its data is put back to that of {taken.taken_at:%Y-%m-%d %H:%M} UTC."
    if deployment.state in ON_DEVICE and deployment.state != DeploymentState.STOPPING and deployment.lease_id:
        workload = workload_for(deployment.release, deployment_id=deployment.pk)
        lease = placement.replace_workload(lease_id=deployment.lease_id, workload=workload, by=by)
        periods.open_for_new_lease(deployment, lease, now=now)
        move(deployment, DeploymentState.STARTING, kind="restored", words=words, now=now, by=by, lease_id=lease.pk)
    else:
        note(deployment, kind="restored", words=words + " It begins with it when it is started.", now=now, by=by)
    return deployment


def set_interval(*, app: App, every_seconds: int, by: User) -> None:
    """Have snapshots taken so often; 0: only when asked for.

    Raises:
        NotYours, NotDeployed, Invalid, NotFound.
    """
    with transaction.atomic():
        deployment = _mine(app, by)
        snapshots.set_interval(workload_id=deployment.pk, every_seconds=every_seconds, by=by)


def _mine(app: App, by: User) -> Deployment:
    policies.check_can_change_app(by, app)
    return deployments.required(app)
