"""Takes everything of the agent off this computer: apps, their data, networks, firewall rules, images, service, files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from nodes.agent import bounded_layers, counters, firewall, holders, owner, service, volume_files, volumes
from nodes.agent import config as configuration
from nodes.agent.config import Config, Home
from nodes.agent.engine import Engine, filters
from nodes.agent.errors import AgentError
from nodes.agent.images import LOADED, TAG
from nodes.agent.sandbox import LABEL

STOP_SECONDS = 40.0
GONE = (404, 409)


def run(home: Home, *, keep_volumes: bool, keep_files: bool = False, without_docker: bool = False) -> "list[str]":
    """Remove everything; returns what could not be removed, in words.

    Steps, each of which may be repeated: 1. the service and the agent end; 2. the portal forgets the device, so that apps move
    away; 3. containers, networks, volumes; 4. images that came for apps; 5. firewall rules and cgroups, unless another device
    on this computer needs them; 6. files.
    """
    settings = configuration.load(home)
    engine = Engine(settings.engine)
    base = home.root.resolve().parent
    images = _image_names(home)
    left = [] if _end(home, base) else ["the agent that runs (end it, then repeat this)"]
    left += _leave(settings, home)
    if without_docker:
        left.append(
            f"what apps left in Docker (docker ps -a, volume ls, --filter label={LABEL}device={settings.device_id})"
        )
    else:
        left += _empty_engine(settings, engine, images, keep_volumes=keep_volumes)
    if not keep_files:
        _remove_files(base, home)
    return left


def _empty_engine(settings: Config, engine: Engine, images: "set[str]", *, keep_volumes: bool) -> "list[str]":
    """Steps 3 to 5; returns what is still there."""
    mine = filters(label=[f"{LABEL}device={settings.device_id}"])
    for path in _listed(engine, "/containers/json", mine, all_="1"):
        engine.call("DELETE", f"/containers/{path}", query={"force": "1", "v": "1"}, ignore=GONE)
    for path in _listed(engine, "/networks", mine):
        engine.call("DELETE", f"/networks/{path}", ignore=(403, *GONE))
    for part in (bounded_layers.PREFIX, volumes.OPENER_PREFIX):
        volume_files.erase_all(settings.device_id, engine, part=part)
    if not keep_volumes:
        for path in volumes.names(settings.device_id, engine):
            engine.call("DELETE", f"/volumes/{path}", query={"force": "1"}, ignore=GONE)
        volume_files.erase_all(settings.device_id, engine)
    alone = not _others(engine)
    _remove_images(engine, images, alone=alone)
    if alone:
        _remove_rules()
        _remove_cgroups()
    return [f"{kind} {name}" for kind, name in _remains(engine, mine, keep_volumes=keep_volumes)]


def _end(home: Home, base: Path) -> bool:
    service.remove()
    service.unlink_command(base)
    with contextlib.suppress(OSError, ValueError):
        os.kill(int((base / "launch.pid").read_text()), signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while owner.is_running(home) and time.monotonic() < until:
            time.sleep(0.1)
    return owner.stop_running(home, seconds=STOP_SECONDS)


def _leave(settings: Config, home: Home) -> "list[str]":
    try:
        owner.portal_of(settings, home).leave()
    except AgentError as error:
        if getattr(error, "code", "") == "device_revoked":
            return []
        return [f"the device's page: the portal could not be told ({error}); remove the device there"]
    return []


def _listed(engine: Engine, path: str, wanted: "dict[str, str]", *, all_: str = "0") -> "list[str]":
    return [item["Id"] for item in engine.call("GET", path, query={**wanted, "all": all_})]


def _others(engine: Engine) -> bool:
    """Whether another agent's containers or networks are on this Engine; ours are gone by now."""
    wanted = filters(label=[f"{LABEL}device"])
    return bool(_listed(engine, "/containers/json", wanted, all_="1") or _listed(engine, "/networks", wanted))


def _image_names(home: Home) -> "set[str]":
    """Return the images that came with apps of this device; those that were here before us are not among them."""
    try:
        return set((home.archives / LOADED).read_text().split())
    except OSError:
        return set()


def _remove_images(engine: Engine, names: "set[str]", *, alone: bool) -> None:
    """Images still named by leases; and, when no other agent is here, every one that carries our name."""
    if alone:
        for item in engine.call("GET", "/images/json", query=filters(reference=[TAG, holders.REPOSITORY])):
            names |= set(item.get("RepoTags") or [])
    for name in names:
        engine.call("DELETE", f"/images/{name}", ignore=GONE)


def _remove_rules() -> None:
    """Take our chains out of iptables; what is not there is passed over."""
    for family in firewall.families():
        family.remove()
    with contextlib.suppress(OSError):
        Path("/run/lock/interchain-firewall").unlink()


def _remove_cgroups() -> None:
    root = Path("/sys/fs/cgroup")
    for home in [root / counters.CGROUP_HOME, *root.glob(f"*/{counters.CGROUP_HOME}")]:
        for folder in sorted(home.glob("*/"), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            home.rmdir()


def _remove_files(base: Path, home: Home) -> None:
    """The whole installation if it is one; otherwise the device's folder alone."""
    whole = (base / "versions").is_dir() and (base / "launch").is_file()
    shutil.rmtree(base if whole else home.root, ignore_errors=True)


def _remains(engine: Engine, mine: "dict[str, str]", *, keep_volumes: bool) -> "list[tuple[str, str]]":
    found = [("container", name) for name in _listed(engine, "/containers/json", mine, all_="1")]
    found += [("network", name) for name in _listed(engine, "/networks", mine)]
    if not keep_volumes:
        names = engine.call("GET", "/volumes", query=mine).get("Volumes") or []
        found += [("volume", item["Name"]) for item in names]
    return found
