"""The states of a deployment and of a price list: one table each, one way to move."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import models

from marketplace.errors import WrongState


class DeploymentState(models.TextChoices):
    """What is true of a deployment now."""

    WAITING = "waiting", "Waiting for a device"
    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    UNHEALTHY = "unhealthy", "Unhealthy"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    FAILED = "failed", "Failed"
    GRACE = "grace", "Stopped: balance is used up"
    DELETING = "deleting", "Deleting"
    DELETED = "deleted", "Deleted"


class Desired(models.TextChoices):
    """What the publisher last asked for."""

    RUNNING = "running", "Running"
    STOPPED = "stopped", "Stopped"
    DELETED = "deleted", "Deleted"


class PriceListState(models.TextChoices):
    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"


_S = DeploymentState
DEPLOYMENT_MOVES: Mapping[str, frozenset[str]] = {
    _S.STARTING: frozenset({_S.RUNNING, _S.UNHEALTHY, _S.STOPPING, _S.STOPPED, _S.FAILED, _S.WAITING, _S.GRACE, _S.DELETING}),
    _S.WAITING: frozenset({_S.STARTING, _S.RUNNING, _S.UNHEALTHY, _S.STOPPED, _S.FAILED, _S.GRACE, _S.DELETING}),
    _S.RUNNING: frozenset({_S.STARTING, _S.UNHEALTHY, _S.STOPPING, _S.STOPPED, _S.FAILED, _S.WAITING, _S.GRACE, _S.DELETING}),
    _S.UNHEALTHY: frozenset({_S.STARTING, _S.RUNNING, _S.STOPPING, _S.STOPPED, _S.FAILED, _S.WAITING, _S.GRACE, _S.DELETING}),
    _S.STOPPING: frozenset({_S.STARTING, _S.STOPPED, _S.FAILED, _S.WAITING, _S.GRACE, _S.DELETING}),
    _S.STOPPED: frozenset({_S.STARTING, _S.WAITING, _S.GRACE, _S.DELETING}),
    _S.FAILED: frozenset({_S.STARTING, _S.WAITING, _S.STOPPED, _S.GRACE, _S.DELETING}),
    _S.GRACE: frozenset({_S.STARTING, _S.WAITING, _S.STOPPED, _S.DELETING}),
    _S.DELETING: frozenset({_S.DELETED}),
    _S.DELETED: frozenset(),
}  # fmt: skip
PRICE_LIST_MOVES: Mapping[str, frozenset[str]] = {
    PriceListState.DRAFT: frozenset({PriceListState.PUBLISHED}),
    PriceListState.PUBLISHED: frozenset(),
}

ON_DEVICE = (_S.STARTING, _S.RUNNING, _S.UNHEALTHY, _S.STOPPING)  # a container may exist
ASKED_TO_RUN = (_S.WAITING, _S.STARTING, _S.RUNNING, _S.UNHEALTHY)
AT_REST = (_S.STOPPED, _S.FAILED)  # costs only what its data takes on a device


def can_move(current: str, to: str) -> bool:
    """Return whether a deployment in `current` may move to `to`."""
    return to in DEPLOYMENT_MOVES[current]


def check_move(current: str, to: str) -> None:
    """Allow a move of a deployment or raise.

    Raises:
        WrongState: the table has no such move.
    """
    if not can_move(current, to):
        now, then = DeploymentState(current).label.lower(), DeploymentState(to).label.lower()
        raise WrongState(f"An app that is {now} cannot become {then}. Reload the page to see what it can do now.")
