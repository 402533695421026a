"""Tries whether the writable layer of a container can be held to a size here: Docker promises nobody how it keeps its files.

A container that never runs is joined to a small file system, Docker mounts it for an archive, and what is mounted must have that size.
Trials of several agents take turns (trial_turns.py), so what lies there before one was left by an agent that was killed in its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from nodes.agent import disks, holders, layer_links, loops, openers, sandbox
from nodes.agent.abilities import is_passing
from nodes.agent.engine import Engine
from nodes.agent.errors import AgentError
from nodes.agent.trial_turns import Untried, turn

NAME = "interchain-trial-layer"
LABELS = {f"{sandbox.LABEL}trial": "layer"}
BYTES = 2**22
SECONDS = 5.0


def why_not(folder: Path, engine: Engine, info: "dict[str, Any]") -> str:
    """Return why this device cannot hold a layer, "" if it can.

    Args:
        folder: where layers' files are; made if it is missing.
        info: what Docker says of itself.

    Raises:
        Untried: something else came between, such as a Docker Engine that does not answer or a full disk.
    """
    unknown = layer_links.why_not(info)
    if unknown:
        return unknown
    try:
        if not holders.image(engine):
            return "no file system can be opened for it on this kind of processor"
        with turn(folder):
            tidy(folder, engine)
            try:
                return "" if _holds(folder, engine) else "Docker does not keep to it"
            finally:
                with suppress(OSError, AgentError):  # what stays is found before the next trial
                    tidy(folder, engine)
    except (OSError, AgentError, KeyError) as error:
        if is_passing(error):
            raise Untried(str(error)) from error
        return str(error)


def tidy(folder: Path, engine: Engine) -> None:
    """Remove what a trial made, also one whose agent was killed; not while one is under way."""
    openers.remove_left(engine, *(f"{name}={value}" for name, value in LABELS.items()))
    for path in folder.glob(f"{NAME}*"):
        path.unlink(missing_ok=True)


def tidy_in_turn(folder: Path, engine: Engine) -> None:
    """Remove what a killed agent's trial left, once no other is under way."""
    if folder.is_dir():
        with turn(folder):
            tidy(folder, engine)


def _holds(folder: Path, engine: Engine) -> bool:
    image, own = folder / f"{NAME}.img", openers.Openers(engine, LABELS, prefix=f"{NAME}-")
    own.prepare(folder)
    disks.make(image, BYTES, lasting=False)
    device, keep = loops.attach(image)
    try:
        with own.mounted(device, seconds=SECONDS) as path:
            body = {"Image": holders.image(engine), "Labels": LABELS, "HostConfig": {"NetworkMode": "none"}}
            container = str(engine.call("POST", "/containers/create", body)["Id"])
            detail = engine.call("GET", f"/containers/{container}/json")
            layer_links.join(detail, path, engine)
            return _mounted_bytes(detail, engine) <= BYTES
    finally:
        os.close(keep)


def _mounted_bytes(detail: "dict[str, Any]", engine: Engine) -> int:
    """Return the size of what Docker mounts as the container's files."""
    with layer_links.mounted(detail, engine) as overlay:
        found = os.statvfs(overlay.path)
        return found.f_blocks * found.f_frsize
