"""The one way a deployment changes state: by the table, with an event in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from interchain_site.core.models import User
from interchain_site.core.states import compare_and_set
from marketplace.errors import WrongState
from marketplace.models import Deployment, DeploymentEvent
from marketplace.states import check_move
from nodes.services import route_options


def note(deployment: Deployment, *, kind: str, words: str, now: datetime, by: User | None = None) -> None:
    """Add an event to the deployment's history."""
    DeploymentEvent.objects.create(deployment=deployment, at=now, kind=kind, message=words, by=by)


def move(
    deployment: Deployment,
    to: str,
    *,
    kind: str,
    words: str,
    now: datetime,
    by: User | None = None,
    **changes: Any,
) -> None:
    """Move a locked deployment to another state with other columns, and note it. The same state again is no move.

    Raises:
        WrongState: the table has no such move, or the deployment is not in the state the caller saw.
    """
    seen, grace = deployment.state, deployment.grace_ends_at
    if seen != to:
        check_move(seen, to)
        changes["state_changed_at"] = now
    if not compare_and_set(deployment, seen={"state": seen}, changes=changes | {"state": to}):
        raise WrongState("The app was changed meanwhile. Reload the page and try again.")
    if deployment.grace_ends_at != grace:
        route_options.set_grace(name=deployment.app.slug, ends_at=deployment.grace_ends_at)
    note(deployment, kind=kind, words=words, now=now, by=by)
