"""When nodes' periodic work runs (the table is in interchain_site/celery.py). Each may run twice or never."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from nodes.services import (
    directory,
    election,
    gateway_counts,
    gateways,
    liveness,
    owner_limits,
    peers,
    route_options,
    routes,
    snapshots,
    spot_checks,
    suspicion,
    trust,
    tunnels,
)


@shared_task
def sweep_liveness() -> None:
    liveness.sweep()


@shared_task
def sweep_elections() -> None:
    """Fill the slots whose election nobody began or finished."""
    election.sweep()


@shared_task
def suspect_endpoint(workload_id: str, endpoint: str, source: str) -> None:
    """Somebody ("gateway", "client" or "link") could not reach a workload at this `host:port`."""
    suspicion.suspect_endpoint(workload_id=UUID(workload_id), endpoint=endpoint, source=source)


@shared_task
def republish_routes() -> None:
    routes.republish_all()
    route_options.republish_all()


@shared_task
def save_gateway_counts() -> None:
    gateway_counts.save()


@shared_task
def sweep_owner_limits() -> None:
    owner_limits.sweep()


@shared_task
def judge_spot_check(check_id: str) -> None:
    spot_checks.judge(UUID(check_id))


@shared_task
def sweep_spot_checks() -> None:
    spot_checks.sweep()


@shared_task
def observe_devices() -> None:
    trust.observe()


@shared_task
def rate_devices() -> None:
    trust.rate()


@shared_task
def probe_devices() -> None:
    tunnels.probe()


@shared_task
def watch_gateways() -> None:
    gateways.watch()


@shared_task
def sweep_directory() -> None:
    directory.sweep()


@shared_task
def probe_directories() -> None:
    peers.probe()


@shared_task
def sweep_snapshots() -> None:
    snapshots.sweep()
