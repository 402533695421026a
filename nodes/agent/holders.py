"""Keeps a network ready before anybody asks for it: a container that sleeps on a bridge of its own, its port published.

Setting up a container's network is two thirds of what Docker needs to start one. An app's container joins the holder's
network instead, as the containers of a Kubernetes pod join the one that holds theirs, and only the published port must be
led to the app's own. The holder is stricter locked than any app, and shares nothing with it but the network and the files
Docker derives from it (host name, resolver).

It runs nine bytes of machine code that sleep, so nothing has to be downloaded. Where that is not possible (another
processor, another container runtime) there are no holders, and each app's container sets up its own network.
"""

from __future__ import annotations

import io
import logging
import platform
import struct
import subprocess
from dataclasses import dataclass
from typing import Any

from nodes.agent import computer, ports, sandbox
from nodes.agent.config import Config
from nodes.agent.engine import Engine, EngineError, filters
from nodes.agent.errors import AgentError, SetupError

log = logging.getLogger(__name__)
REPOSITORY, TAG = "interchain-holder", "1"
RULE_SECONDS = 10
# Sleep until a signal comes, then again: pause() where there is one, else ppoll() without descriptors and end.
_PROGRAMS = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (183, struct.pack("<7I", *(0xD2800000 + register for register in range(4)), 0xD2800928, 0xD4000001, 0x17FFFFFA)),
}  # fmt: skip


@dataclass(frozen=True)
class Held:
    """A bridge with a holder on it."""

    holder: str  # the container's id
    bridge: str
    address: str
    host_port: int


