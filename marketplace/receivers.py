"""What marketplace listens to. Each acts after the sender's commit, in a transaction of its own, so that locks are always
taken deployment first; what a crash loses in between, `tasks.sweep` picks up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.dispatch import receiver

from billing.signals import balance_credited
from marketplace import tasks
from marketplace.services import following, wiping
from nodes.signals import lease_changed, leases_opened, rollout_ended, snapshots_wiped, workload_wiped


@receiver(lease_changed, dispatch_uid="marketplace.follow")
@receiver(rollout_ended, dispatch_uid="marketplace.rollout_ended")
@receiver(workload_wiped, dispatch_uid="marketplace.wiped")
def on_workload_changed(sender: Any, *, workload_id: UUID | str, **_: Any) -> None:
    deployment_id = UUID(str(workload_id))
    transaction.on_commit(lambda: following.follow(deployment_id=deployment_id), robust=True)


@receiver(leases_opened, dispatch_uid="marketplace.leases_opened")
def on_leases_opened(sender: Any, *, workload_ids: Sequence[UUID], **_: Any) -> None:
    transaction.on_commit(lambda: following.follow_many(deployment_ids=workload_ids), robust=True)


@receiver(balance_credited, dispatch_uid="marketplace.credited")
def on_balance_credited(sender: Any, *, user_id: int, **_: Any) -> None:
    transaction.on_commit(lambda: tasks.credited.delay(user_id), robust=True)


@receiver(snapshots_wiped, dispatch_uid="marketplace.snapshots_wiped")
def on_snapshots_wiped(sender: Any, *, workload_id: UUID, receipt: str, **_: Any) -> None:
    wiping.note_snapshots(workload_id, receipt=receipt)
