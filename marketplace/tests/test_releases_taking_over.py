"""What a publisher sees of a release that takes over, and of one that is taken back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from marketplace.conftest import DIGEST, lease_of
from marketplace.errors import NothingBefore, NotYours
from marketplace.models import Notice
from marketplace.services import deployments, following, publishing, releasing, sweeping
from marketplace.services.publishing import ReleaseSpec
from nodes.agent.protocol import Observed, Reason
from nodes.models import Lease, ReplicaSet
from nodes.services import election


@pytest.fixture
def released(running, cast, commit):
    """Release 2 is taking over from release 1."""
    publishing.add_release(app=running.app, spec=ReleaseSpec(image_reference=DIGEST, port=9000), by=cast.publisher)
    with commit():
        releasing.redeploy(app=running.app, by=cast.publisher)
    running.refresh_from_db()
    return running


def new_copy(deployment):
    return Lease.objects.get(workload_id=deployment.pk, replaces__isnull=False, is_newest=True)


def fails(device, deployment, commit):
    with commit():
        device.says(new_copy(deployment), Observed.FAILED, reason=Reason.EXITED, message="exit code 3", log_tail="boom")
    deployment.refresh_from_db()


def test_the_app_runs_on_while_the_release_takes_over(released, device, commit):
    assert (released.state, released.release.number, released.rolling) == ("running", 2, True)
    assert released.previous_release.number == 1
    with commit():
        device.runs(new_copy(released), 41_000)
    Lease.objects.update(state_changed_at=timezone.now() - timedelta(minutes=1))
    ReplicaSet.objects.update(due_at=timezone.now())
    for _ in range(2):
        with commit():
            election.look(released.pk)
    released.refresh_from_db()
    assert (released.state, released.rolling) == ("running", False)
    assert lease_of(released).workload.port == 9000
    assert released.events.filter(kind="released").count() == 1


def test_a_release_taken_back_is_said_on_the_page_in_the_history_and_by_mail(released, device, commit, client, cast):
    fails(device, released, commit)
    assert (released.state, released.release.number, released.rolling) == ("running", 1, False)
    for words in ("Release 2 was taken back; release 1 goes on.", "stopped by itself", "exit code 3"):
        assert words in released.rollback_message
    assert released.events.filter(kind="rolled_back").count() == 1
    notice = Notice.objects.get(key__startswith="rolled-back:")
    assert "boom" in notice.body
    assert notice.user == cast.publisher
    client.force_login(cast.publisher)
    page = client.get(reverse("app_detail", args=[released.app.slug])).content.decode()
    assert "Release 2 was taken back" in page
    mail.outbox.clear()
    for _ in range(2):
        following.follow(deployment_id=released.pk)
    assert Notice.objects.filter(key__startswith="rolled-back:").count() == 1


def test_what_a_lost_message_left_is_found_by_the_sweep(released, device):
    device.says(new_copy(released), Observed.FAILED, reason=Reason.EXITED)  # and nothing after the commit
    election.sweep()
    sweeping.sweep()
    released.refresh_from_db()
    assert (released.release.number, released.rolling) == (1, False)


def test_the_next_release_clears_what_was_said(released, device, commit, cast):
    fails(device, released, commit)
    publishing.add_release(app=released.app, spec=ReleaseSpec(image_reference=DIGEST, port=9001), by=cast.publisher)
    with commit():
        releasing.redeploy(app=released.app, by=cast.publisher)
    released.refresh_from_db()
    assert (released.release.number, released.rollback_message) == (3, "")


def test_a_publisher_goes_back_while_it_takes_over(released, commit, client, cast):
    client.force_login(cast.publisher)
    with commit():
        client.post(reverse("app_action", args=[released.app.slug, "rollback"]))
    released.refresh_from_db()
    assert (released.state, released.release.number, released.rolling) == ("running", 1, False)
    assert not Notice.objects.filter(key__startswith="rolled-back:").exists(), "they know"


def test_a_publisher_goes_back_after_it_took_over(released, device, commit, cast):
    with commit():
        device.runs(new_copy(released), 41_000)
    Lease.objects.update(state_changed_at=timezone.now() - timedelta(minutes=1))
    for _ in range(2):
        with commit():
            election.look(released.pk)
    with commit():
        releasing.roll_back(app=released.app, by=cast.publisher)
    released.refresh_from_db()
    assert (released.release.number, released.rolling, released.previous_release.number) == (1, True, 2)


def test_there_must_be_something_to_go_back_to(running, cast):
    with pytest.raises(NothingBefore):
        releasing.roll_back(app=running.app, by=cast.publisher)


def test_a_stop_while_it_takes_over(released, device, commit, cast):
    with commit():
        deployments.stop(app=released.app, by=cast.publisher)
    for lease in Lease.objects.filter(workload_id=released.pk, action="stop"):
        with commit():
            device.says(lease, Observed.STOPPED)
    released.refresh_from_db()
    assert (released.state, released.rolling) == ("stopped", False)


def test_a_stranger_rolls_nothing_back(released, cast):
    with pytest.raises(NotYours):
        releasing.roll_back(app=released.app, by=cast.stranger)
