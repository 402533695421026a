"""An app that is stopped costs only what its data takes; that is paid, and has its grace when nothing is left to pay it."""

from __future__ import annotations

import datetime as dt

from django.core import mail
from django.utils import timezone

from billing.queries import balances
from marketplace import tasks
from marketplace.conftest import DIGEST, NTC, fund, lease_of
from marketplace.services import deployments, publishing, sweeping
from nodes.agent.protocol import Observed


def test_data_of_a_stopped_app_is_paid_for_and_has_its_grace_at_zero(
    ready, device, cast, spend_all, commit, monkeypatch
):
    monkeypatch.setattr(tasks.send_notice, "delay", tasks.send_notice.run)
    spec = publishing.ReleaseSpec(image_reference=DIGEST, volume_path="/data")
    publishing.add_release(app=ready, spec=spec, by=cast.publisher)
    with commit():
        kept = deployments.deploy(app=ready, by=cast.publisher)
        device.runs(lease_of(kept))
        deployments.stop(app=ready, by=cast.publisher)
    lease = lease_of(kept)
    with commit():
        device.says(lease, Observed.STOPPED)
    kept.refresh_from_db()
    assert kept.state == "stopped"
    days_ago = timezone.now() - dt.timedelta(days=3)
    type(lease).objects.update(opened_at=days_ago, closed_at=days_ago, stopped_at=days_ago)
    device.measures(lease, storage=2 * 86_400 * 10**9 // 10)  # 0.1 GB for two days
    with commit():
        tasks.charge()
    assert balances(cast.owner.pk).earnings_held == 4 * NTC // 10
    spend_all()
    with commit():
        sweeping.sweep()
    kept.refresh_from_db()
    assert (kept.state, kept.desired) == ("grace", "stopped")
    assert "will be wiped" in mail.outbox[-1].subject
    fund(cast.publisher, NTC)
    with commit():
        sweeping.sweep()
    kept.refresh_from_db()
    assert (kept.state, kept.grace_ends_at) == ("stopped", None)


def test_an_app_that_is_stopped_and_keeps_nothing_has_nothing_to_lose_at_zero(running, device, cast, spend_all, commit):
    deployments.stop(app=running.app, by=cast.publisher)
    with commit():
        device.says(lease_of(running), Observed.STOPPED)
    spend_all()
    with commit():
        sweeping.sweep()
    running.refresh_from_db()
    assert (running.state, running.grace_ends_at) == ("stopped", None)
