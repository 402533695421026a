"""Warnings, the stop at zero, grace, the restart after buying NTC, and the wipe."""

from __future__ import annotations

import datetime as dt

import pytest
from django.core import mail
from django.utils import timezone

from billing.signals import balance_credited
from marketplace import emails, queries, tasks
from marketplace.conftest import NTC, fund, lease_of
from marketplace.models import BalanceWatch, Charge, Notice
from marketplace.services import deployments, enforcement, sweeping
from nodes.agent.protocol import Observed

HOUR = 3_600_000


@pytest.fixture(autouse=True)
def _tasks_at_once(settings, monkeypatch):
    """Run what is queued at once."""
    for task in (tasks.credited, tasks.send_notice, tasks.send_notices):
        monkeypatch.setattr(task, "delay", task.run)


@pytest.fixture
def broke(running, device, spend_all, cast, commit):
    """The app was stopped because nothing is left, and the device has stopped it."""
    spend_all()
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk})
    with commit():
        device.says(lease_of(running), Observed.STOPPED)
    running.refresh_from_db()
    return running


def test_zero_stops_the_app_within_the_same_interval(running, device, cast, commit):
    lease = lease_of(running)
    day = timezone.now() - dt.timedelta(days=1)
    type(lease).objects.filter(pk=lease.pk).update(opened_at=day, running_at=day)
    device.measures(lease, compute=10**12)
    with commit():
        tasks.charge()
    running.refresh_from_db()
    assert running.state == "stopping"
    assert lease_of(running).state == "draining"


def test_grace_is_said_with_its_date_and_the_data_is_kept(broke, settings):
    assert broke.state == "grace"
    assert (broke.grace_ends_at - broke.grace_started_at).total_seconds() == settings.GRACE_SECONDS
    assert lease_of(broke).state == "stopped"
    message = mail.outbox[-1]
    assert message.to == ["publisher@example.com"]
    assert f"{broke.grace_ends_at:%Y-%m-%d %H:%M}" in message.body
    assert "/apps/blog/" in message.body


def test_stopping_twice_says_it_once(broke, cast, commit):
    sent = len(mail.outbox)
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk})
        sweeping.sweep()
    assert len(mail.outbox) == sent
    broke.refresh_from_db()
    assert broke.state == "grace"


def test_buying_ntc_restarts_it_by_itself(broke, device, cast, commit):
    fund(cast.publisher, 100 * NTC)
    with commit():
        balance_credited.send(sender=None, user_id=cast.publisher.pk)
    broke.refresh_from_db()
    assert (broke.state, broke.grace_ends_at) == ("starting", None)
    with commit():
        device.runs(lease_of(broke))
    broke.refresh_from_db()
    assert broke.state == "running"


def test_a_lost_signal_is_made_up_for(broke, cast, commit):
    fund(cast.publisher, 10_000 * NTC)
    with commit():
        sweeping.sweep()
    broke.refresh_from_db()
    assert broke.state == "starting"


def test_too_little_ntc_does_not_restart_it_and_says_so_once(broke, cast, commit):
    fund(cast.publisher, 1)
    for _ in range(3):
        with commit():
            sweeping.sweep()
    broke.refresh_from_db()
    assert broke.state == "grace"
    assert "One hour is expected" in broke.message
    assert broke.events.filter(kind="not_restarted").count() == 1


def test_top_up_while_it_is_still_stopping(running, device, spend_all, cast, commit):
    spend_all()
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk})
    fund(cast.publisher, 10_000 * NTC)
    with commit():
        balance_credited.send(sender=None, user_id=cast.publisher.pk)
    with commit():
        device.says(lease_of(running), Observed.STOPPED)
    running.refresh_from_db()
    assert running.state == "starting"
    assert lease_of(running).generation == 2


def test_what_was_told_to_stay_stopped_stays_stopped(broke, cast, commit):
    deployments.stop(app=broke.app, by=cast.publisher)
    fund(cast.publisher, 10_000 * NTC)
    with commit():
        balance_credited.send(sender=None, user_id=cast.publisher.pk)
    broke.refresh_from_db()
    assert (broke.state, broke.grace_ends_at) == ("stopped", None)


def test_what_was_told_to_stay_stopped_while_it_was_stopping_stays_stopped(running, device, spend_all, cast, commit):
    spend_all()
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk})
    deployments.stop(app=running.app, by=cast.publisher)
    fund(cast.publisher, 10_000 * NTC)
    with commit():
        balance_credited.send(sender=None, user_id=cast.publisher.pk)
    with commit():
        device.says(lease_of(running), Observed.STOPPED)
    running.refresh_from_db()
    assert (running.state, running.grace_ends_at) == ("stopped", None)


