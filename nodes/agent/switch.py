"""The owner's switch at the device: `interchain-node pause | drain | resume` writes it, the agent reads it within seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from nodes.agent import files
from nodes.agent.protocol import Mode


@dataclass(frozen=True)
class Switch:
    mode: Mode = Mode.OPEN
    since: float = 0.0  # seconds since 1970; a drain ends some minutes later


def read(path: Path) -> Switch:
    """Return the switch; open when there is no file, paused when it is damaged, because nobody knows what its owner wanted."""
    if not path.exists():
        return Switch()
    document = files.read_json(path)
    try:
        return Switch(Mode(document["mode"]), float(document["since"]))
    except (TypeError, KeyError, ValueError):
        return Switch(Mode.PAUSED)


def write(path: Path, mode: Mode) -> None:
    if mode is Mode.OPEN:
        files.remove(path)
    else:
        files.write_json(path, {"mode": mode.value, "since": time.time()})
