"""An app's data page: taken, put back, downloaded, how often. The stranger sees nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from marketplace.services import deployments, wiping
from nodes.models import Lease, Snapshot, SnapshotRepository
from nodes.services import snapshots
from nodes.states import LeaseState, SnapshotState

pytestmark = pytest.mark.redis


@pytest.fixture
def keeps_data(deployed):
    """The deployed app's lease, as if its release had a volume, running."""
    Lease.objects.filter(pk=deployed.lease_id).update(has_volume=True, state=LeaseState.RUNNING)
    release = deployed.release
    type(release).objects.filter(pk=release.pk).update(volume_path="/data")
    return Lease.objects.get(pk=deployed.lease_id)


@pytest.fixture
def taken(keeps_data) -> Snapshot:
    snapshot = snapshots.want(lease=keeps_data, cause=Snapshot.Cause.DEMAND)
    at = timezone.now() - timedelta(minutes=12)
    Snapshot.objects.filter(pk=snapshot.pk).update(
        state=SnapshotState.TAKEN, restic_id="ab" * 32, taken_at=at, ended_at=at, volume_bytes=5_000_000
    )
    snapshot.refresh_from_db()
    return snapshot


@pytest.fixture
def publisher_page(client, cast):
    client.force_login(cast.publisher)
    return client


def url(deployed, rest: str = "") -> str:
    return f"/apps/{deployed.app.slug}/data/{rest}"


def test_without_data_the_page_says_when_there_will_be_some(publisher_page, deployed):
    assert "None yet" in publisher_page.get(url(deployed)).text


def test_taking_one_asks_the_device_and_the_button_waits(publisher_page, deployed, keeps_data):
    text = publisher_page.post(url(deployed, "snapshot/"), follow=True).text
    assert "Under way" in text
    assert "disabled" in text
    assert Snapshot.objects.get().lease == keeps_data


def test_an_app_that_keeps_nothing_is_told_so(publisher_page, deployed):
    assert "keeps no data" in publisher_page.post(url(deployed, "snapshot/"), follow=True).text


def test_putting_one_back_restarts_the_app_with_it_and_says_how_old_it_is(publisher_page, deployed, taken):
    publisher_page.post(url(deployed, f"{taken.pk}/restore/"), follow=True)
    lease = Lease.objects.get(workload_id=deployed.pk, is_newest=True)
    assert (lease.restore_from, lease.pk != taken.lease_id) == (taken, True)
    assert SnapshotRepository.objects.get().restore_wanted is None
    events = list(deployed.events.values_list("message", flat=True))
    assert any("put back to that of" in words for words in events)


def test_a_stopped_app_begins_with_it_when_started(publisher_page, deployed, taken, cast):
    deployments.stop(app=deployed.app, by=cast.publisher)
    publisher_page.post(url(deployed, f"{taken.pk}/restore/"), follow=True)
    assert SnapshotRepository.objects.get().restore_wanted == taken


def test_how_often_is_set_within_reason(publisher_page, deployed, taken):
    publisher_page.post(url(deployed, "interval/"), {"every_seconds": "86400"})
    assert SnapshotRepository.objects.get().every_seconds == 86_400
    for nonsense in ("1", "-5", "x", "99999999"):
        assert (
            "From five minutes"
            in publisher_page.post(url(deployed, "interval/"), {"every_seconds": nonsense}, follow=True).text
        )
    publisher_page.post(url(deployed, "interval/"), {"every_seconds": "0"})
    assert SnapshotRepository.objects.get().every_seconds == 0


def test_the_key_is_the_publishers_to_take(publisher_page, deployed, taken):
    answer = publisher_page.get(url(deployed, "key/"))
    assert answer.text == SnapshotRepository.objects.get().key
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_lists_what_can_be_done(publisher_page, deployed, taken):
    text = publisher_page.get(url(deployed)).text
    assert "5 MB" in text
    assert "Put back" in text
    fragment = publisher_page.get(url(deployed), headers={"HX-Request": "true"}).text
    assert "<html" not in fragment


def test_the_end_of_the_snapshots_is_noted_with_its_receipt(deployed, taken):
    Lease.objects.filter(workload_id=deployed.pk).update(
        state=LeaseState.WIPED, action="wipe", closed_at=timezone.now()
    )
    snapshots.remove_all(deployed.pk)
    deployed.refresh_from_db()
    assert len(deployed.wipe_receipts) == 1
    assert deployed.events.filter(kind="snapshots_deleted").exists()
    wiping.note_snapshots(taken.pk, receipt="of nobody")


@pytest.mark.parametrize("path", ["", "key/", "{}/"])
def test_the_stranger_reads_nothing(client, cast, deployed, taken, path):
    client.force_login(cast.stranger)
    assert client.get(url(deployed, path.format(taken.pk))).status_code == 404


@pytest.mark.parametrize("path", ["snapshot/", "interval/", "{}/restore/"])
def test_the_stranger_changes_nothing(client, cast, deployed, taken, path):
    client.force_login(cast.stranger)
    assert client.post(url(deployed, path.format(taken.pk)), {"every_seconds": "0"}).status_code == 404
    assert SnapshotRepository.objects.get().every_seconds != 0
    assert SnapshotRepository.objects.get().restore_wanted is None
