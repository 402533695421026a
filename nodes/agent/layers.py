"""The writable layer of a container: what it writes beside its volume, and whether Docker can hold it to a size.

Docker can on XFS mounted with `pquota`, on btrfs and on ZFS; then the kernel refuses the write that is too much. Elsewhere the agent
looks (metering.py).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nodes.agent import holders, holdings, layer_links, limits, sandbox
from nodes.agent.abilities import is_passing
from nodes.agent.engine import Engine
from nodes.agent.errors import AgentError
from nodes.agent.executor import Layer
from nodes.agent.protocol import Workload
from nodes.agent.trial_turns import Untried

TRIAL = "interchain-trial"
LARGE_FILES_BYTES = 2**20
_ANONYMOUS = re.compile("[0-9a-f]{64}")
DOCKER_FILES = ("HostsPath", "HostnamePath", "ResolvConfPath")


@dataclass(frozen=True)
class Limit:
    """How this Engine takes the size of a writable layer."""

    possible: bool = False
    with_image: bool = False  # btrfs counts what the image holds as well

    def bytes_for(self, workload: Workload, *, image_bytes: int) -> int:
        """Return the size to give Docker; 0 where it holds none, or nothing can be written."""
        allowed = sandbox.layer_allowance(workload)
        if not self.possible or not allowed:
            return 0
        return allowed + image_bytes * self.with_image


def limit(engine: Engine, info: "dict[str, Any]", *, name: str = TRIAL) -> Limit:
    """Find out, by making a container with a size and removing it.

    A Docker that keeps images in containerd's store takes every size and holds none.

    Raises:
        Untried: something else came between, such as a Docker Engine that does not answer or a full disk.
    """
    if layer_links.in_containerd(info):
        return Limit()
    try:
        image = holders.image(engine)
        if not image:
            return Limit()
        config = {"NetworkMode": "none", "StorageOpt": {"size": str(limits.LEAST_LAYER_BYTES)}}
        engine.call("DELETE", f"/containers/{name}", ignore=(404, 409))
        engine.call("POST", "/containers/create", {"Image": image, "HostConfig": config}, query={"name": name})
        engine.call("DELETE", f"/containers/{name}", ignore=(404,))
    except AgentError as error:
        if is_passing(error):
            raise Untried(str(error)) from error
        return Limit()
    return Limit(possible=True, with_image=info.get("Driver") == "btrfs")


def lasting(detail: "dict[str, Any]") -> "dict[str, Any]":
    """Return of what Docker says of a container that which `look` needs and which stays as it is while the container exists; {} if it is gone."""
    if not detail:
        return {}
    host, graph = detail.get("HostConfig") or {}, detail.get("GraphDriver") or {}
    kept = {name: detail.get(name) for name in ("Id", "Mounts", *DOCKER_FILES)}
    upper = {"UpperDir": (graph.get("Data") or {}).get("UpperDir")}
    limits = {name: host.get(name) for name in ("StorageOpt", "ReadonlyRootfs")}
    labels = {sandbox.LAYER_LABEL: "1"} if sandbox.LAYER_LABEL in _labels(detail) else {}
    return {**kept, "HostConfig": limits, "GraphDriver": {"Data": upper}, "Config": {"Labels": labels}}


def look(detail: "dict[str, Any]", allowed: int = 0) -> "Layer | None":
    """Return what a container wrote; None where the kernel holds all of it to its size, where it may write nothing, or it is gone.

    The folders its image wants kept apart (VOLUME) count: Docker keeps each as a plain folder, outside of the layer and of its quota.

    Files without a name that the app keeps open count, also those in a volume that is a plain folder, which lie on the same disk.
    Docker's files in its /etc, which lie outside of every quota, count as well once they are larger than Docker makes them.

    Args:
        allowed: bytes; what is beyond is not counted to the end. 0: count all.
    """
    host = detail.get("HostConfig") or {}
    upper = ((detail.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or _mounted_upper(detail)
    held = (host.get("StorageOpt") or {}).get("size")
    if host.get("ReadonlyRootfs"):
        return None
    files = _docker_files(detail)
    bounded = sandbox.LAYER_LABEL in _labels(detail) and os.path.islink(upper or "")
    folders = [] if bounded else _image_volumes(detail) + ([upper] if upper and not held else [])
    if not folders:
        return Layer(files, 0) if files > LARGE_FILES_BYTES else None
    found = _nameless(detail, folders)
    for folder in folders:
        found += holdings.by_folder(folder, enough=allowed)
    return Layer(found.bytes + files, found.files, found.hidden)


def _mounted_upper(detail: "dict[str, Any]") -> str:
    """Return where a running container writes, as the kernel has it: a Docker that keeps images in containerd does not say."""
    number = int((detail.get("State") or {}).get("Pid") or 0)
    return next((overlay.upper for overlay in layer_links.overlays(number) if overlay.path == "/"), "")


def _labels(detail: "dict[str, Any]") -> "dict[str, str]":
    return (detail.get("Config") or {}).get("Labels") or {}


def _image_volumes(detail: "dict[str, Any]") -> "list[str]":
    """Return where Docker keeps the folders the image wants apart: it names their volumes itself, by 64 hexadecimal digits."""
    mounts = detail.get("Mounts") or []
    return [one["Source"] for one in mounts if one.get("Type") == "volume" and _ANONYMOUS.fullmatch(one["Name"])]


def _nameless(detail: "dict[str, Any]", folders: "list[str]") -> holdings.Held:
    """Return what the container's processes keep open after they removed it."""
    number = int((detail.get("State") or {}).get("Pid") or 0)
    try:
        devices = {os.stat(path).st_dev for path in (f"/proc/{number}/root", *folders)}
    except OSError:  # it has ended, and with it what it kept open
        return holdings.Held()
    return holdings.by_processes(holdings.processes(number, str(detail["Id"])), devices)


def _docker_files(detail: "dict[str, Any]") -> int:
    """Return the bytes on disk of the files Docker puts into a container's /etc; a root app may write to them."""
    total = 0
    for name in DOCKER_FILES:
        with suppress(OSError):
            total += os.stat(detail.get(name) or "").st_blocks * 512
    return total
