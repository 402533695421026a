"""Staff see snapshots and comparisons, and can ask for one; the tasks do what the schedule and staff ask."""

from __future__ import annotations

import pytest
from django.urls import reverse

from billing.chain import client
from billing.chain.errors import ChainUnavailable
from billing.models import ReconcileRun, ReserveSnapshot
from billing.services import reserves
from billing.states import ReconcileOutcome
from billing.tasks import proofs
from interchain_site.core.models import StaffAlert


@pytest.fixture
def staff(client, cast):
    client.force_login(cast.staff)
    return client


def test_staff_read_snapshots_and_runs(staff, cast, now, monkeypatch):
    reserves.take_snapshot(now=now, chain=None)
    check = {
        "name": "entries sum to zero",
        "outcome": "difference",
        "findings": ["Transaction 7 is wrong."],
        "facts": [],
    }
    run = ReconcileRun.objects.create(
        started_at=now, finished_at=now, outcome=ReconcileOutcome.DIFFERENCE, checks=[check], by=cast.staff
    )
    assert staff.get(reverse("admin:billing_reservesnapshot_changelist")).status_code == 200
    assert "Transaction 7 is wrong." in staff.get(reverse("admin:billing_reconcilerun_changelist")).content.decode()
    page = staff.get(reverse("admin:billing_reconcilerun_change", args=[run.pk])).content.decode()
    assert "DIFFERS" in page


def test_staff_ask_for_both(staff, now, monkeypatch, django_capture_on_commit_callbacks):
    asked = []
    monkeypatch.setattr(proofs.reconcile_now, "apply_async", lambda *a, **k: asked.append("compare"))
    monkeypatch.setattr(proofs.take_reserves_now, "apply_async", lambda *a, **k: asked.append("take"))
    snapshot = reserves.take_snapshot(now=now, chain=None)
    run = ReconcileRun.objects.create(started_at=now, finished_at=now, outcome=ReconcileOutcome.CLEAN, checks=[])
    with django_capture_on_commit_callbacks(execute=True):
        for name, action, row in (("reservesnapshot", "take_now", snapshot), ("reconcilerun", "compare_now", run)):
            form = {"action": action, "_selected_action": [row.pk]}
            assert staff.post(reverse(f"admin:billing_{name}_changelist"), form).status_code == 302
    assert asked == ["take", "compare"]


def test_the_tasks_work_when_due_and_only_then(fake, monkeypatch):
    monkeypatch.setattr(client, "connect", lambda: fake.chain)
    for _ in range(2):
        proofs.take_reserves_if_due()
        proofs.reconcile_if_due()
    assert (ReserveSnapshot.objects.count(), ReconcileRun.objects.count()) == (1, 1)


def test_without_a_node_staff_are_told_and_nothing_is_made_up(db, settings, monkeypatch):
    settings.STRIPE_SECRET_KEY = ""
    monkeypatch.setattr(client, "connect", _no_node)
    proofs.take_reserves_if_due()
    proofs.reconcile_if_due()
    assert not ReserveSnapshot.objects.exists()
    assert ReconcileRun.objects.get().outcome == ReconcileOutcome.INCOMPLETE
    assert set(StaffAlert.objects.values_list("code", flat=True)) == {"reserves_late", "books_not_compared"}


def _no_node():
    raise ChainUnavailable("The Ethereum node does not answer.")
