"""When marketplace's services run. Thin: each loads by id and calls one service; running twice does no harm."""

from __future__ import annotations

from itertools import islice

import structlog
from celery import shared_task

from billing.errors import NoRate
from interchain_site.core.errors import Busy
from marketplace import emails
from marketplace.services import charging, domains, enforcement, sweeping

log = structlog.get_logger(__name__)
MOST_PASSES = 20
NOTICES_A_TASK = 100


@shared_task(name="marketplace.tasks.charge")
def charge() -> None:
    """Charge all new readings, pass by pass, and act on the balances that moved."""
    for _ in range(MOST_PASSES):
        try:
            passed = charging.charge_new_readings()
        except NoRate as error:
            log.error("charging_waits", reason=error.message)
            return
        except Busy as error:  # the next run takes up where this one stopped
            log.warning("charging_busy", reason=error.message)
            return
        enforcement.stop_unbillable(lease_ids=passed.unbillable)
        enforcement.enforce(publisher_ids=passed.publishers)
        if not passed.more:
            return


@shared_task(name="marketplace.tasks.sweep")
def sweep() -> None:
    """Heal whatever was left undone."""
    sweeping.sweep()
    overdue = iter(sweeping.overdue_notices())
    while batch := list(islice(overdue, NOTICES_A_TASK)):
        send_notices.delay(batch)


@shared_task(name="marketplace.tasks.recharge_all")
def recharge_all() -> None:
    """Find leases whose charge is behind their readings."""
    found = sweeping.recharge_all()
    if found:
        log.warning("charges_were_behind", leases=found)


@shared_task(name="marketplace.tasks.credited")
def credited(publisher_id: int) -> None:
    """Restart what waited for a balance."""
    enforcement.credited(publisher_id=publisher_id)


@shared_task(name="marketplace.tasks.send_notice", autoretry_for=(OSError,), retry_backoff=True, max_retries=5)
def send_notice(notice_id: int) -> None:
    """Send one message that is owed."""
    emails.send(notice_id=notice_id)


@shared_task(name="marketplace.tasks.send_notices")
def send_notices(notice_ids: list[int]) -> None:
    """Send those of these messages that are still owed; what fails is found by the next sweep."""
    emails.send_many(notice_ids=notice_ids)


@shared_task(name="marketplace.tasks.check_domains")
def check_domains() -> None:
    """Look at the TXT records of domains that are due."""
    domains.sweep()
