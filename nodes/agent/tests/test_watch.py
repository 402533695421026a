"""What a health check finds and when it counts."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

from nodes.agent import diagnosis
from nodes.agent.board import Board
from nodes.agent.executor import Executor
from nodes.agent.meter import Meters
from nodes.agent.protocol import Desired, Observed, Reason
from nodes.agent.reconcile import Seen
from nodes.agent.tests.conftest import lease, workload
from nodes.agent.watch import Watch


def test_an_app_that_was_given_up_still_answers_and_the_reason_stands(tmp_path: Path) -> None:
    wanted = lease(workload())
    executor = Mock(spec=Executor)
    executor.log_tail.return_value = ""
    board = Board(Desired((wanted,)), executor)
    seen = Seen(
        wanted.lease_id, 1, wanted.workload.id, container_id="c", running=True, started_at="now", address="192.0.2.1"
    )
    board.seen[wanted.lease_id] = seen
    meters = Meters(tmp_path / "meters.json", instructions_per_second=1, boot_id="boot")
    watch = Watch(board, meters, wake=lambda: None)
    watch._checks = Mock()  # the test says what they find
    watch.keep()
    monitor = watch._monitors[wanted.lease_id]
    watch._hear(monitor, True, True)
    assert board.statuses()[0].observed is Observed.RUNNING
    board.fail(wanted.lease_id, diagnosis.overfull(2, 1, layer=True), permanent=True)
    watch._hear(monitor, True, True)  # asked before it was given up, or before it ended
    board.seen.clear()
    status = board.statuses()[0]
    assert (status.observed, status.reason) == (Observed.FAILED, Reason.OUT_OF_DISK)
    assert status.message
