"""What this device can hold apps to, found out by trying and not by reading version numbers."""

from __future__ import annotations

from typing import Any

from nodes.agent import layers, volumes
from nodes.agent.engine import Engine
from nodes.agent.protocol import Check

VOLUMES, LAYERS = "volume_limit", "layer_limit"


def run(engine: Engine, info: "dict[str, Any]") -> "list[Check]":
    """Return a check for each thing that was tried. None of them is needed: what cannot be held is watched."""
    return [_volumes(info), _layers(engine, info)]


def _volumes(info: "dict[str, Any]") -> Check:
    why = volumes.why_unbounded(str(info.get("DockerRootDir") or "/"))
    if not why:
        return Check(VOLUMES, True, "Apps' volumes are file systems of their own: the kernel holds each to its size.")
    message = f"Apps' volumes are only looked at every few seconds, because {why}."
    mend = (
        "Install e2fsprogs, and let the agent use loop devices (modprobe loop; in Docker, as the device's page shows)."
    )
    return Check(VOLUMES, False, message, mend, needed=False)


def _layers(engine: Engine, info: "dict[str, Any]") -> Check:
    if layers.limit(engine, info).possible:
        return Check(LAYERS, True, "What apps write outside their volumes is held to a size by the kernel.")
    message = "What apps write outside their volumes is only looked at, each second while the disk fills."
    mend = "Let Docker keep its data on XFS mounted with pquota, or on btrfs with Docker's btrfs driver."
    return Check(LAYERS, False, message, mend, needed=False)
