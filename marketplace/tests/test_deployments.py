"""Deploy, start, stop, redeploy, and how the deployment follows its lease."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.utils import timezone

from marketplace import failures
from marketplace.conftest import DIGEST, NTC, fund, lease_of
from marketplace.errors import AlreadyDeployed, NoRelease, NotDeployed, NotEnoughNTC, NotYours, WrongState
from marketplace.models import ChargePeriod, Deployment
from marketplace.services import deployments, following, publishing, releasing
from marketplace.services.publishing import ReleaseSpec
from nodes.agent.protocol import Observed, Reason
from nodes.errors import NoDevice
from nodes.models import Lease, Snapshot
from nodes.services import snapshots
from nodes.services.leases import mark_lost
from nodes.states import LeaseState


def test_deploy_places_at_once(deployed, device, cast):
    lease = lease_of(deployed)
    assert (deployed.state, lease.state, lease.device_id) == ("starting", "offered", device.device.pk)
    assert lease.workload_id == deployed.pk
    assert lease.name == "blog"
    period = ChargePeriod.objects.get()
    assert (period.lease_id, period.owner, period.publisher) == (lease.pk, cast.owner, cast.publisher)
    assert deployed.events.first().message == "Release 1 was deployed."


def test_it_follows_its_lease_to_running(running):
    assert running.state == "running"
    assert running.events.first().message == "Running on Box."


def test_deploy_takes_few_queries(ready, cast, django_assert_num_queries):
    with django_assert_num_queries(34):
        deployments.deploy(app=ready, by=cast.publisher)


def test_following_takes_few_queries(running, django_assert_max_num_queries):
    with django_assert_max_num_queries(4):
        following.follow(deployment_id=running.pk)


def test_an_app_is_deployed_once(deployed, cast):
    with pytest.raises(AlreadyDeployed):
        deployments.deploy(app=deployed.app, by=cast.publisher)


def test_an_app_without_release_is_not_deployed(app, cast, price_list, rate):
    with pytest.raises(NoRelease):
        deployments.deploy(app=app, by=cast.publisher)


def test_without_money_nothing_is_kept(cast, price_list, rate, device, release):
    with pytest.raises(NotEnoughNTC, match="One hour is expected to cost"):
        deployments.deploy(app=release.app, by=cast.publisher)
    assert not Deployment.objects.exists()
    assert not Lease.objects.exists()
    fund(cast.publisher, 10_000 * NTC)
    assert deployments.deploy(app=release.app, by=cast.publisher).state == "starting"


def test_what_fits_nowhere_is_refused_before_money_is_asked_for(cast, price_list, rate, device, app):
    spec = ReleaseSpec(image_reference=DIGEST, memory_bytes=10**12)
    release = publishing.add_release(app=app, spec=spec, by=cast.publisher)
    assert "memory" in deployments.would_fit(release)
    with pytest.raises(NoDevice, match="memory"):
        deployments.deploy(app=app, by=cast.publisher)
    assert not Deployment.objects.exists()


def test_stop_and_start_again(running, device, cast, commit):
    with commit():
        deployments.stop(app=running.app, by=cast.publisher)
    lease = lease_of(running)
    assert (running.state, lease.state) == ("stopping", "draining")
    with commit():
        device.says(lease, Observed.STOPPED)
    running.refresh_from_db()
    assert (running.state, running.desired) == ("stopped", "stopped")
    with commit():
        deployments.start(app=running.app, by=cast.publisher)
    again = lease_of(running)
    assert (running.state, again.generation) == ("starting", 2)
    assert ChargePeriod.objects.filter(closed_at=None).count() == 2


def test_start_while_stopping_runs_again_once_stopped(running, device, cast, commit):
    with commit():
        deployments.stop(app=running.app, by=cast.publisher)
        deployments.start(app=running.app, by=cast.publisher)
    lease = lease_of(running)
    assert (running.state, running.desired) == ("stopping", "running")
    with commit():
        device.says(lease, Observed.STOPPED)
    running.refresh_from_db()
    assert running.state == "starting"
    assert lease_of(running).generation == 2


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.IMAGE_NOT_FOUND, "does not exist"),
        (Reason.START_FAILED, "did not start"),
        (Reason.EXITED, "stopped by itself"),
        (Reason.OUT_OF_MEMORY, "memory limit"),
        (Reason.WRONG_PORT, "nothing listens"),
    ],
)
def test_a_failure_is_told_in_words_with_the_last_lines(deployed, device, commit, reason, words):
    with commit():
        device.says(lease_of(deployed), Observed.FAILED, reason=reason, message="exit code 3", log_tail="boom\n")
    deployed.refresh_from_db()
    assert (deployed.state, deployed.reason) == ("failed", reason.value)
    assert words in deployed.message
    assert "exit code 3" in deployed.message
    assert "boom" in deployed.log_tail


def test_a_failed_app_can_be_mended_by_a_release(deployed, device, cast, commit):
    with commit():
        device.says(lease_of(deployed), Observed.FAILED, reason=Reason.EXITED)
    publishing.add_release(app=deployed.app, spec=ReleaseSpec(image_reference=DIGEST), by=cast.publisher)
    with commit():
        releasing.redeploy(app=deployed.app, by=cast.publisher)
    deployed.refresh_from_db()
    assert (deployed.state, deployed.release.number, deployed.message, deployed.log_tail) == ("starting", 2, "", "")


def test_unhealthy_and_back(running, device, commit):
    lease = lease_of(running)
    with commit():
        device.says(lease, Observed.UNHEALTHY, host_port=40_000, reason=Reason.UNHEALTHY, message="500")
    running.refresh_from_db()
    assert running.state == "unhealthy"
    assert "health check" in running.message
    with commit():
        device.says(lease, Observed.RUNNING, host_port=40_000)
    running.refresh_from_db()
    assert (running.state, running.message, running.reason) == ("running", "", "")


def test_redeploy_replaces_the_running_release(running, device, cast, commit):
    publishing.add_release(app=running.app, spec=ReleaseSpec(image_reference=DIGEST, port=9000), by=cast.publisher)
    with commit():
        releasing.redeploy(app=running.app, by=cast.publisher)
    lease = Lease.objects.get(workload_id=running.pk, is_newest=True)
    running.refresh_from_db()
    assert (running.state, running.release.number, running.rolling) == ("running", 2, True)
    assert (lease.generation, lease.workload.port) == (2, 9000)
    with commit():
        device.runs(lease)
    running.refresh_from_db()
    assert running.state == "running"


def test_a_silent_device_is_said_and_comes_back(running, device, commit):
    with commit():
        mark_lost(running.lease_id)
    running.refresh_from_db()
    assert (running.state, running.reason, running.message) == ("waiting", "device_silent", failures.SILENT)
    with commit():
        device.says(lease_of(running), Observed.RUNNING, host_port=40_000)
    running.refresh_from_db()
    assert running.state == "running"


def with_data(running) -> None:
    """Let the app keep data on its device."""
    Lease.objects.filter(pk=running.lease_id).update(has_volume=True)


def test_whose_data_is_on_a_silent_device_reads_that_nobody_else_can_go_on(running, commit):
    with_data(running)
    with commit():
        mark_lost(running.lease_id)
    running.refresh_from_db()
    assert (running.state, running.message) == ("waiting", failures.SILENT_WITHOUT_SNAPSHOT)


def test_whose_data_was_copied_reads_what_it_will_go_on_with(running, commit, settings):
    settings.DATA_FAILOVER_SECONDS = 120
    with_data(running)
    now, lease = timezone.now(), lease_of(running)
    Snapshot.objects.create(
        repository=snapshots.repository_of(lease), lease=lease, cause=Snapshot.Cause.SCHEDULE, state="taken",
        wanted_at=now, ended_at=now, taken_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC), restic_id="ab" * 32,
    )  # fmt: skip
    with commit():
        mark_lost(running.lease_id)
    running.refresh_from_db()
    assert "back within 2 min, another one takes over" in running.message
    assert "the snapshot of 2026-01-02 03:04 UTC" in running.message
    events = running.events.count()
    following.follow(deployment_id=running.pk)
    assert running.events.count() == events, "said once"


def test_a_device_that_gives_it_up_hands_it_on(running, device, commit):
    from nodes.services import leases

    lease = lease_of(running)
    with commit():
        leases.close_lease(lease_id=lease.pk, by=None, reason="The owner paused the device.")
    with commit():
        device.says(lease, Observed.STOPPED)
    running.refresh_from_db()
    assert running.state == "starting"
    assert lease_of(running).pk != lease.pk


def test_where_there_is_no_other_device_it_waits_and_tries_again(running, device, commit):
    from nodes.services import leases

    lease = lease_of(running)
    with commit():
        leases.close_lease(lease_id=lease.pk, by=None)
        device.device.__class__.objects.update(state="paused")
        device.says(lease, Observed.STOPPED)
    running.refresh_from_db()
    assert (running.state, running.reason) == ("waiting", "no_device")
    assert running.message
    events = running.events.count()
    following.follow(deployment_id=running.pk)
    assert running.events.count() == events
    device.device.__class__.objects.update(state="online")
    following.follow(deployment_id=running.pk)
    running.refresh_from_db()
    assert (running.state, running.message) == ("starting", "")


def test_delete_wipes_and_keeps_the_signed_receipt(running, device, cast, commit):
    lease = lease_of(running)
    with commit():
        deployments.delete(app=running.app, by=cast.publisher)
    running.refresh_from_db()
    assert running.state == "deleting"
    with commit():
        device.says(lease, Observed.STOPPED)
    lease.refresh_from_db()
    assert lease.action == "wipe"
    with commit():
        device.wipes(lease)
    running.refresh_from_db()
    assert lease.state == LeaseState.WIPED
    assert (running.state, len(running.wipe_receipts)) == ("deleted", 1)
    assert running.wipe_receipts[0].count(".") == 2
    with pytest.raises(NotDeployed):
        deployments.stop(app=running.app, by=cast.publisher)


def test_a_deleted_app_can_be_deployed_anew(running, device, cast, commit):
    with commit():
        deployments.delete(app=running.app, by=cast.publisher)
    lease = lease_of(running)
    with commit():
        device.says(lease, Observed.STOPPED)
    with commit():
        device.wipes(lease)
    anew = deployments.deploy(app=running.app, by=cast.publisher)
    assert anew.pk != running.pk


def test_what_is_being_deleted_takes_no_orders(running, cast):
    deployments.delete(app=running.app, by=cast.publisher)
    for order in (deployments.start, deployments.stop, releasing.redeploy, deployments.delete):
        with pytest.raises(WrongState):
            order(app=running.app, by=cast.publisher)


def test_only_the_publisher_may_give_orders(running, cast):
    for person in (cast.owner, cast.buyer, cast.staff, cast.stranger):
        for order in (
            deployments.start,
            deployments.stop,
            releasing.redeploy,
            deployments.delete,
            deployments.deploy,
        ):
            with pytest.raises(NotYours):
                order(app=running.app, by=person)
