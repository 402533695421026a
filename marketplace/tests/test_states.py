"""The state table of deployments, that nothing moves around it, and that the drawing shows it."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace import diagrams
from marketplace.conftest import lease_of
from marketplace.errors import WrongState
from marketplace.models import Deployment
from marketplace.services import deployments, enforcement, following, releasing, sweeping
from marketplace.services.history import move
from marketplace.states import DEPLOYMENT_MOVES, DeploymentState, can_move
from nodes.agent.protocol import Observed, Reason
from nodes.models import Lease
from nodes.services.leases import mark_lost


def test_every_state_has_a_row_and_can_be_reached():
    assert set(DEPLOYMENT_MOVES) == set(DeploymentState)
    reached = set().union(*DEPLOYMENT_MOVES.values()) | {DeploymentState.STARTING}
    assert reached == set(DeploymentState)


def test_everything_that_is_not_deleted_can_be_deleted():
    for state in set(DeploymentState) - {DeploymentState.DELETING, DeploymentState.DELETED}:
        assert can_move(state, DeploymentState.DELETING)


@pytest.mark.parametrize("state", DeploymentState)
@pytest.mark.parametrize("to", DeploymentState)
def test_a_move_outside_the_table_is_refused(deployed, state, to):
    Deployment.objects.filter(pk=deployed.pk).update(state=state)
    deployed.refresh_from_db()
    if state == to or to in DEPLOYMENT_MOVES[state]:
        move(deployed, to, kind="t", words="t", now=timezone.now())
        assert Deployment.objects.get(pk=deployed.pk).state == to
    else:
        with pytest.raises(WrongState):
            move(deployed, to, kind="t", words="t", now=timezone.now())


EVENTS = st.lists(
    st.sampled_from(
        ["start", "stop", "redeploy", "delete", "prepares", "runs", "unhealthy", "stops", "fails", "lost", "wipes", "broke", "credited", "grace", "sweep"]
    ),
    max_size=14,
)  # fmt: skip


@pytest.mark.slow
@given(EVENTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_in_whatever_order_it_stays_true(deployed, device, cast, events):
    """Orders, reports, balances and sweeps at random: states stay in the table, and the end is what was asked for."""
    from django.db import transaction

    sid = transaction.savepoint()
    try:
        for event in events:
            before = Deployment.objects.get(pk=deployed.pk).state
            _happen(event, deployed, device, cast)
            following.follow(deployment_id=deployed.pk)
            _check(deployed, before)
        _settle(deployed, device)
        end = Deployment.objects.get(pk=deployed.pk)
        assert (end.desired == "deleted") == (end.state == "deleted"), events
        if end.state == "deleted":
            assert len(end.wipe_receipts) >= 1
        elif end.desired == "stopped":
            assert end.state in ("stopped", "failed"), events
        else:
            # A device that failed it a moment ago rests, and here there is no other.
            resting = end.state == "waiting" and end.reason == "no_device"
            assert resting or end.state in ("running", "failed"), events
    finally:
        transaction.savepoint_rollback(sid)


def _happen(event, deployed, device, cast):
    from interchain_site.core.errors import DomainError

    lease = lease_of(deployed)
    says = {
        "prepares": Observed.PREPARING,
        "runs": Observed.RUNNING,
        "unhealthy": Observed.UNHEALTHY,
        "stops": Observed.STOPPED,
    }
    try:
        if event == "redeploy":
            releasing.redeploy(app=deployed.app, by=cast.publisher)
        elif event in ("start", "stop", "delete"):
            getattr(deployments, event)(app=deployed.app, by=cast.publisher)
        elif event in says:
            device.says(lease, says[event], host_port=40_000 if event in ("runs", "unhealthy") else 0)
        elif event == "fails":
            device.says(lease, Observed.FAILED, reason=Reason.EXITED)
        elif event == "lost":
            mark_lost(lease.pk)
        elif event == "wipes":
            device.wipes(lease)
        elif event == "broke":
            enforcement.stop_for_balance(deployed.pk, timezone.now())
        elif event == "credited":
            enforcement.credited(publisher_id=cast.publisher.pk)
        elif event == "grace":
            enforcement.end_graces(now=timezone.now())
        else:
            sweeping.sweep()
    except DomainError:
        pass


def _check(deployed, before):
    row = Deployment.objects.get(pk=deployed.pk)
    assert row.state in DeploymentState
    if before == "deleted":
        assert row.state == "deleted"
    if row.state in ("stopped", "grace", "deleted"):
        assert not Lease.objects.filter(workload_id=row.pk, action="run").exists()
    assert Lease.objects.filter(workload_id=row.pk, action="run", is_newest=True).count() <= 1


def _settle(deployed, device):
    """Let the device do all it was told, and the sweep run, until nothing changes."""
    for _ in range(8):
        for lease in Lease.objects.filter(workload_id=deployed.pk).exclude(state="wiped"):
            if lease.action == "run":
                device.says(lease, Observed.RUNNING, host_port=40_000)
            elif lease.action == "stop":
                device.says(lease, Observed.STOPPED)
            else:
                device.wipes(lease)
        sweeping.sweep()
        following.follow(deployment_id=deployed.pk)


def test_the_drawing_is_current():
    call_command("diagrams", check=True)


def test_the_drawing_shows_every_table():
    found = {f"{module}.{name}" for module, names in diagrams.tables().items() for name in names}
    assert {"marketplace.states.DEPLOYMENT_MOVES", "nodes.states.LEASE_MOVES", "billing.states.PAYMENT_MOVES"} <= found
    for name in found:
        assert f"`{name}`" in diagrams.page()


def test_a_stale_drawing_is_noticed(settings, tmp_path):
    settings.BASE_DIR = tmp_path
    (tmp_path / "docs").mkdir()
    with pytest.raises(SystemExit, match="stale"):
        call_command("diagrams", check=True)
    call_command("diagrams")
    call_command("diagrams", check=True)
