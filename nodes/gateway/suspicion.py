"""Tells the portal of upstreams that did not answer, as soon as the access log says so. The portal asks the device; a report
alone moves nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog
from celery import current_app
from kombu.exceptions import OperationalError

from nodes.gateway.log_lines import OUR_PAGE, Visit
from nodes.gateway.silence import Silence

TASK = "nodes.tasks.suspect_endpoint"
AGAIN_AFTER_SECONDS = 3.0
EXPIRES_SECONDS = 10  # later than that it says nothing about now
MOST_REMEMBERED = 10_000
UNREACHED = frozenset({502, 503, 504})

log = structlog.get_logger()


class Suspicions:
    """Each endpoint is told at most once in `AGAIN_AFTER_SECONDS`, however many requests failed there."""

    def __init__(self) -> None:
        self._told_at: dict[tuple[str, str], float] = {}
        self._silence = Silence(self._tell)

    def take(self, visits: Sequence[Visit]) -> None:
        """Look at some visits, or none, and tell what they show; call it a few times a second."""
        self._silence.take(visits)
        self._silence.look()
        for suspect in {found for visit in visits if (found := suspect_of(visit))}:
            self._tell(*suspect)

    def close(self) -> None:
        self._silence.close()

    def _tell(self, workload_id: str, endpoint: str) -> None:
        now = time.monotonic()
        if now - self._told_at.get((workload_id, endpoint), -AGAIN_AFTER_SECONDS) < AGAIN_AFTER_SECONDS:
            return
        if len(self._told_at) >= MOST_REMEMBERED:
            self._told_at.clear()
        self._told_at[workload_id, endpoint] = now
        arguments = {"workload_id": workload_id, "endpoint": endpoint, "source": "gateway"}
        try:
            current_app.send_task(TASK, kwargs=arguments, expires=EXPIRES_SECONDS, retry=False)
        except (OperationalError, OSError) as error:
            log.warning("suspicion_not_told", endpoint=endpoint, error=str(error))
            return
        log.info("endpoint_suspected", workload=workload_id, endpoint=endpoint)


def suspect_of(visit: Visit) -> tuple[str, str] | None:
    """Return workload and endpoint that did not answer this request, None when the first one did.

    An endpoint further back in the succession that answered shows that the first did not.
    """
    if not visit.workload_id or visit.reached.startswith(OUR_PAGE):
        return None
    if visit.fault:
        suspect = (visit.reached or visit.first) if visit.status in UNREACHED or visit.fault == "again" else ""
    else:
        suspect = visit.first if visit.reached != visit.first else ""
    return (visit.workload_id, suspect) if suspect else None
