"""Whether containers can run under gVisor here: found out by running one as apps are run, never by reading a version.

Docker may know a runtime that does not work: runsc of before August 2024 refuses Docker's networks on kernels from 6.11 on
(google/gvisor issue 10704), `--network=host` or `--ignore-cgroups` in its options take away what apps are promised. So a trial gets
what every app gets, a bridge of its own, a published port, limits, a read-only root, a volume, and tells what it found. The trials of
all agents on one Engine have one name, so that they take turns.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.agent import computer, files, ports, runtimes, sandbox
from nodes.agent.bridges import Bridge, Bridges
from nodes.agent.config import Config
from nodes.agent.counters import Counters, cgroup_parent
from nodes.agent.diagnosis import listening
from nodes.agent.engine import Engine, EngineDown, EngineError, filters
from nodes.agent.errors import AgentError, SetupError
from nodes.agent.protocol import Check, Image, Profile, Runtime, Workload

NAME = "gvisor"  # of the check
TRIAL = "trial-gvisor"  # device and lease of a trial
MOST_RUNTIMES = 3
MEMORY_BYTES, DISK_BYTES = 128 * 2**20, 8 * 2**20
START_SECONDS, ANSWER_SECONDS, TURN_SECONDS, ASK_SECONDS = 15.0, 10.0, 20.0, 2.0
EROFS = -30
INSTALL = "https://gvisor.dev/docs/user_guide/install"
TOO_OLD = "cannot run with network enabled in root network namespace"


@dataclass(frozen=True)
class Proof:
    """What came of the trials."""

    runtime: str = ""  # the Engine's name of the one that works; "" if none does
    why: str = ""  # in words, if none does
    mend: str = ""


def check(engine: Engine, info: "dict[str, Any]", folder: "Path | None") -> Check:
    """Try what the Engine knows, and keep the result in the device's folder for the agent at work."""
    proof = prove(engine, info)
    if folder is not None:
        files.write_json(folder / runtimes.FILE, {"runtime": proof.runtime})
    if proof.runtime:
        message = f"gVisor works: apps that ask for it run under a kernel of its own ({proof.runtime})."
        return Check(NAME, True, message, needed=False)
    return Check(NAME, False, proof.why, proof.mend, needed=False)


def prove(engine: Engine, info: "dict[str, Any]") -> Proof:
    """Run the trial under each runtime the Engine knows that looks like gVisor, until one passes."""
    known = registered(info)
    if not known and computer.program("runsc"):
        mend = "Type: runsc install && systemctl restart docker"
        return Proof(why="gVisor is installed, but Docker does not know of it.", mend=mend)
    if not known:
        return Proof(why="gVisor is not installed, so apps that ask for it do not come here.", mend=f"See {INSTALL}.")
    failed = Proof()
    for name in known[:MOST_RUNTIMES]:
        try:
            _Trial(engine, info, name).run()
            return Proof(runtime=name)
        except AgentError as error:
            failed = failed if failed.why else _failure(name, str(error))
    return failed


def registered(info: "dict[str, Any]") -> "list[str]":
    """Return the Engine's runtimes that look like gVisor, `runsc` first."""
    found = [name for name, about in (info.get("Runtimes") or {}).items() if "runsc" in name + json.dumps(about)]
    return sorted(found, key=lambda name: (name != "runsc", name))


def _failure(name: str, said: str) -> Proof:
    why = f"Docker knows gVisor as {name}, but it does not work: {said}"
    if TOO_OLD in said:
        why = f"Docker knows gVisor as {name}, but that version is too old for kernel {os.uname().release}: {said}"
        return Proof(why=why, mend=f"Install one of August 2024 or newer: {INSTALL}.")
    return Proof(why=why, mend=f"Correct it in /etc/docker/daemon.json, or install it again: {INSTALL}.")


