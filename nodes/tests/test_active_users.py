"""Active users and bytes: from Caddy's log through Redis to the totals, and never down."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest

from interchain_site.core import redis
from interchain_site.testing.devices import make_workload
from nodes import queries
from nodes.agent.protocol import Meter, Observed
from nodes.conftest import eventually, in_thread, serving
from nodes.gateway.access_log import Tail, client_hash
from nodes.gateway.syncer import Syncer
from nodes.models import GatewayCount, MeterTotal
from nodes.services import gateway_counts, leases, placement

JANUARY, FEBRUARY = datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def log(settings, tmp_path):
    """Writes lines as Caddy does; `log.count()` reads all there is."""

    class Log:
        path = tmp_path / "access.log"

        def write(self, lease, client="192.0.2.1", at=JANUARY, size=100, reached="192.0.2.9:40000", **more):
            entry = {"ts": at.timestamp(), "bytes_read": 10, "size": size, "status": 200} | more
            if lease is not None:
                entry["app"] = f"{lease.workload_id} {client} {reached} "
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")

        def count(self):
            tail = Tail(threading.Event())
            while tail.step():
                pass
            tail._close()

    settings.GATEWAY_ACCESS_LOG = Log.path
    return Log()


@pytest.fixture
def lease(box):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    return lease


def users(lease) -> int:
    return queries.usage_totals(lease_ids=[lease.pk])[lease.pk].get(Meter.ACTIVE_USER, 0)


def test_a_client_counts_once_a_month(log, lease):
    for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"):
        log.write(lease, client)
    log.count()
    gateway_counts.save()
    gateway_counts.save()
    assert users(lease) == 4
    log.write(lease, "192.0.2.1", at=FEBRUARY)
    log.count()
    gateway_counts.save()
    assert users(lease) == 5
    assert sorted(GatewayCount.objects.values_list("month__month", "users", "bytes")) == [(1, 4, 660), (2, 1, 110)]


def test_what_did_not_reach_the_app_does_not_count(log, lease):
    log.write(None)
    log.write(lease, gateway_fault="yes")
    log.write(lease, reached="/tmp/interchain-0-stopped.sock")
    log.write(lease, client="not-an-address")
    with log.path.open("a") as file:
        file.write('not json\n[]\n{}\n5\n{"app": 5}\n{"app": "a b"}\n{"app": "w 192.0.2.1 a:1 ", "ts": 1}\n')
    log.count()
    gateway_counts.save()
    assert users(lease) == 0


def test_an_emptied_redis_forgets_nobody_and_counts_nobody_twice(log, lease):
    for number in range(50):
        log.write(lease, f"192.0.2.{number}")
    log.count()
    gateway_counts.save()
    before = users(lease)
    redis.connection().flushall()
    for number in range(40, 70):
        log.write(lease, f"192.0.2.{number}")
    log.count()
    gateway_counts.save()
    assert abs(before - 50) <= 1
    assert abs(users(lease) - 70) <= 1


def test_a_count_never_falls(log, lease):
    log.write(lease)
    log.count()
    GatewayCount.objects.create(
        workload_id=lease.workload_id,
        month=JANUARY.date().replace(day=1),
        users=9,
        users_credited=9,
        updated_at=JANUARY,
    )
    gateway_counts.save()
    assert GatewayCount.objects.get().users == 9
    assert users(lease) == 0


def test_new_users_go_to_the_lease_that_serves_now(log, lease, box):
    log.write(lease, "192.0.2.1")
    log.count()
    gateway_counts.save()
    workload = lease.workload
    second = placement.replace_workload(lease_id=lease.pk, workload=workload, by=None)
    box.says(lease, Observed.STOPPED)
    for client in ("192.0.2.1", "192.0.2.2"):
        log.write(lease, client)
    log.count()
    gateway_counts.save()
    assert (users(lease), users(second)) == (1, 1)
    assert MeterTotal.objects.filter(meter="active_user", method="gateway", batch=None).count() == 2


def test_a_change_of_the_count_is_a_new_reading(log, lease):
    after = (queries.leases_with_new_readings(after=0, limit=9) or [(None, 0)])[-1][1]
    log.write(lease)
    log.count()
    gateway_counts.save()
    assert [lease_id for lease_id, _ in queries.leases_with_new_readings(after=after, limit=9)] == [lease.pk]


def test_a_count_that_cannot_be_saved_now_is_saved_later(log, lease, monkeypatch):
    log.write(lease)
    log.count()

    def fails(*_: object) -> None:
        raise RuntimeError("database gone")

    with monkeypatch.context() as patch:
        patch.setattr(gateway_counts, "_save_one", fails)
        with pytest.raises(RuntimeError):
            gateway_counts.save()
    gateway_counts.save()
    assert users(lease) == 1


def test_the_tail_goes_on_where_it_was_and_through_rolled_files(log, lease):
    log.write(lease, "192.0.2.1")
    log.count()
    log.write(lease, "192.0.2.2")
    log.path.rename(log.path.with_name("access-2026-01-15T00-00-00.000.log"))
    log.write(lease, "192.0.2.3")
    log.count()
    log.path.rename(log.path.with_name("access-2026-01-16T00-00-00.000.log"))
    log.write(lease, "192.0.2.4")
    log.path.rename(log.path.with_name("access-2026-01-17T00-00-00.000.log"))
    log.write(lease, "192.0.2.5")
    log.count()
    gateway_counts.save()
    assert users(lease) == 5
    assert GatewayCount.objects.get().bytes == 5 * 110  # each line once


def test_a_line_still_being_written_waits(log, lease):
    log.write(lease)
    whole = log.path.read_text()
    log.path.write_text(whole[:30])
    log.count()
    log.path.write_text(whole)
    log.count()
    gateway_counts.save()
    assert users(lease) == 1


def test_without_redis_the_tail_does_not_move_on(log, lease, settings):
    log.write(lease)
    good, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    stop = threading.Event()
    with in_thread(Tail(stop).run, stop):
        stop.wait(0.5)
    settings.REDIS_URL = good
    log.count()
    gateway_counts.save()
    assert users(lease) == 1


def test_addresses_are_kept_only_as_keyed_hashes(settings):
    one = client_hash("192.0.2.1")
    assert one == client_hash("::ffff:192.0.2.1")
    assert len(one) == 64
    settings.SECRET_KEY = "another"
    assert client_hash("192.0.2.1") != one


@pytest.mark.django_db(transaction=True)
def test_a_visit_through_the_real_gateway_is_one_active_user(box, gateway, settings):
    stop = threading.Event()
    with (
        gateway.caddy(),
        serving("hello") as port,
        in_thread(Syncer(stop).run, stop),
        in_thread(Tail(stop).run, stop),
    ):
        lease = placement.open_lease(workload=make_workload("blog"), by=None)
        box.runs(lease, host_port=port)
        eventually(lambda: gateway.status("blog") == 200)
        gateway.get("blog")
        gateway.get("nothing")
        eventually(lambda: redis.connection().scard("gateway:dirty"))
        eventually(lambda: gateway_counts.save() or users(lease) == 1)
        leases.close_lease(lease_id=lease.pk, by=None)
        log = settings.GATEWAY_ACCESS_LOG.read_text()
    assert "User-Agent" not in log
    assert GatewayCount.objects.get().bytes >= 5