def test_the_end_of_grace_wipes_with_a_receipt(broke, device, cast, commit):
    enforcement.end_graces(now=broke.grace_ends_at - dt.timedelta(seconds=1))
    broke.refresh_from_db()
    assert broke.state == "grace"
    with commit():
        enforcement.end_graces(now=broke.grace_ends_at + dt.timedelta(hours=1))
    lease = lease_of(broke)
    assert (broke.state, lease.action) == ("deleting", "wipe")
    assert "is being wiped" in mail.outbox[-1].subject
    with commit():
        device.wipes(lease)
    broke.refresh_from_db()
    assert broke.state == "deleted"
    assert len(broke.wipe_receipts) == 1


def charged(deployment, nano_usd, now, seconds=3600):
    from marketplace.models import ChargePeriod

    Charge.objects.create(
        period=ChargePeriod.objects.get(), deployment=deployment, key=f"t:{now}:{Charge.objects.count()}",
        since=now - dt.timedelta(seconds=seconds), at=now, seconds=seconds, nano_usd=nano_usd, rate="0.5", owner_units=0, commission_units=0,
    )  # fmt: skip


@pytest.mark.parametrize(("hours_of_money", "expected"), [(80, []), (50, [72]), (20, [24]), (0.5, [1])])
def test_one_warning_at_the_tightest_threshold(running, cast, commit, hours_of_money, expected):
    now = timezone.now()
    burn = int(5_000 * 10**9 / 1.1 / hours_of_money)  # 10,000 NTC are 5,000 dollars
    charged(running, burn, now)
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk}, now=now)
        enforcement.enforce(publisher_ids={cast.publisher.pk}, now=now)
    assert [watch.warned_hours for watch in BalanceWatch.objects.all()] == expected
    assert len(mail.outbox) == len(expected)


def test_what_a_start_costs_is_not_taken_for_a_rate(running, cast, commit):
    now = timezone.now()
    charged(running, 15 * 10**9, now, seconds=20)  # 15 dollars in 20 seconds would be 2,700 dollars an hour
    assert queries.measured_burn([running.pk], now) == {running.pk: 180 * 10**9}
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk}, now=now)
    assert not [message for message in mail.outbox if "less than 1 hour" in message.subject]


def test_each_threshold_once_until_ntc_is_bought(running, cast, commit):
    now = timezone.now()
    for burn in (100, 120, 300, 310, 6000):  # dollars an hour, of 5,000
        Charge.objects.all().delete()
        charged(running, burn * 10**9, now)
        with commit():
            enforcement.enforce(publisher_ids={cast.publisher.pk}, now=now)
    assert [message.subject[-9:] for message in mail.outbox] == [" 72 hours", " 24 hours", "an 1 hour"]
    with commit():
        balance_credited.send(sender=None, user_id=cast.publisher.pk)
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk}, now=now)
    assert len(mail.outbox) == 4


def test_a_notice_the_queue_lost_is_sent_once(cast):
    now = timezone.now() - dt.timedelta(hours=1)
    Notice.objects.create(key="k", user=cast.publisher, subject="S", body="B", created_at=now)
    assert sweeping.overdue_notices() == list(Notice.objects.values_list("pk", flat=True))
    tasks.sweep()
    tasks.sweep()
    assert len(mail.outbox) == 1


def test_a_notice_that_could_not_be_sent_is_still_owed(cast, monkeypatch):
    notice = Notice.objects.create(key="k", user=cast.publisher, subject="S", body="B", created_at=timezone.now())

    def refuse(*_args, **_kwargs):
        raise OSError("mail server is away")

    monkeypatch.setattr(emails, "send_mail", refuse)
    with pytest.raises(OSError, match="away"):
        emails.send(notice_id=notice.pk)
    notice.refresh_from_db()
    assert notice.sent_at is None


def test_one_broken_deployment_does_not_stop_the_rest(running, cast, monkeypatch, spend_all, commit):
    spend_all()
    calls = []

    def stop(pk, now):
        calls.append(pk)
        raise RuntimeError("broken")

    monkeypatch.setattr(enforcement, "stop_for_balance", stop)
    enforcement.enforce(publisher_ids={cast.publisher.pk})
    assert calls == [running.pk]


def test_all_well_takes_few_queries(running, cast, django_assert_max_num_queries):
    with django_assert_max_num_queries(8):
        enforcement.enforce(publisher_ids={cast.publisher.pk})


def test_a_missed_message_about_a_lease_is_made_up_for(running, device, cast):
    device.says(lease_of(running), Observed.UNHEALTHY, host_port=40_000)  # nobody committed: nobody listened
    sweeping.sweep()
    running.refresh_from_db()
    assert running.state == "unhealthy"


def test_a_notice_is_sent_once_however_often_it_is_asked_for(cast):
    notice = Notice.objects.create(key="k", user=cast.publisher, subject="S", body="B", created_at=timezone.now())
    assert [emails.send(notice_id=notice.pk) for _ in range(3)] == [True, False, False]
    assert len(mail.outbox) == 1
