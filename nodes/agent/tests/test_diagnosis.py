"""Words for what the kernel shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodes.agent import diagnosis
from nodes.agent.protocol import HealthCheck, Reason
from nodes.agent.reconcile import Seen
from nodes.agent.tests.conftest import workload

HEAD = "  sl  local_address rem_address   st\n"
WORK = workload(port=8080, health=HealthCheck(kind="tcp"))
SEEN = Seen("a", 1, "w", "c", pid=5)


def proc(root: Path, *, tcp: str = "", tcp6: str = "") -> Path:
    (root / "5/net").mkdir(parents=True)
    (root / "5/net/tcp").write_text(HEAD + tcp)
    (root / "5/net/tcp6").write_text(HEAD + tcp6)
    return root


@pytest.mark.parametrize(
    ("tcp", "tcp6", "reason", "words"),
    [
        ("0: 00000000:1F90 00000000:0000 0A\n", "", Reason.UNHEALTHY, "port 8080 does not accept"),
        ("", "0: 00000000000000000000000000000000:1F90 0:0 0A\n", Reason.UNHEALTHY, "its health check fails"),
        ("0: 0100007F:1F90 00000000:0000 0A\n", "", Reason.WRONG_PORT, "127.0.0.1 only"),
        ("0: 00000000:0BB8 00000000:0000 0A\n", "", Reason.WRONG_PORT, "port 3000"),
        ("0: 00000000:0BB8 0:0 0A\n1: 0100007F:0050 0:0 0A\n", "", Reason.WRONG_PORT, "ports 80, 3000"),
        ("0: 0B00007F:A0A0 0:0 0A\n1: 00000000:1F90 0:0 01\n", "", Reason.WRONG_PORT, "listens on no port"),
    ],
)
def test_silent(tmp_path: Path, tcp: str, tcp6: str, reason: Reason, words: str) -> None:
    found = diagnosis.silent(SEEN, WORK, proc(tmp_path, tcp=tcp, tcp6=tcp6))
    assert found.reason is reason
    assert words in found.message


@pytest.mark.parametrize(
    ("seen", "reason", "words"),
    [
        (Seen("a", 1, "w", exit_code=137, out_of_memory=True), Reason.OUT_OF_MEMORY, "64 MiB"),
        (Seen("a", 1, "w", exit_code=153), Reason.OUT_OF_DISK, "disk"),
        (Seen("a", 1, "w", exit_code=127, error="exec failed"), Reason.START_FAILED, "exec failed"),
        (Seen("a", 1, "w", exit_code=0), Reason.EXITED, "stay in the foreground"),
        (Seen("a", 1, "w", exit_code=139), Reason.EXITED, "segmentation fault"),
    ],
)
def test_exited(seen: Seen, reason: Reason, words: str) -> None:
    found = diagnosis.exited(seen, WORK)
    assert found.reason is reason
    assert words in found.message
