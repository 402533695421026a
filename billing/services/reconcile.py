"""Compare all books: ledger, contracts and Stripe. A difference stops what leaves, never what is already running."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.chain.types import Chain
from billing.models import ReconcileRun
from billing.services.reconcile_findings import Check
from billing.states import ReconcileOutcome
from interchain_site.core import audit
from interchain_site.core.alerts import clear_alert, raise_alert
from interchain_site.core.models import User

DIFFER, UNREAD = "books_differ", "books_not_compared"
AGAIN_SECONDS = 3_600


def withdrawals_blocked() -> str:
    """Return why nothing may leave now (NTC or dollars), or "" when it may.

    The last run that could read everything, or found a difference, decides; a clean run lifts the block. Charging never asks.
    """
    run = ReconcileRun.objects.exclude(outcome=ReconcileOutcome.INCOMPLETE).first()
    if run is None or run.outcome == ReconcileOutcome.CLEAN:
        return ""
    return "Payments out are paused: the last check of our books found a difference. Nothing is lost; staff were told."


def is_due(*, now: datetime) -> bool:
    """Return whether the last run is older than `RECONCILE_SECONDS`; one that was not clean is repeated sooner.

    What people buy while books are compared can look like a difference, and a difference holds up everybody's payouts.
    """
    last = ReconcileRun.objects.first()
    if last is None:
        return True
    clean = last.outcome == ReconcileOutcome.CLEAN
    wait = settings.RECONCILE_SECONDS if clean else min(AGAIN_SECONDS, settings.RECONCILE_SECONDS)
    return now - last.started_at >= timedelta(seconds=wait)


def run(*, now: datetime, chain: Chain | None, unread: str = "", by: User | None = None) -> ReconcileRun:
    """Make all comparisons, store what they found, and tell staff about differences.

    Args:
        chain: None when no node answers; then `unread` says why.
    """
    # Imported late: what pays out asks `withdrawals_blocked`, and the comparison reads what pays out.
    from billing.services import reconcile_chain, reconcile_ledger, reconcile_stripe

    checks = [
        reconcile_ledger.entries(),
        reconcile_ledger.balances(),
        reconcile_ledger.promises(),
        reconcile_chain.contracts(chain=chain, now=now, unread=unread),
        reconcile_stripe.ledger_of_payments(),
        reconcile_stripe.stripe(now=now),
        reconcile_stripe.balance(now=now),
    ]
    with transaction.atomic():
        made = ReconcileRun.objects.create(
            started_at=now,
            finished_at=timezone.now(),
            outcome=_outcome(checks),
            checks=[check.as_json() for check in checks],
            by=by,
        )
        audit.record("books_compared", subject=f"reconcile:{made.pk}", by=by, outcome=made.outcome)
    _tell(made)
    return made


def report(made: ReconcileRun) -> str:
    """Return a run in plain words, for a terminal."""
    lines = []
    for check in made.checks:
        lines.append(
            f"{_WORDS[check['outcome']]:9} {check['name']}"
            + (f": {'; '.join(check['facts'])}" if check["facts"] else "")
        )
        lines += [f"          {finding}" for finding in check["findings"]]
    verdict = {
        ReconcileOutcome.CLEAN: "All books agree.",
        ReconcileOutcome.DIFFERENCE: "The books differ. Payments out are blocked until a run is clean; apps go on running.",
        ReconcileOutcome.INCOMPLETE: "Nothing differs, but not everything could be read. What applied before still does.",
    }
    return "\n".join([*lines, "", verdict[ReconcileOutcome(made.outcome)]])


_WORDS = {
    ReconcileOutcome.CLEAN: "agrees",
    ReconcileOutcome.DIFFERENCE: "DIFFERS",
    ReconcileOutcome.INCOMPLETE: "unread",
}


def _outcome(checks: list[Check]) -> ReconcileOutcome:
    found = {check.outcome for check in checks}
    if ReconcileOutcome.DIFFERENCE in found:
        return ReconcileOutcome.DIFFERENCE
    return ReconcileOutcome.INCOMPLETE if ReconcileOutcome.INCOMPLETE in found else ReconcileOutcome.CLEAN


def _tell(made: ReconcileRun) -> None:
    if made.outcome == ReconcileOutcome.DIFFERENCE:
        first, more = made.findings[0], len(made.findings) - 1
        raise_alert(
            code=DIFFER,
            message=f"The books differ: {first}" + (f" And {more} more." if more else ""),
            mend="Type manage.py reconcile for the whole report, mend the cause, and type it again: a clean run lifts the block "
            "on payments out.",
        )
    if made.outcome == ReconcileOutcome.INCOMPLETE:
        unread = [
            line
            for check in made.checks
            if check["outcome"] == ReconcileOutcome.INCOMPLETE
            for line in check["findings"]
        ]
        raise_alert(
            code=UNREAD,
            message=f"The books could not be compared: {unread[0]}",
            mend="Make the node or Stripe answer again; the next run looks again, or type manage.py reconcile.",
        )
    else:
        clear_alert(code=UNREAD)
    if made.outcome == ReconcileOutcome.CLEAN:
        clear_alert(code=DIFFER)
