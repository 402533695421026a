"""The same container with one lock taken off, to see that the probe behind it would succeed: a probe that never can proves nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nodes.agent.config import Config
from nodes.agent.engine import Engine
from nodes.agent.protocol import Image, Profile
from nodes.agent.sandbox import Placement, container_arguments
from nodes.agent.tests.conftest import workload
from nodes.agent.tests.probes import program
from nodes.agent.tests.probes.scene import DISK_BYTES, MEMORY_BYTES, Scene

Arguments = dict[str, Any]
NAME = "interchain-probe-weakened"


@dataclass(frozen=True)
class Weakening:
    """What is taken off, and the probes that must then succeed, or at least no longer be refused as before."""

    name: str
    take_off: Callable[[Arguments, Scene], None]
    probes: tuple[str, ...]
    profile: Profile = Profile.BASELINE


def capabilities(*names: str) -> Callable[[Arguments, Scene], None]:
    def take_off(arguments: Arguments, scene: Scene) -> None:
        arguments["HostConfig"]["CapAdd"] = [*arguments["HostConfig"]["CapAdd"], *names]
        no_filter(arguments, scene)  # which would refuse the calls that need these

    return take_off


def no_filter(arguments: Arguments, scene: Scene) -> None:
    arguments["HostConfig"]["SecurityOpt"] = ["no-new-privileges", "seccomp=unconfined"]


def new_privileges(arguments: Arguments, scene: Scene) -> None:
    arguments["HostConfig"]["SecurityOpt"] = arguments["HostConfig"]["SecurityOpt"][1:]


def all_devices(arguments: Arguments, scene: Scene) -> None:
    capabilities("MKNOD", "SYSLOG")(arguments, scene)
    arguments["HostConfig"]["DeviceCgroupRules"] = ["c *:* rwm"]


def nothing_masked(arguments: Arguments, scene: Scene) -> None:
    arguments["HostConfig"] |= {"MaskedPaths": [], "ReadonlyPaths": []}


def binds(*paths: str) -> Callable[[Arguments, Scene], None]:
    def take_off(arguments: Arguments, scene: Scene) -> None:
        arguments["HostConfig"]["Binds"] = [path.format(canary=scene.canary.parent) for path in paths]

    return take_off


def setting(name: str, value: object) -> Callable[[Arguments, Scene], None]:
    def take_off(arguments: Arguments, scene: Scene) -> None:
        arguments["HostConfig"][name] = value

    return take_off


def all_processes(arguments: Arguments, scene: Scene) -> None:
    capabilities("SYS_PTRACE", "KILL")(arguments, scene)
    arguments["HostConfig"]["PidMode"] = "host"


def writable_tmp(arguments: Arguments, scene: Scene) -> None:
    arguments["HostConfig"]["ReadonlyRootfs"] = False
    arguments["HostConfig"]["Tmpfs"] = {"/tmp": "rw,exec,mode=1777"}
    arguments["User"] = "0:0"
    arguments["HostConfig"]["CapAdd"] = ["DAC_OVERRIDE"]


WEAKENINGS = (
    Weakening("no seccomp filter", no_filter, ("add-key", "keyctl", "io-uring", "hypervisor", "unshare-user", "clone-user", "clone3-user")),
    Weakening("may gain privileges", new_privileges, ("setuid-program",)),
    Weakening("CAP_SYS_ADMIN", capabilities("SYS_ADMIN"), ("gain-capability", "bpf", "fanotify", "unshare-mount", "unshare-network", "unshare-cgroup", "join-namespace", "mount-tmpfs", "mount-bind", "mount-shared", "fs-open", "open-tree", "host-name", "domain-name", "swap-on", "quota", "pivot-root")),
    Weakening("CAP_SYS_BOOT", capabilities("SYS_BOOT"), ("reboot",)),
    Weakening("CAP_SYS_MODULE", capabilities("SYS_MODULE"), ("module", "module-file")),
    Weakening("CAP_SYS_TIME", capabilities("SYS_TIME"), ("set-clock", "slew-clock")),
    Weakening("CAP_SYS_NICE", capabilities("SYS_NICE"), ("priority", "disk-priority")),
    Weakening("no limits of files", setting("Ulimits", []), ("raise-file-size", "raise-core")),
    Weakening("CAP_SYSLOG", capabilities("SYSLOG"), ("kernel-log",)),
    Weakening("CAP_SYS_CHROOT", capabilities("SYS_CHROOT"), ("change-root",)),
    Weakening("CAP_SYS_TTY_CONFIG", capabilities("SYS_TTY_CONFIG"), ("hang-up",)),
    Weakening("CAP_SETFCAP", capabilities("SETFCAP"), ("file-capability",)),
    Weakening("CAP_DAC_READ_SEARCH", capabilities("DAC_READ_SEARCH"), ("file-handle",)),
    Weakening("CAP_NET_RAW", capabilities("NET_RAW"), ("raw-socket", "raw-icmp", "packet-socket", "transparent")),
    Weakening("CAP_NET_ADMIN", capabilities("NET_ADMIN"), ("netfilter", "listen-all", "replace-rules", "mark", "set-hardware", "other address", "ARP entry", "route")),
    Weakening("all devices", all_devices, ("make-node", "open-node")),
    Weakening("nothing of /proc masked", nothing_masked, ("read /proc/keys", "read /proc/timer_list", "write /proc/sys/vm/drop_caches", "write /proc/sys/vm/panic_on_oom")),
    Weakening("cgroups mounted", binds("/sys/fs/cgroup:/sys/fs/cgroup"), ("new cgroup",)),
    Weakening("a device given", setting("Devices", [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}]), ("find-device",)),
    Weakening("sees all processes", all_processes, ("signal", "trace", "open process", "read process", "find-secret")),
    Weakening("Docker's socket mounted", binds("/var/run/docker.sock:/var/run/docker.sock"), ("engine-socket",)),
    Weakening("a folder of the device mounted", binds("{canary}:/mnt:ro"), ("find-file",)),
    Weakening("the device's network", setting("NetworkMode", "host"), ("abstract-socket", "portal")),
    Weakening("a writable root", writable_tmp, ("writable root", "writable programs", "run from tmp"), Profile.RESTRICTED),
    Weakening("a bridge without rules", lambda arguments, scene: None, ("device by TCP", "device by ping", "portal", "LAN by TCP", "LAN by ping", "metadata", "link-local", "link-local by ping", "neighbour's port", "mail", "internet by TCP", "internet by ping")),
)  # fmt: skip

# The same for bombs: what is taken off, and a bomb that must then go off.
UNBOUNDED = (
    ("no limit of processes", setting("PidsLimit", 0), "fork-bomb 1000"),
    ("no limit of memory", lambda arguments, scene: arguments["HostConfig"].update(Memory=0, MemorySwap=0), "memory-bomb 384"),
    ("no limit of shared memory", lambda arguments, scene: arguments["HostConfig"].update(Memory=0, MemorySwap=0, ShmSize=2**28, Ulimits=[]), "file-bomb /dev/shm/bomb 192"),
    ("a higher limit of open files", setting("Ulimits", [{"Name": "nofile", "Soft": 18_000, "Hard": 18_000}]), "descriptor-bomb 17000"),
    ("no limit of a file's size", lambda arguments, scene: arguments["HostConfig"].update(Ulimits=[]), "file-bomb /tmp/large 128"),
    ("no limit of message queues", lambda arguments, scene: arguments["HostConfig"].update(Ulimits=[]), "queue-bomb 6"),
)  # fmt: skip


def arguments_for(weakening: Weakening, scene: Scene) -> Arguments:
    """Return what the agent would send to Docker, less the lock; outside every network the agent sets up."""
    what = workload(
        image=Image(reference=program.image()),
        profile=weakening.profile,
        memory_bytes=MEMORY_BYTES,
        disk_bytes=DISK_BYTES,
    )
    at = Placement("probe", what.id, 1, program.image(), "127.0.0.1", 0, bridge="bridge", address="")
    arguments = container_arguments(what, at)
    del arguments["NetworkingConfig"], arguments["Labels"]
    arguments["HostConfig"]["PortBindings"] = {}
    weakening.take_off(arguments, scene)
    if arguments["HostConfig"]["NetworkMode"] == "host":
        del arguments["Hostname"], arguments["ExposedPorts"]
    return arguments


@contextmanager
def container(arguments: Arguments) -> Iterator[str]:
    """Create and start it; returns its id."""
    engine = Engine(Config.engine)
    engine.call("DELETE", f"/containers/{NAME}", query={"force": "1"}, ignore=(404,))
    made = engine.call("POST", "/containers/create", arguments, query={"name": NAME})["Id"]
    try:
        engine.call("POST", f"/containers/{made}/start")
        yield made
    finally:
        engine.call("DELETE", f"/containers/{made}", query={"force": "1", "v": "1"}, ignore=(404,))


def outcomes(made: str, *lines: list[str]) -> dict[str, str]:
    """Run probes in it, by their words; returns how each ended."""
    items = [",".join(line) for line in lines]
    done = subprocess.run(
        ["docker", "exec", made, "/bin/probe", "each", *items], capture_output=True, text=True, check=False
    )
    found = [line.rpartition(": ") for line in done.stdout.splitlines() if ": " in line]
    assert len(found) == len(lines), done.stdout + done.stderr
    return {" ".join(line): end for line, (_, _, end) in zip(lines, found, strict=True)}
