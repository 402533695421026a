"""The agent's work, begun with as little in memory as it needs: without argparse and what else only a person's commands use."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path

from nodes.agent.config import Home
from nodes.agent.errors import AgentError
from nodes.agent.protocol import Goodbye

SYSTEMD = Path("/run/systemd/system")


def main(home: Path) -> int:
    """Work until SIGTERM or Ctrl-C; returns the exit code. An error that ends it is one plain message."""
    log_to_stderr()
    try:
        return run(home)
    except AgentError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130


def run(home: Path) -> int:
    """Work until told to end. Apps keep running afterwards."""
    from nodes.agent.wiring import Node

    node = Node(Home(home))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stop(_why()))
    # From the unit interchain-node-sleep.service, before the computer sleeps and after.
    signal.signal(signal.SIGUSR1, lambda *_: node.sleep())
    signal.signal(signal.SIGUSR2, lambda *_: node.awake())
    node.run()
    return 0


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("websockets").setLevel(logging.WARNING)


def _why() -> Goodbye:
    """Return why the agent is told to end: the whole computer stops, or the agent alone."""
    if not SYSTEMD.is_dir():
        return Goodbye.STOP
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return Goodbye.STOP
    return Goodbye.SHUTDOWN if done.stdout.strip() == "stopping" else Goodbye.STOP