class _Trial:
    """One container under one runtime, and everything it needs; nothing of it is left."""

    def __init__(self, engine: Engine, info: "dict[str, Any]", runtime: str) -> None:
        from nodes.agent.volumes import Volumes

        self._engine, self._info, self._runtime = engine, info, runtime
        self._config = Config(TRIAL, "", "", 1, publish_address="127.0.0.1")
        self._bridges, self._volumes = Bridges(self._config, engine), Volumes(self._config, engine)
        self._workload = Workload(
            id=TRIAL, name=TRIAL, image=Image(), port=_program().PORT, memory_bytes=MEMORY_BYTES, cpu_millis=1000,
            disk_bytes=DISK_BYTES, profile=Profile.RESTRICTED, volume_path=_program().VOLUME, runtime=Runtime.GVISOR,
        )  # fmt: skip
        self._name = sandbox.container_name(TRIAL)

    def run(self) -> None:
        """Return if everything an app is promised holds.

        Raises:
            AgentError: what does not, in words.
        """
        from nodes.agent.holders import imported

        program = _program().program()
        if not program:
            raise SetupError("there is no trial for this processor.")
        self._take_turn()
        try:
            image = imported(self._engine, "interchain-trial", "gvisor", program, folder="open")
            self._volumes.prepare(str(self._info.get("DockerRootDir") or "/"))
            bridge = self._bridges.create(outbound=False)
            port = next(ports.free(self._config, bridge.name), 0)
            with self._volumes.ready(self._workload, "") as volume:
                self._start(image, bridge, port, volume)
            self._examine(bridge, port)
        finally:
            self._remove()

    def _take_turn(self) -> None:
        """Wait for another agent's trial; what is still there afterwards was left by one that was killed."""
        until = time.monotonic() + TURN_SECONDS
        while self._engine.call("GET", f"/containers/{self._name}/json", ignore=(404,)) and time.monotonic() < until:
            time.sleep(0.5)
        self._remove()

    def _start(self, image: str, bridge: Bridge, port: int, volume: str) -> None:
        at = sandbox.Placement(
            device_id=TRIAL, lease_id=TRIAL, generation=1, image_id=image, host_ip="127.0.0.1", host_port=port,
            bridge=bridge.name, address=bridge.address, runtime=self._runtime, gvisor=True, volume=volume,
            init=computer.program("docker-init") is not None,
            cgroup_parent=cgroup_parent(TRIAL, driver=str(self._info.get("CgroupDriver") or "")),
        )  # fmt: skip
        body = sandbox.container_arguments(self._workload, at)
        made = self._engine.call("POST", "/containers/create", body, query={"name": self._name})
        try:
            self._engine.call("POST", f"/containers/{self._name}/start", timeout=START_SECONDS)
        except EngineError as error:
            _end(made["Id"])
            raise SetupError(str(error)) from error
        except EngineDown as error:
            _end(made["Id"])
            raise SetupError(f"a container does not start within {START_SECONDS:.0f} seconds.") from error

    def _examine(self, bridge: Bridge, port: int) -> None:
        told = self._answer("127.0.0.1", port)
        facts, _, log = told.partition("\n")
        if "gVisor" not in log:
            raise SetupError("a container under it has the device's own kernel.")
        found = dict(re.findall(r"(\w+) (-?\d+)", facts))
        if found.get("root") != str(EROFS):
            raise SetupError(f"a read-only container is not read-only ({facts}).")
        if found.get("volume") != "0":
            raise SetupError("a volume cannot be written to.")
        detail = self._engine.call("GET", f"/containers/{self._name}/json")
        pid, identifier = int(detail["State"]["Pid"]), str(detail["Id"])
        if _program().PORT in listening(pid).everywhere:
            raise SetupError("its network is the device's kernel's (is --network=host set?).")
        if not _is_limited(pid, identifier):
            raise SetupError("it does not hold containers to their limits (is --ignore-cgroups set?).")
        counted, moved = Counters().cpu_nanoseconds(TRIAL, pid, identifier), Counters().interface_bytes(bridge.name)
        if counted is None or not counted.value:
            raise SetupError("the processor time of a container is not counted.")
        if moved is None or moved.value < len(told):
            raise SetupError("the traffic of a container is not counted.")

    def _answer(self, host: str, port: int) -> str:
        """Return what the program tells over the published port.

        Raises:
            SetupError: it does not.
        """
        until, last = time.monotonic() + ANSWER_SECONDS, "nothing answers"
        while time.monotonic() < until:
            connection = http.client.HTTPConnection(host, port, timeout=ASK_SECONDS)
            try:
                connection.request("GET", "/")
                return connection.getresponse().read(65_536).decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                last = str(error) or type(error).__name__
                time.sleep(0.1)
            finally:
                connection.close()
        detail = self._engine.call("GET", f"/containers/{self._name}/json")["State"]
        ended = "" if detail["Running"] else f", and it ended with exit code {detail['ExitCode']} {detail['Error']}"
        raise SetupError(f"the published port of a container does not answer ({last}{ended}).")

    def _remove(self) -> None:
        mine = filters(label=[f"{sandbox.LABEL}device={TRIAL}"])
        for item in self._engine.call("GET", "/containers/json", query={"all": "1", **mine}):
            self._engine.call("DELETE", f"/containers/{item['Id']}", query={"force": "1", "v": "1"}, ignore=(404, 409))
        for network in self._engine.call("GET", "/networks", query=mine):
            self._engine.call("DELETE", f"/networks/{network['Name']}", ignore=(403, 404))
        self._volumes.remove(TRIAL)
        self._engine.call("DELETE", "/images/interchain-trial:gvisor", ignore=(404, 409))
        Counters().remove_cgroup(TRIAL)


def _program() -> Any:
    from nodes.agent import gvisor_program  # two programs an agent at work can do without

    return gvisor_program


def _end(container_id: str) -> None:
    """End what a start that failed leaves: a sandbox that nobody ends, or a runtime that does not come back, for which Docker waits."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if container_id.encode() in (folder / "cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue  # ended meanwhile


def _is_limited(pid: int, container_id: str) -> bool:
    """Whether the sandbox is in the container's own cgroups, where memory, processor and processes are limited."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return False
    found = {name for line in lines for name in line.split(":")[1].split(",") if container_id in line.split(":", 2)[2]}
    return "" in found or {"memory", "cpu", "pids"} <= found  # "": the one tree of version 2
