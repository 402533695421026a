"""The portal's process is killed (SIGKILL) in the middle of an election: what is left in PostgreSQL ends it exactly once."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from importlib import import_module

import pytest
from django.db import connection, connections

from interchain_site.testing.devices import make_device, make_workload
from nodes import queries
from nodes.agent.protocol import Action
from nodes.models import Device, Failover, Lease, ReplicaSet
from nodes.services import election, liveness, succession
from nodes.tests.replicas import box_of, newest, running

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="What a killed process leaves is PostgreSQL's to say."
    ),
]
POINTS = {
    "the loss is known, no election began": ("nodes.services.election", "guarded_look_many"),
    "before the generation moves": ("nodes.services.replica_sets", "next_generations"),
    "after the generation moved, before the commit": ("nodes.services.replica_sets", "note_due_many"),
    "after the commit, before the wake-up": ("nodes.services.wake", "_publish"),
}


def killed_at(module: str, name: str, work: Callable[[], object]) -> None:
    """Let a process of its own do the work, and die by SIGKILL as soon as it gets to that function."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            setattr(import_module(module), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it never got there"


@pytest.mark.parametrize("point", POINTS)
def test_an_election_cut_off_by_a_kill_ends_once(cast, point):
    boxes = [make_device(cast.owner, f"Box {number}") for number in range(3)]
    workload = make_workload()
    first = running(boxes, workload)
    module, name = POINTS[point]
    killed_at(module, name, lambda: liveness.lose(Device.objects.get(pk=first.device_id)))
    for _ in range(3):  # the portal is back: its sweeps, whichever process runs them
        liveness.lose(Device.objects.get(pk=first.device_id))
        election.sweep()
    second = newest(workload)
    assert Lease.objects.count() == 2
    assert (second.generation, ReplicaSet.objects.get().generation) == (2, 2)
    assert second.device_id != first.device_id
    box = box_of(boxes, second)
    (listed,) = queries.desired_of(box.device).leases
    assert (listed.lease_id, listed.action) == (str(second.pk), Action.RUN), "the device finds it though nobody woke it"
    box.runs(second)
    assert [lease.pk for lease in succession.serving(first.workload_id)] == [second.pk]
    assert election.sweep() == 0
    failover = Failover.objects.get()
    assert failover.ended_at is not None
