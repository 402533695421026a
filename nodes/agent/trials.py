"""What this device can hold apps to, found out by trying and not by reading version numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nodes.agent import encryption_trial, gvisor, layer_trial, layers, volume_files, volume_trial
from nodes.agent.engine import Engine
from nodes.agent.protocol import ENCRYPTION_CHECK, Check
from nodes.agent.trial_turns import Untried

VOLUMES, LAYERS = "volume_limit", "layer_limit"
TRIED_AGAIN = "It is tried again with the next app that needs it; to try it at once: interchain-node doctor"


class Trials:
    """What is needed both to say what this device can do and to do it: each is tried once, when it is first asked for."""

    def __init__(self, engine: Engine, *, device_id: str = "") -> None:
        """Args: device_id: so that two agents of one Engine are not in each other's way; "" before enrolment."""
        self._engine, self._name = engine, f"{layers.TRIAL}-{device_id}" if device_id else layers.TRIAL
        self._limit: "layers.Limit | None" = None
        self._why_unbounded: "str | None" = None

    def docker_limit(self, info: "dict[str, Any]") -> layers.Limit:
        """Return how Docker itself holds writable layers to a size."""
        if self._limit is None:
            self._limit = layers.limit(self._engine, info, name=self._name)
        return self._limit

    def why_layers_are_unbounded(self, info: "dict[str, Any]") -> str:
        """Return why the agent cannot hold writable layers to a size where Docker does not, "" if it can."""
        if self._why_unbounded is None:
            folder = _folder(info)
            self._why_unbounded = volume_trial.why_not(folder) or layer_trial.why_not(folder, self._engine, info)
        return self._why_unbounded


def run(
    engine: Engine, info: "dict[str, Any]", *, folder: "Path | None" = None, tried: "Trials | None" = None
) -> "list[Check]":
    """Return a check for each thing that was tried. None of them is needed: what cannot be held is watched, and gVisor is extra.

    Args:
        folder: the device's, where the result of gVisor's trial is kept.
        tried: what others will ask for, too.
    """
    bounded, layer = _volumes(info), _layers(tried or Trials(engine), info)
    return [bounded, layer, _encryption(engine, info, bounded), gvisor.check(engine, info, folder)]


def _volumes(info: "dict[str, Any]") -> Check:
    try:
        why = volume_trial.why_not(_folder(info))
    except Untried as error:
        message = (
            f"Whether apps' volumes can be held to their size is not known yet, and until then none is begun: {error}"
        )
        return Check(VOLUMES, False, message, TRIED_AGAIN, needed=False)
    if not why:
        return Check(VOLUMES, True, "Apps' volumes are file systems of their own: the kernel holds each to its size.")
    message = f"Apps' volumes are only looked at every few seconds, because {why}."
    mend = (
        "Install e2fsprogs, and let the agent use loop devices (modprobe loop; in Docker, as the device's page shows)."
    )
    return Check(VOLUMES, False, message, mend, needed=False)


def _layers(tried: Trials, info: "dict[str, Any]") -> Check:
    try:
        why = "" if tried.docker_limit(info).possible else tried.why_layers_are_unbounded(info)
    except Untried as error:
        message = f"Whether what apps write outside their volumes can be held to a size is not known yet, and until then no new app starts: {error}"
        return Check(LAYERS, False, message, TRIED_AGAIN, needed=False)
    if not why:
        return Check(LAYERS, True, "What apps write outside their volumes is held to a size by the kernel.")
    message = (
        f"What apps write outside their volumes is only looked at, ten times a second while the disk fills ({why})."
    )
    mend = "Let Docker keep its data on XFS mounted with pquota, or on btrfs with Docker's btrfs driver."
    return Check(LAYERS, False, message, mend, needed=False)


def _encryption(engine: Engine, info: "dict[str, Any]", bounded: Check) -> Check:
    try:
        why = encryption_trial.why_not(_folder(info), engine) if bounded.ok else "volumes are plain folders here"
    except Untried as error:
        message = f"Whether apps' data can be encrypted on the disk is not known yet, and until then it is not: {error}"
        mend = "It is tried again within the hour; to try it at once: interchain-node doctor"
        return Check(ENCRYPTION_CHECK, False, message, mend, needed=False)
    if not why:
        message = "Apps' data is encrypted on the disk, with keys that are only in memory: a stolen disk gives nothing."
        return Check(ENCRYPTION_CHECK, True, message)
    mend = "Use a kernel with CONFIG_FS_ENCRYPTION (Debian, Ubuntu and Fedora have it), e2fsprogs and loop devices."
    return Check(ENCRYPTION_CHECK, False, f"Apps' data is not encrypted on the disk: {why}.", mend, needed=False)


def _folder(info: "dict[str, Any]") -> Path:
    return Path(str(info.get("DockerRootDir") or "/")) / volume_files.FOLDER
