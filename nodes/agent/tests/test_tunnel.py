"""When tunnels are looked after: at once when the portal wants the first, and not at all while it wants none."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from nodes.agent.protocol import Tunnel
from nodes.agent.tunnel import LOOK_SECONDS, Tunnels

NONE: "tuple[Tunnel, dict[str, int]]" = (Tunnel(), {})
ONE = (Tunnel(host="portal.example", ports={"lease": 4000}), {"lease": 8080})


class Ways(Tunnels):
    """Without ssh: a process that lasts stands for each tunnel."""

    opened: "list[subprocess.Popen[bytes]]"

    def _open(self, tunnel: Tunnel, port: int, local_port: int) -> "subprocess.Popen[bytes]":
        self.opened.append(subprocess.Popen(["sleep", "600"]))
        return self.opened[-1]


def eventually(condition: "Callable[[], object]") -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_tunnels_are_opened_when_they_are_wanted_and_nobody_wakes_up_before(tmp_path: Path) -> None:
    said, asked = [NONE], 0

    def wanted() -> "tuple[Tunnel, dict[str, int]]":
        nonlocal asked
        asked += 1
        return said[0]

    ways = Ways(tmp_path, device_id="device", key=lambda: b"", wanted=wanted)
    ways.opened = []
    ways.start()
    try:
        eventually(lambda: asked)
        time.sleep(2.5 * LOOK_SECONDS)
        assert asked == 1
        said[0] = (ONE[0], {})  # its app does not run yet
        ways.changed()
        eventually(lambda: asked > 2)
        assert not ways.opened
        said[0] = ONE  # of that nobody says anything
        eventually(lambda: ways.opened)
        said[0] = NONE
        eventually(lambda: ways.opened[0].poll() is not None)
    finally:
        ways.stop()
        ways.join(10)
    assert not ways.is_alive()
