"""How a rollout ends, whoever ends it: written down, audited, and told to whoever listens."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from interchain_site.core import audit
from interchain_site.core.models import User
from nodes.models import Rollout
from nodes.signals import rollout_ended
from nodes.states import RolloutState, transition_rollout


def under_way(workload_id: UUID) -> Rollout | None:
    """Return the rollout of a workload that is under way."""
    return under_way_of([workload_id]).get(workload_id)


def under_way_of(workload_ids: Collection[UUID]) -> dict[UUID, Rollout]:
    """Return the rollouts under way by workload, in one query."""
    rows = Rollout.objects.filter(workload_id__in=workload_ids, state=RolloutState.ROLLING)
    return {rollout.workload_id: rollout for rollout in rows}


def drop(workload_id: UUID) -> None:
    """End the rollout of a locked workload, if one is under way, because something else took its place."""
    rollout = under_way(workload_id)
    if rollout is not None:
        end(rollout, RolloutState.DROPPED, now=timezone.now())


def end(
    rollout: Rollout,
    state: RolloutState,
    *,
    now: datetime,
    reason: str = "",
    message: str = "",
    log_tail: str = "",
    by: User | None = None,
) -> None:
    """End a rollout of a locked workload.

    Args:
        reason, message, log_tail: why it was rolled back, in a word and in words, and the last lines of the copy that failed.
    """
    transition_rollout(
        rollout,
        state,
        ended_at=now,
        reason=reason,
        message=message[:500],
        log_tail=log_tail,
        from_environment_encrypted="",
    )
    audit.record(f"rollout_{state.value}", subject=f"workload:{rollout.workload_id}", by=by, reason=reason)
    rollout_ended.send(sender=Rollout, workload_id=rollout.workload_id)
