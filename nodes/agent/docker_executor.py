"""Runs leases on this device's Docker Engine. The promises are in `executor.py`; what a container may do is in `sandbox.py`.

Longer than 300 lines because it is the whole of the executor's promise, step by step.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nodes.agent import (
    bounded_layers,
    computer,
    counters,
    diagnosis,
    disk_pace,
    holdings,
    layer_links,
    layers,
    ports,
    runtimes,
    sandbox,
    volume_files,
)
from nodes.agent.abilities import Ability
from nodes.agent.bounded_layers import BoundedLayers, LayerLost, Opening
from nodes.agent.bridges import Bridge, Bridges
from nodes.agent.config import Config, OwnLimits
from nodes.agent.disk_reserve import WATCHED_BYTES, DiskReserve, Place
from nodes.agent.encryption import BoundElsewhere
from nodes.agent.engine import Engine, EngineDown, EngineError, filters, is_disk_full
from nodes.agent.errors import AgentError, Cancelled, LeaseError
from nodes.agent.executor import STOP_SECONDS, Layer, Volume
from nodes.agent.holders import lease_of, port_taken
from nodes.agent.images import Images, Local
from nodes.agent.log_brake import LogBrake
from nodes.agent.protocol import LOG_TAIL_BYTES, LOG_TAIL_LINES, DesiredLease, Reason, Workload
from nodes.agent.reconcile import Seen
from nodes.agent.sandbox import LABEL
from nodes.agent.trials import Trials
from nodes.agent.volumes import Volumes

log = logging.getLogger(__name__)
GONE = (404,)
INIT_PROGRAM = "docker-init"
NO_IMAGE = "no such image"  # somebody removed it, another agent or the owner: it is fetched again with the next try


class DockerExecutor:
    """One device's containers on one Engine."""

    def __init__(
        self,
        config: Config,
        *,
        engine: Engine,
        images: Images,
        restore: "Callable[[DesiredLease, str, threading.Event], None]" = lambda lease, path, cancelled: None,
        proven: "Callable[[], str]" = lambda: "",
        own: "OwnLimits | None" = None,
        tried: "Trials | None" = None,
        disk_pace: "Callable[[], int]" = lambda: 0,
    ) -> None:
        """Args: restore: lets the volume at a path hold what the lease is to begin with (snapshots.py).
        proven: the Engine's name of the runtime that was proven to be gVisor, "" while none is (gvisor.py).
        own: the owner's limits; None for who starts nothing.
        tried: what the doctor has found out already.
        disk_pace: bytes a second the disk takes with flushes, 0 while that is unknown."""
        self._config, self._engine, self._images, self._restore = config, engine, images, restore
        self._brake, self._own = LogBrake(engine), own
        self._gvisor, self._disk_pace = proven, disk_pace
        self._bridges, self._volumes = Bridges(config, engine), Volumes(config, engine)
        self._tried = tried or Trials(engine, device_id=config.device_id)
        self._docker_root, self._layers = "/", layers.Limit()
        self._reserve = DiskReserve()
        self._bounded = BoundedLayers(config.device_id, engine, self._volumes.openers)
        self._layer_details: dict[str, dict[str, Any]] = {}  # by container: what `layers.look` needs of it, asked once
        self._cgroup_driver, self._has_init = "", False
        self._mine = f"{LABEL}device={config.device_id}"

    def observe(self) -> "dict[str, Seen]":
        listed = self._containers()
        # A network or a layer, and perhaps no container with it.
        left = {*filter(None, map(lease_of, listed)), *self._bounded.leases()}
        found = {lease_id: Seen(lease_id, generation=0, workload_id="") for lease_id in left}
        for item in listed:
            detail = self._inspect(item["Id"]) if f"{LABEL}lease" in item["Labels"] else None
            if detail is not None:
                seen = _seen(detail)
                found[seen.lease_id] = seen
                self._held(detail)
        there = {seen.container_id for seen in found.values()}
        self._layer_details = {name: kept for name, kept in self._layer_details.items() if name in there}
        return found

    def prepare(self) -> None:
        info = self._engine.call("GET", "/info")
        self._cgroup_driver = str(info.get("CgroupDriver") or "")
        self._docker_root = str(info.get("DockerRootDir") or "/")
        self._has_init = computer.program(INIT_PROGRAM) is not None
        listed = self._containers()
        used = {item["Labels"].get(f"{LABEL}holder") for item in listed if lease_of(item)}
        used |= {_bridge(item["Labels"], item["HostConfig"]) for item in listed if f"{LABEL}lease" in item["Labels"]}
        self._bridges.remove_unused(used)
        self._volumes.prepare(self._docker_root)
        leases = [item["Labels"][f"{LABEL}lease"] for item in listed if f"{LABEL}lease" in item["Labels"]]
        possible = Ability("Whether what the app writes can be held to a size here", self._can_bound_layers)
        self._bounded.prepare(self._docker_root, leases=leases, possible=possible)
        self._bridges.refill()

    def _can_bound_layers(self) -> bool:
        """Whether a layer gets a file system of its own: it can, and Docker does not hold it by itself."""
        info = self._engine.call("GET", "/info")
        self._layers = self._tried.docker_limit(info)
        return not self._layers.possible and not self._tried.why_layers_are_unbounded(info)

    def start(self, lease: DesiredLease, *, cancelled: threading.Event) -> Seen:
        return self._bring(lease, cancelled, start=True)

    def make_ready(self, lease: DesiredLease, *, cancelled: threading.Event) -> Seen:
        return self._bring(lease, cancelled, start=False)

    def _bring(self, lease: DesiredLease, cancelled: threading.Event, *, start: bool) -> Seen:
        try:
            detail = self._inspect(sandbox.container_name(lease.lease_id))
            if detail is not None and (detail["State"]["Running"] or not start):
                self._held(detail)
                return _seen(detail)
            if detail is None or not self._start_again(detail, lease):
                self._run(lease, cancelled, start=start)
            detail = self._inspect(sandbox.container_name(lease.lease_id))
        except EngineError as error:
            raise _start_failure(error, lease.workload, self.free()) from error
        except EngineDown as error:
            raise LeaseError(Reason.DEVICE_ERROR, str(error)) from error
        if detail is None:
            raise LeaseError(Reason.DEVICE_ERROR, "The container was removed by somebody else while it started.")
        self._held(detail)
        return _seen(detail)

    def _held(self, detail: "dict[str, Any]") -> None:
        if detail["State"]["Running"]:
            self._brake.hold(detail["Id"])

    def stop(self, lease_id: str) -> None:
        path = f"/containers/{sandbox.container_name(lease_id)}/stop"
        self._engine.call("POST", path, query={"t": STOP_SECONDS}, timeout=STOP_SECONDS + 50.0, ignore=GONE)

    def kill(self, lease_id: str) -> None:
        self._engine.call("POST", f"/containers/{sandbox.container_name(lease_id)}/kill", ignore=(404, 409))

    def remove(self, lease_id: str) -> None:
        name = sandbox.container_name(lease_id)
        detail = self._inspect(name)
        self._engine.call("DELETE", f"/containers/{name}", query={"force": "1", "v": "1"}, ignore=GONE)
        self._bounded.remove(lease_id)
        bridge = _bridge(detail["Config"]["Labels"], detail["HostConfig"]) if detail else self._bridges.of(lease_id)
        if bridge:
            self._bridges.remove(bridge, lease_id)

    def wipe(self, lease: DesiredLease, *, keep_volume: bool) -> int:
        self.stop(lease.lease_id)
        self.remove(lease.lease_id)
        if keep_volume:
            return 0
        held = self._volumes.remove(lease.workload.id)
        self._images.remove(lease.workload.image)
        return held

    def log_tail(self, lease_id: str) -> str:
        query = {"stdout": "1", "stderr": "1", "tail": str(LOG_TAIL_LINES)}
        try:
            return _plain(self._engine.raw(f"/containers/{sandbox.container_name(lease_id)}/logs", query=query))
        except EngineError:
            return ""

    def volume(self, workload_id: str) -> "Volume | None":
        return self._volumes.look(workload_id)

    def opened(self, workload_id: str) -> "AbstractContextManager[str]":
        return self._volumes.opened(workload_id)

    def layer(self, seen: Seen, allowed: int) -> "Layer | None":
        detail = self._layer_details.get(seen.container_id)
        if detail is None:
            detail = layers.lasting(self._inspect(seen.container_id) or {})
            if detail:
                self._layer_details[seen.container_id] = detail
        return layers.look({**detail, "State": {"Pid": seen.pid}}, allowed)

    def is_full(self, lease_id: str) -> bool:
        return self._bounded.is_full(lease_id)

    def know_keys(self, keys: "dict[str, str]") -> None:
        self._volumes.keys.know(keys)

    def room(self) -> int:
        return holdings.room(self._docker_root)

    def free(self) -> int:
        return holdings.free(self._docker_root)

    def growing(self, running: "Iterable[tuple[Seen, str]]", free: int) -> "set[str]":
        looked_at = running if free < WATCHED_BYTES else ()
        return self._reserve.growing([place for seen, path in looked_at for place in self._places(seen, path)], free)

    def _places(self, seen: Seen, volume_path: str) -> "Iterator[Place]":
        """Where a container writes to file systems in files of their own; under gVisor that cannot be seen."""
        names = {f"{bounded_layers.PREFIX}{seen.lease_id}": "/", seen.workload_id: volume_path}
        for name, path in names.items():
            file = sandbox.volume_name(self._config.device_id, name)
            image = Path(self._docker_root) / volume_files.FOLDER / f"{file}.img"
            if seen.pid and path and image.exists():
                yield Place(seen.lease_id, f"/proc/{seen.pid}/root{path}", image)

    def wait_for_change(self, stopping: threading.Event) -> None:
        query = filters(label=[self._mine], event=["die", "destroy"], type=["container"])
        for _ in self._engine.stream("GET", "/events", query=query, timeout=3600.0):
            return
        if not stopping.is_set():
            raise EngineDown("Docker ended the stream of events: it stopped or was started again.")

    def _run(self, lease: DesiredLease, cancelled: threading.Event, *, start: bool) -> None:
        """Create and start a container from nothing: steps 2 to 7 of a start (steps.py); a warm standby's skips 6.

        2. Image. 3. Volume, where its owner must be set. 4. Bridge and holder. 5. Container. 6. Its process runs.
        7. A spare bridge for the next one. A container that was made and never ran is started as it is.
        """
        workload = lease.workload
        under = runtimes.choose(workload, self._gvisor)
        with self._images.held(workload.image, cancelled) as image:
            _stop_if(cancelled)
            outbound = workload.outbound and self._own is not None and self._own.now.outbound
            if workload.volume_path and lease.restore.restic_id:
                with self._volumes.ready(workload, image.user), self._volumes.opened(workload.id) as path:
                    self._restore(lease, path, cancelled)
                    self._volumes.give(workload, image.user, path)
                    self._volumes.filled(workload)
            with self._bounded.fresh(lease.lease_id, workload) as layer:
                bridge = self._bridges.take(lease.lease_id, outbound=outbound, port=workload.port, alone=bool(under))
                try:
                    with self._volumes.ready(workload, image.user) as volume:
                        self._place(lease, image, bridge, outbound, under, volume=volume, layer=layer, start=start)
                except BaseException:
                    # With a container on it, it stays until the lease is removed.
                    self._bridges.remove(bridge.name, lease.lease_id)
                    raise
        self._bridges.refill_soon()

    def _place(
        self,
        lease: DesiredLease,
        image: Local,
        bridge: Bridge,
        outbound: bool,
        under: str,
        *,
        volume: str,
        layer: "Opening | None",
        start: bool,
    ) -> None:
        held = bridge.holder
        for port in [held.host_port] if held else ports.free(self._config, lease.lease_id):
            at = sandbox.Placement(
                device_id=self._config.device_id,
                lease_id=lease.lease_id,
                generation=lease.generation,
                image_id=image.id,
                host_ip=self._config.publish_address,
                host_port=port,
                bridge=bridge.name,
                address=bridge.address,
                holder=held.holder if held else "",
                cgroup_parent=counters.cgroup_parent(lease.lease_id, driver=self._cgroup_driver),
                user=image.user,
                runtime=under or self._config.runtime,
                gvisor=bool(under),
                init=self._has_init,
                dns_servers=self._config.dns_servers,
                outbound=outbound,
                volume=volume,
                layer_bytes=self._layers.bytes_for(lease.workload, image_bytes=image.size),
                layer=layer.path if layer else "",
                image_volumes=image.volumes,
                paces=disk_pace.held(
                    lease.workload.cpu_millis,
                    disk=self._disk_pace(),
                    cores=os.cpu_count() or 1,
                    volume=self._volumes.device(lease.workload),
                    layer=layer.device if layer else "",
                ),
            )
            if self._create(lease.workload, at, layer, start=start):
                return
        raise LeaseError(Reason.DEVICE_ERROR, "This device has no free port left in its range.")

    def _create(self, workload: Workload, at: sandbox.Placement, layer: "Opening | None", *, start: bool) -> bool:
        """Return False if somebody took the port meanwhile; nothing is left then."""
        name = sandbox.container_name(at.lease_id)
        folders = sandbox.kept_apart(workload, at).values()
        if layer and folders:
            layer.wait()
        for folder in folders:
            os.makedirs(folder, exist_ok=True)
        self._engine.call("POST", "/containers/create", sandbox.container_arguments(workload, at), query={"name": name})
        self._volumes.filled(workload)
        if layer:
            self._join(name, layer)
        if not start:
            return True
        try:
            self._engine.call("POST", f"/containers/{name}/start")
        except EngineError as error:
            if not port_taken(error):
                raise
            self._engine.call("DELETE", f"/containers/{name}", query={"force": "1", "v": "1"})
            return False
        return True

    def _join(self, name: str, layer: Opening) -> None:
        path, detail = layer.wait(), self._engine.call("GET", f"/containers/{name}/json")
        try:
            layer_links.join(detail, path, self._engine)
        except (EngineError, EngineDown):
            raise
        except (OSError, AgentError) as error:
            raise LeaseError(Reason.DEVICE_ERROR, f"What it writes cannot be held to a size: {error}") from error

    def _start_again(self, detail: "dict[str, Any]", lease: DesiredLease) -> bool:
        """Start an exited container, or a standby's, as it is; False if its port or network is gone, and then it is removed."""
        joined = detail["HostConfig"]["NetworkMode"].startswith("container:")
        lost = joined and self._bridges.take_up(lease.lease_id, port=lease.workload.port) is None
        if (
            detail["State"]["Status"] in ("exited", "created")
            and not lost
            and not self._volumes.is_begun(lease.workload)
        ):
            try:
                user = detail["Config"].get("User") or ""
                with self._volumes.ready(lease.workload, user), self._bounded.again(detail):
                    self._engine.call("POST", f"/containers/{detail['Id']}/start")
                return True
            except (LayerLost, BoundElsewhere) as error:
                log.warning("%s begins anew, without what it wrote beside its volume: %s", detail["Name"], error)
            except EngineError as error:
                if not port_taken(error) and error.status != 404:  # 404: its network is gone
                    raise
        self._engine.call("DELETE", f"/containers/{detail['Id']}", query={"force": "1", "v": "1"})
        self._bridges.remove(_bridge(detail["Config"]["Labels"], detail["HostConfig"]), lease.lease_id)
        return False

    def _containers(self) -> "list[dict[str, Any]]":
        query = {"all": "1", **filters(label=[self._mine])}
        return list(self._engine.call("GET", "/containers/json", query=query))

    def _inspect(self, name: str) -> "dict[str, Any] | None":
        found: dict[str, Any] | None = self._engine.call("GET", f"/containers/{name}/json", ignore=GONE)
        return found


