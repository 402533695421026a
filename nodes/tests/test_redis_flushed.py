"""Redis loses everything with 10,000 jobs queued: a real worker and beat make all of it again from the rows, within a minute."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from interchain_site.core import redis
from interchain_site.testing.devices import make_device, make_workload
from marketplace import emails
from marketplace.models import Notice
from nodes.models import Device, Lease
from nodes.services import liveness, placement, routes
from nodes.tasks import suspect_endpoint
from nodes.tests.test_link import site

__all__ = ["site"]
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="The worker needs a database of its own process."),
]
ROOT = Path(__file__).resolve().parents[2]
JOBS, APPS, VACANT, OWED = 10_000, 40, 10, 25
SECONDS = 60


def environment(tmp_path: Path) -> dict[str, str]:
    known = connection.settings_dict
    user = known["USER"] + (f":{quote(known['PASSWORD'])}" if known["PASSWORD"] else "")
    return {
        **os.environ,
        "DATABASE_URL": f"postgres://{user}@{known['HOST']}:{known['PORT']}/{known['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "DATA_DIR": str(tmp_path),
        "EMAIL_URL": "dummymail://",
        "PYTHONPATH": str(ROOT),
        "LINK_TIMEOUT_SECONDS": "600",
    }


def celery(*arguments: str, tmp_path: Path, ending: ExitStack) -> None:
    log = ending.enter_context((tmp_path / f"{arguments[0]}.log").open("wb"))
    command = [sys.executable, "-m", "celery", "-A", "interchain_site", *arguments]
    process = subprocess.Popen(command, env=environment(tmp_path), cwd=tmp_path, stdout=log, stderr=log)
    ending.callback(process.wait, 30)
    ending.callback(process.terminate)


def test_what_was_queued_is_found_again_in_the_rows(site, cast, tmp_path, monkeypatch):
    boxes = [make_device(cast.owner, f"Box {n}", host=f"10.0.{n}.1") for n in range(4)]
    opened = [placement.open_lease(workload=make_workload(f"app{n}", memory_bytes=10**8), by=None) for n in range(APPS)]
    for number, lease in enumerate(opened):
        next(box for box in boxes if box.device.pk == lease.device_id).runs(lease, 20_000 + number)
    Lease.objects.filter(pk__in=[lease.pk for lease in opened[:VACANT]]).update(
        state="stopped", action="stop", closed_at=timezone.now(), stopped_at=timezone.now(), due_at=timezone.now()
    )
    with monkeypatch.context() as nobody:
        nobody.setattr("marketplace.tasks.send_notice.delay", lambda pk: None)
        for number in range(OWED):
            emails.owe(
                key=f"owed:{number}", user=cast.publisher, template="rolled_back", subject="A release",
                now=timezone.now(),
            )  # fmt: skip
    Notice.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    routes.republish_all()
    served = redis.connection().hgetall(routes.ROUTES_KEY)
    assert len(served) >= APPS - VACANT
    for _ in range(JOBS):
        suspect_endpoint.delay(str(opened[-1].workload_id), "10.0.0.1:1", "gateway")
    assert redis.connection().llen("celery") == JOBS

    redis.connection().flushall()
    began = time.monotonic()
    with ExitStack() as ending:
        celery("worker", "-Q", "celery", "-c", "2", "-l", "WARNING", tmp_path=tmp_path, ending=ending)
        celery("beat", "-l", "WARNING", "-s", str(tmp_path / "beat"), tmp_path=tmp_path, ending=ending)
        left = ["anything"]
        while left and time.monotonic() - began < SECONDS:
            time.sleep(1)
            left = what_is_left(opened)
    assert left == [], f"{left}\n{(tmp_path / 'worker.log').read_text()[-2000:]}"
    assert set(redis.connection().hgetall(routes.ROUTES_KEY)) >= set(served)
    assert not Device.objects.filter(state="offline").exists(), "silence while Redis forgot is nobody's fault"


def what_is_left(opened) -> list[str]:
    """Return what is not yet as the rows want it."""
    placed = Lease.objects.filter(workload_id__in=[lease.workload_id for lease in opened], is_newest=True, action="run")
    known = redis.connection().hlen(routes.ROUTES_KEY)
    found = []
    if placed.count() < APPS:
        found.append(f"{APPS - placed.count()} slots have nobody")
    if Notice.objects.filter(sent_at=None).exists():
        found.append(f"{Notice.objects.filter(sent_at=None).count()} messages are owed")
    if known < APPS or not redis.connection().exists(routes.COMPLETE_KEY):
        found.append(f"{known} routes")
    if not redis.connection().exists(liveness.SINCE_KEY):
        found.append("nobody looks who is there")
    return found
