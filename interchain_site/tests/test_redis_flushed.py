"""Redis loses everything with 10,000 jobs queued: a real worker and beat make all of it again from the rows, within a minute, and nothing twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from celery import current_app
from django.conf import settings
from django.db import connection
from django.utils import timezone

from interchain_site.core import redis
from interchain_site.testing.devices import GIGABYTE, make_device, make_workload
from marketplace.models import Notice
from marketplace.tasks import NOTICES_A_TASK, send_notice
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import liveness, replica_sets, routes
from nodes.tests.test_link import site

__all__ = ["site"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="The worker needs a database of its own process."),
]
ROOT = Path(__file__).resolve().parents[2]
JOBS, APPS = 10_000, 40
REBUILT_SECONDS = 60  # what the product promises: by then all that was lost is found again
DONE_SECONDS = 180  # to work through it, on a noisy machine; a minute was enough where it was measured


@pytest.fixture
def box(cast):
    """The device that `site` is about."""
    return make_device(cast.owner)


def environment(folder: Path) -> dict[str, str]:
    known = connection.settings_dict
    user = known["USER"] + (f":{quote(known['PASSWORD'])}" if known["PASSWORD"] else "")
    return {
        **os.environ,
        "DATABASE_URL": f"postgres://{user}@{known['HOST']}:{known['PORT']}/{known['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "DATA_DIR": str(folder),
        "EMAIL_URL": "",  # into files, in DATA_DIR
        "PYTHONPATH": str(ROOT),
        "LINK_TIMEOUT_SECONDS": "600",
    }


def celery(*arguments: str, folder: Path, ending: ExitStack) -> None:
    log = ending.enter_context((folder / f"{arguments[0]}.log").open("wb"))
    command = [sys.executable, "-m", "celery", "-A", "interchain_site", *arguments]
    process = subprocess.Popen(command, env=environment(folder), cwd=folder, stdout=log, stderr=log)
    ending.callback(process.wait, 30)
    ending.callback(process.terminate)


def owe_and_queue(cast) -> None:
    now = timezone.now()
    Notice.objects.bulk_create(
        Notice(key=f"owed:{n}", user=cast.publisher, subject=f"Message {n}.", body="Words.\n", created_at=now)
        for n in range(JOBS)
    )
    with current_app.producer_pool.acquire() as producer:
        for pk in Notice.objects.values_list("pk", flat=True):
            send_notice.apply_async((pk,), producer=producer)
    assert redis.connection().llen("celery") == JOBS


def want_apps(cast) -> None:
    for n in range(4):
        make_device(cast.owner, f"Box {n}", host=f"10.0.{n}.1")
    for n in range(APPS):
        workload = make_workload(f"app{n}", memory_bytes=GIGABYTE // 10, cpu_millis=50)
        wanted = replica_sets.want(None, workload, replicas=1, standby=False)
        replica_sets.note_due(wanted, timezone.now(), tries=0)


def what_is_lost() -> list[str]:
    """Return what Redis does not have again yet: jobs, whose rows may be done meanwhile, and what else is made from rows."""
    client = redis.connection()
    queued = client.llen("celery") + client.hlen("unacked")  # before the rows: what is done in between is in neither
    owed, placed = Notice.objects.filter(sent_at=None).count(), Lease.objects.filter(is_newest=True).count()
    known = client.hlen(routes.ROUTES_KEY)
    found = []
    if owed > queued * NOTICES_A_TASK:
        found.append(f"{owed} messages are owed, and {queued} jobs queued")
    if placed < APPS:
        found.append(f"{APPS - placed} slots have nobody")
    if known < APPS or not client.exists(routes.COMPLETE_KEY):
        found.append(f"{known} routes")
    if not client.exists(liveness.SINCE_KEY):
        found.append("nobody looks who is there")
    return found


def what_is_owed() -> list[str]:
    """Return which messages are still owed, by number."""
    return [str(pk) for pk in Notice.objects.filter(sent_at=None).values_list("pk", flat=True)]


def waited_for(left: Callable[[], list[str]], give_up_at: float) -> list[str]:
    """Wait until nothing is left; returns what is."""
    found = left()
    while found and time.monotonic() < give_up_at:
        time.sleep(0.5)
        found = left()
    return found


def test_what_was_queued_is_found_again_in_the_rows_and_done_once(site, cast, tmp_path):
    want_apps(cast)
    owe_and_queue(cast)
    with ExitStack() as ending:
        celery("worker", "-Q", "celery", "-c", "2", "-l", "WARNING", folder=tmp_path, ending=ending)
        celery("beat", "-l", "WARNING", "-s", str(tmp_path / "beat"), folder=tmp_path, ending=ending)
        eventually_some_are_sent()
        redis.connection().flushall()  # while both processes of the worker are busy with it
        began = time.monotonic()
        assert Notice.objects.filter(sent_at=None).count() > JOBS / 2, "the test came too late"
        lost = waited_for(what_is_lost, began + REBUILT_SECONDS)
        assert lost == [], f"{lost}\n{(tmp_path / 'worker.log').read_text()[-2000:]}"
        owed = waited_for(what_is_owed, began + DONE_SECONDS)
    assert owed == [], f"{owed}\n{(tmp_path / 'worker.log').read_text()[-2000:]}"
    assert not Device.objects.filter(state="offline").exists(), "silence while Redis forgot is nobody's fault"
    assert not ReplicaSet.objects.exclude(due_at=None).exists()
    mails = "".join(path.read_text() for path in (tmp_path / "mail").iterdir())
    sent = Counter(re.findall(r"^Subject: Interchain: (Message \d+\.)$", mails, re.MULTILINE))
    assert len(sent) == JOBS, "each was sent"
    assert set(sent.values()) == {1}, "and once"


def eventually_some_are_sent() -> None:
    give_up_at = time.monotonic() + 60
    while not Notice.objects.exclude(sent_at=None).exists():
        assert time.monotonic() < give_up_at, "the worker does not come up"
        time.sleep(0.1)