class Holders:
    """The holders of one device. A spare one is named as its bridge is; one that is taken by the lease that took it."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._image = ""

    def prepare(self) -> None:
        """Make the image if the Engine does not have it; where it cannot be, there are no holders."""
        if platform.machine() not in _PROGRAMS or self._config.runtime or computer.program("nsenter") is None:
            return
        try:
            self._image = image(self._engine)
        except AgentError as error:
            log.warning("No network can be kept ready, so apps start a little later: %s", error)

    def hold(self, bridge: str, address: str) -> "Held | None":
        """Put a spare holder on a bridge; None where there are no holders."""
        if not self._image:
            return None
        host_ip = self._config.publish_address
        for port in ports.free(self._config, bridge):
            body = sandbox.holder_arguments(
                bridge, address, image=self._image, device_id=self._config.device_id, host_ip=host_ip, host_port=port
            )
            try:
                holder = self._engine.call("POST", "/containers/create", body, query={"name": bridge})["Id"]
                self._engine.call("POST", f"/containers/{holder}/start")
                return Held(holder, bridge, address, port)
            except EngineError as error:
                log.warning("The network %s is not kept ready: %s", bridge, error)
                self.release(bridge)
                if not port_taken(error):
                    return None
        return None

    def give(self, spare: Held, lease_id: str, port: int) -> bool:
        """Let a lease have a spare holder; False if it cannot be used."""
        try:
            query = {"name": sandbox.holder_name(lease_id)}
            self._engine.call("POST", f"/containers/{spare.holder}/rename", query=query)
            return self.held_by(lease_id, port) is not None
        except AgentError as error:
            log.warning("The network %s cannot be used: %s", spare.bridge, error)
            return False

    def held_by(self, lease_id: str, port: int) -> "Held | None":
        """Return the holder a lease has, running and its published port led to the app's; None if it has none that can.

        Every start of a holder begins with a fresh network, without the rule; nobody but us can set one in there.
        """
        name = sandbox.holder_name(lease_id)
        try:
            detail = self._engine.call("GET", f"/containers/{name}/json", ignore=(404,))
            if detail is not None and not detail["State"]["Running"]:
                self._engine.call("POST", f"/containers/{name}/start")
                detail = self._engine.call("GET", f"/containers/{name}/json", ignore=(404,))
            if detail is None:
                return None
            _set_rule(detail, port)
        except AgentError as error:
            log.warning("The network of lease %s cannot be used: %s", lease_id, error)
            return None
        ((bridge, network),) = detail["NetworkSettings"]["Networks"].items()
        ((binding,),) = detail["HostConfig"]["PortBindings"].values()
        return Held(detail["Id"], bridge, network["IPAddress"], int(binding["HostPort"]))

    def remove_spare(self) -> None:
        """Remove holders that no lease has taken; those of earlier runs."""
        wanted = filters(label=[f"{sandbox.LABEL}device={self._config.device_id}", f"{sandbox.LABEL}holder"])
        for item in self._engine.call("GET", "/containers/json", query={"all": "1", **wanted}):
            if not lease_of(item):
                self.release(item["Id"])

    def release(self, name: str) -> None:
        """Remove a holder, by name or id, if there is one."""
        self._engine.call("DELETE", f"/containers/{name}", query={"force": "1", "v": "1"}, ignore=(404,))


def image(engine: Engine) -> str:
    """Return the id of the image that sleeps, made if the Engine does not have it; "" on a processor it cannot be made for."""
    program, name = _PROGRAMS.get(platform.machine()), f"{REPOSITORY}:{TAG}"
    if program is None:
        return ""
    if engine.call("GET", f"/images/{name}/json", ignore=(404,)) is None:
        return imported(engine, REPOSITORY, TAG, _elf(*program))
    return str(engine.call("GET", f"/images/{name}/json")["Id"])


def imported(engine: Engine, repository: str, tag: str, program: bytes, *, folder: str = "") -> str:
    """Make an image that holds nothing but a program, and runs it; returns its id.

    Args:
        folder: one that anybody may write to, beside the program.
    """
    query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": 'ENTRYPOINT ["/hold"]'}
    for _ in engine.stream("POST", "/images/create", query=query, body=[_root(program, folder)]):
        pass
    return str(engine.call("GET", f"/images/{repository}:{tag}/json")["Id"])


def lease_of(item: "dict[str, Any]") -> str:
    """Return the lease whose holder a listed container is; "" if it is a spare one or none at all."""
    prefix = "/" + sandbox.holder_name("")
    return next((name.removeprefix(prefix) for name in item["Names"] if name.startswith(prefix)), "")


def port_taken(error: EngineError) -> bool:
    """Whether somebody else has the port to be published."""
    return any(words in str(error) for words in ("port is already allocated", "address already in use"))


def _set_rule(detail: "dict[str, Any]", port: int) -> None:
    """Make the rule the only one there: a second call with another port leaves one rule as well."""
    address = next(iter(detail["NetworkSettings"]["Networks"].values()))["IPAddress"]
    rule = f"-p tcp -m tcp --dport {sandbox.HOLDER_PORT} -j DNAT --to-destination {address}:{port}"
    text = f"*nat\n:PREROUTING ACCEPT [0:0]\n-F PREROUTING\n-A PREROUTING {rule}\nCOMMIT\n"
    restore = computer.program("iptables-restore")
    command = ["nsenter", f"--net=/proc/{detail['State']['Pid']}/ns/net", restore or "iptables-restore", "--noflush"]
    try:
        subprocess.run(command, input=text, capture_output=True, text=True, timeout=RULE_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"its port cannot be led to the app's: {error}") from error


def _root(program: bytes, folder: str) -> bytes:
    """Return a tar with nothing but the program, and the folder if there is to be one."""
    import tarfile  # for the first start on a device alone

    info, out = tarfile.TarInfo("hold"), io.BytesIO()
    info.size, info.mode = len(program), 0o755
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(info, io.BytesIO(program))
        if folder:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(info)
    return out.getvalue()


def _elf(machine: int, code: bytes) -> bytes:
    """Return the smallest 64-bit ELF executable that runs this code: header, one read-and-execute segment, code."""
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x10000)
    return header + segment + code