def _start_failure(error: EngineError, workload: Workload, free: int) -> LeaseError:
    text = str(error)
    # The Engine answers 400 or 404 when the image's own command cannot be run: no retry will help.
    permanent = error.status in (400, 404) or "executable file not found" in text or "no such file" in text
    if is_disk_full(error):
        found = diagnosis.no_room(workload, free)
        return LeaseError(found.reason, found.message, permanent=found.permanent)
    if NO_IMAGE in text.lower():
        return LeaseError(Reason.DEVICE_ERROR, f"The image was removed from this device meanwhile: {text}")
    if permanent:
        return LeaseError(Reason.START_FAILED, f"The container cannot be started: {text}", permanent=True)
    return LeaseError(Reason.DEVICE_ERROR, f"Docker could not do it: {text}")


def _seen(detail: "dict[str, Any]") -> Seen:
    labels, state = detail["Config"]["Labels"], detail["State"]
    networks: dict[str, dict[str, Any]] = detail["NetworkSettings"]["Networks"] or {}
    network = next(iter(networks.values()), {})
    return Seen(
        lease_id=labels[f"{LABEL}lease"],
        generation=int(labels[f"{LABEL}generation"]),
        workload_id=labels[f"{LABEL}workload"],
        container_id=detail["Id"],
        running=bool(state["Running"]),
        exit_code=int(state["ExitCode"]),
        out_of_memory=bool(state["OOMKilled"]),
        error=str(state.get("Error") or ""),
        image_id=detail["Image"],
        address=labels.get(f"{LABEL}address") or network.get("IPAddress") or "",
        host_port=int(labels.get(f"{LABEL}port") or _host_port(detail)),
        pid=int(state["Pid"]),
        started_at=state["StartedAt"],
        bridge=_bridge(labels, detail["HostConfig"]),
        encrypted=f"{LABEL}encrypted" in labels,
        runtime=labels.get(f"{LABEL}runtime") or "",
    )


def _bridge(labels: "dict[str, str]", host: "dict[str, Any]") -> str:
    """Return the bridge of a container; those of older agents have no label that names it."""
    return labels.get(f"{LABEL}bridge") or str(host["NetworkMode"])


def _host_port(detail: "dict[str, Any]") -> int:
    published: dict[str, Any] = detail["HostConfig"].get("PortBindings") or {}
    for bindings in published.values():
        for binding in bindings or []:
            return int(binding["HostPort"] or 0)
    return 0


def _plain(data: bytes) -> str:
    """Join the frames of a log answer, and keep only what a page and a database can hold."""
    text, position = b"", 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "big")
        text += data[position + 8 : position + 8 + size]
        position += 8 + size
    readable = text.decode(errors="replace")
    return "".join(sign for sign in readable if sign in "\n\t" or sign.isprintable())[-LOG_TAIL_BYTES:]


def _stop_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled("The portal no longer wants this lease to run.")
