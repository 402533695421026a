"""What nodes itself listens to. Each acts after the sender's commit; what a crash loses in between, the sweep picks up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import transaction
from django.dispatch import receiver

from nodes.services import directory, election
from nodes.signals import lease_changed, slot_vacant
from nodes.states import LeaseState


@receiver(slot_vacant, dispatch_uid="nodes.elect")
def on_slot_vacant(sender: Any, *, workload_ids: Sequence[UUID], **_: Any) -> None:
    transaction.on_commit(lambda: election.guarded_look_many(workload_ids), robust=True)


@receiver(lease_changed, dispatch_uid="nodes.directory")
def on_lease_changed(sender: Any, *, workload_id: UUID, state: str, **_: Any) -> None:
    if state != LeaseState.OFFERED:  # what was just offered serves nothing yet
        transaction.on_commit(lambda: directory.guarded_renew(workload_id), robust=True)
