"""When nodes' periodic work runs (the table is in interchain_site/celery.py). Each may run twice or never."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from nodes.services import gateway_counts, liveness, owner_limits, routes, suspicion


@shared_task
def sweep_liveness() -> None:
    liveness.sweep()


@shared_task
def suspect_endpoint(workload_id: str, endpoint: str, source: str) -> None:
    """Somebody ("gateway", "client" or "link") could not reach a workload at this `host:port`."""
    suspicion.suspect_endpoint(workload_id=UUID(workload_id), endpoint=endpoint, source=source)


@shared_task
def republish_routes() -> None:
    routes.republish_all()


@shared_task
def save_gateway_counts() -> None:
    gateway_counts.save()


@shared_task
def sweep_owner_limits() -> None:
    owner_limits.sweep()
