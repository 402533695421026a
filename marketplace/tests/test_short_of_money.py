"""What a publisher is told when money is short or use cannot be billed: how much is missing, for what, and what to do."""

from __future__ import annotations

import datetime as dt

from django.core import mail
from django.utils import timezone

from billing.money import format_ntc
from billing.queries import Balances
from billing.signals import balance_credited
from interchain_site.core.models import StaffAlert
from marketplace import screens, tasks
from marketplace.conftest import NTC, fund, lease_of
from marketplace.models import Charge, Deployment
from marketplace.services import deployments, enforcement, sweeping
from marketplace.services.affordability import missing_units
from marketplace.tests import test_enforcement
from marketplace.tests.test_enforcement import charged
from nodes.agent.protocol import Meter, Observed
from nodes.models import Lease, MeterTotal

# Its fixtures; not imported by name, because an argument of the same name hides an import.
_tasks_at_once, broke = test_enforcement._tasks_at_once, test_enforcement.broke


def test_data_of_stopped_apps_is_warned_about_too(running, device, cast, commit):
    """At the rate of what the data costs since the stop, not of what the app burned while it ran."""
    now = timezone.now()
    Lease.objects.filter(pk=lease_of(running).pk).update(has_volume=True)
    charged(running, 6000 * 10**9, now - dt.timedelta(minutes=30))
    with commit():
        deployments.stop(app=running.app, by=cast.publisher)
    with commit():
        device.says(lease_of(running), Observed.STOPPED)
    Deployment.objects.update(state_changed_at=now - dt.timedelta(minutes=20))
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk}, now=now)
    assert mail.outbox == []
    charged(running, 120 * 10**9, now, seconds=1200)
    with commit():
        enforcement.enforce(publisher_ids={cast.publisher.pk}, now=now)
    assert [message.subject[-9:] for message in mail.outbox] == [" 24 hours"]
    assert "None of your apps runs" in mail.outbox[0].body
    screen = screens.app_screen(running.app, by=cast.publisher, now=now)
    assert (screen.burn_is_measured, screen.burn_hint) == (True, "For the data it keeps while it is stopped")


def test_too_little_says_how_much_is_missing_by_mail_and_on_the_page(broke, cast, commit, client):
    assert "at least" in mail.outbox[-1].body
    before = len(mail.outbox)
    for amount in (1, 10**6):
        fund(cast.publisher, amount)
        with commit():
            balance_credited.send(sender=None, user_id=cast.publisher.pk)
        with commit():
            sweeping.sweep()
    broke.refresh_from_db()
    assert [message.subject for message in mail.outbox[before:]] == [
        "Interchain: Blog is not restarted yet: too little NTC for an hour"
    ] * 2
    client.force_login(cast.publisher)
    page = client.get("/apps/blog/").text
    missing = screens.app_screen(broke.app, by=cast.publisher, now=timezone.now()).missing_units
    assert format_ntc(missing) in mail.outbox[-1].body
    assert format_ntc(missing) in page
    fund(cast.publisher, missing)
    with commit():
        balance_credited.send(sender=None, user_id=cast.publisher.pk)
    broke.refresh_from_db()
    assert broke.state == "starting"


def test_what_no_bill_can_hold_is_stopped_and_says_why(running, device, cast, commit):
    lease = lease_of(running)
    MeterTotal.objects.update_or_create(
        lease=lease, meter=Meter.COMPUTE.value, defaults={"total": 2**63 - 1, "sequence": 10**6, "at": timezone.now()}
    )
    for _ in range(2):
        with commit():
            tasks.charge()
        tasks.recharge_all()
    running.refresh_from_db()
    lease.refresh_from_db()
    assert (running.state, running.reason, running.desired) == ("failed", "too_much_to_bill", "stopped")
    assert "cannot be charged" in running.message
    assert lease.action == "stop"
    assert Charge.objects.count() == 0
    assert [message.subject for message in mail.outbox if "Blog" in message.subject] == [
        "Interchain: Blog was stopped: its use cannot be charged"
    ]
    assert StaffAlert.objects.standing().filter(code="lease_too_much_to_bill").count() == 1
    with commit():
        device.says(lease, Observed.STOPPED)
    running.refresh_from_db()
    assert running.state == "failed"
    with commit():
        deployments.start(app=running.app, by=cast.publisher)
    running.refresh_from_db()
    assert (running.state, running.message) == ("starting", "")


def test_debts_are_repaid_before_an_app_starts(cast, price_list, rate, release):
    """What is missing counts them, or buying it would not be enough."""
    short = Balances(available=0, owed=5 * NTC)
    assert missing_units(2 * NTC, short) == 7 * NTC
    assert missing_units(2 * NTC, Balances(available=2 * NTC, owed=0)) == 0
    assert missing_units(0, Balances()) == 1
