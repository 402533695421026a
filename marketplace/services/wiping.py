"""Delete a deployment: stop it, have its data wiped, keep the device's signed receipt."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.errors import Conflict
from interchain_site.core.models import User
from marketplace import queries
from marketplace.models import Deployment
from marketplace.services.history import move, note
from marketplace.states import DeploymentState, Desired
from nodes import queries as nodes_queries
from nodes.agent.protocol import Action
from nodes.services import leases
from nodes.states import LeaseState

log = structlog.get_logger(__name__)


def begin(deployment: Deployment, *, by: User | None, now: datetime, words: str) -> None:
    """Start deleting a locked deployment; repeating it only presses on.

    Raises:
        WrongState: it is deleted already.
    """
    move(deployment, DeploymentState.DELETING, kind="deleting", words=words, now=now, by=by, desired=Desired.DELETED)
    leases.close_workload(workload_id=deployment.pk, by=by)
    advance(deployment, now=now)


def advance(deployment: Deployment, *, now: datetime) -> None:
    """Take the next step of a locked deployment that is being deleted: wipe once stopped, finish once nothing is left."""
    lease = nodes_queries.lease_summary(deployment.pk)
    if lease is None:
        finish(deployment, receipts=[], now=now)
        return
    receipts = queries.wipe_receipts(deployment.pk)
    if receipts is not None:
        finish(deployment, receipts=receipts, now=now)
    elif lease.state == LeaseState.STOPPED and lease.action != Action.WIPE.value:
        try:
            with transaction.atomic():
                leases.wipe_lease(lease_id=lease.lease_id, by=None)
        except Conflict:  # an older lease is still stopping; the sweep comes again
            log.info("wipe_waits", deployment=str(deployment.pk))


def finish(deployment: Deployment, *, receipts: list[str], now: datetime) -> None:
    """Record that nothing of a locked deployment is left; `receipts` are the devices' signed words (compact JWS)."""
    if deployment.state == DeploymentState.DELETED:
        return
    words = "Its data was wiped; the device signed a receipt." if receipts else "Deleted; no device held data of it."
    move(
        deployment,
        DeploymentState.DELETED,
        kind="deleted",
        words=words,
        now=now,
        deleted_at=now,
        wipe_receipts=receipts,
        grace_started_at=None,
        grace_ends_at=None,
    )
    audit.record("app_deleted", subject=f"deployment:{deployment.pk}", receipts=len(receipts))


@transaction.atomic
def note_snapshots(deployment_id: UUID, *, receipt: str) -> None:
    """Keep the portal's signed word (compact JWS) that a deployment's snapshots are gone, beside those of the devices."""
    deployment = Deployment.objects.select_for_update().filter(pk=deployment_id).first()
    if deployment is None:
        return
    deployment.wipe_receipts = [*deployment.wipe_receipts, receipt]
    deployment.save(update_fields=["wipe_receipts"])
    words = "Its snapshots were deleted, and the key to them; the portal signed a receipt."
    note(deployment, kind="snapshots_deleted", words=words, now=timezone.now())
