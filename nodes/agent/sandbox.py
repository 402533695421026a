"""From a workload to the arguments of a locked container (DESIGN §6). Pure: the same in, the same out; no Docker here.

Every line that takes something away from a container has its reason beside it. What a workload may have beyond this is a
named field of `Workload`, never a switch in here.

Longer than 300 lines because all that a container gets stands in one place.
"""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from typing import Any

from nodes.agent import limits, seccomp
from nodes.agent.disk_pace import Pace, blkio
from nodes.agent.protocol import Profile, Runtime, Workload

LABEL = "io.interchain."
LAYER_LABEL = f"{LABEL}layer"  # of a container whose writable layer is a file system of its own
# What ordinary public images need to set up their own user and files, and nothing that reaches the kernel or the network.
BASELINE_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID")
NOBODY = 65_532  # "nonroot" in the distroless images: owns nothing on an ordinary device
PROCESSES = 512
OPEN_FILES = 16_384  # below the hard limit Docker itself commonly has: raising one needs rights it may lack
QUEUE_BYTES = 409_600
PENDING_SIGNALS = 4096
TMPFS_BYTES = 64 * 2**20
LOG_FILES, LOG_FILE_SIZE = 2, "1m"
PERIOD_MICROSECONDS = 100_000
HOLDER_PORT = 1  # inside a holder's network; led to the app's own
OPENED_AT = "/volume"
HOLDER_BYTES = 16 * 2**20
# The prefix of a bridge's name is its firewall policy (firewall.py): no window in which a new bridge has no rule.
CLOSED_PREFIX, OUTBOUND_PREFIX = "icn-", "ico-"
CLOSED_NAMES = {
    "Dns": ["127.0.0.1"],  # Docker's resolver would tunnel data out of a closed app
    "DnsOptions": ["timeout:1", "attempts:1"],  # a look-up that cannot succeed fails at once
}


@dataclass(frozen=True)
class Placement:
    """Where on this device a lease runs; everything that is the device's choice and not the workload's."""

    device_id: str
    lease_id: str
    generation: int
    image_id: str
    host_ip: str
    host_port: int
    bridge: str  # its own; the prefix of the name is the firewall policy
    address: str  # the container's on it, "10.231.4.10"
    holder: str = ""  # id of the container to be joined, which has the network and the published port (holders.py)
    cgroup_parent: str = ""
    user: str = ""  # what the image itself asks to run as
    runtime: str = ""  # the Engine's name of it; empty: its default
    gvisor: bool = False  # whether that runtime is gVisor
    init: bool = False  # whether this Engine has docker-init
    dns_servers: tuple[str, ...] = ()
    outbound: bool = False  # asked for by the release and allowed by the owner
    volume: str = ""  # the name of the encrypted volume that was opened for it; else the workload's own
    layer_bytes: int = 0  # what Docker is to hold the writable layer to; 0 where it cannot
    # Folders the image wants kept apart: Docker alone would give each the owner's whole disk.
    image_volumes: tuple[str, ...] = ()
    paces: tuple[Pace, ...] = ()  # what may be written to its loop devices
    layer: str = ""  # where the file system of its writable layer is mounted; "" where it has none


def container_name(lease_id: str) -> str:
    return f"interchain-{lease_id}"


def holder_name(lease_id: str) -> str:
    """Return the name of the holder a lease has taken; a spare one is named as its bridge is."""
    return f"interchain-network-{lease_id}"


def volume_name(device_id: str, workload_id: str) -> str:
    """One volume per workload and device: agents that share an Engine never share data."""
    return f"interchain-{_short(device_id)}-{workload_id}"


def labels(device_id: str, lease_id: str, generation: int, workload_id: str) -> dict[str, str]:
    """Return the labels all state is derived from; a person removes everything of ours by them."""
    return {
        f"{LABEL}device": device_id,
        f"{LABEL}lease": lease_id,
        f"{LABEL}generation": str(generation),
        f"{LABEL}workload": workload_id,
    }


def network_arguments(name: str, subnet: str, device_id: str) -> dict[str, Any]:
    """Return the body of `POST /networks/create`. The interface is named as the network is."""
    return {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": "bridge",
        "EnableIPv6": False,  # one address family, one set of firewall rules
        "IPAM": {"Driver": "default", "Config": [{"Subnet": subnet}]},
        "Labels": {f"{LABEL}device": device_id},
        "Options": {
            "com.docker.network.bridge.name": name,
            # Nobody else is on this bridge; this keeps it so even if somebody is put there by hand.
            "com.docker.network.bridge.enable_icc": "false",
        },
    }


def container_arguments(workload: Workload, at: Placement) -> dict[str, Any]:
    """Return the body of `POST /containers/create`."""
    port = f"{workload.port}/tcp"
    place = {"bridge": at.bridge, "address": at.address, "port": str(at.host_port)}
    if at.volume:
        place["encrypted"] = "1"
    if at.layer:
        place["layer"] = "1"
    place["runtime"] = (Runtime.GVISOR if at.gvisor else Runtime.RUNC).value
    arguments: dict[str, Any] = {
        "Image": at.image_id,  # by id: a tag may be moved between the check and the start
        "Labels": labels(at.device_id, at.lease_id, at.generation, workload.id)
        | {f"{LABEL}{name}": value for name, value in place.items()},
        "Env": [f"{name}={value}" for name, value in sorted(workload.environment.items())],
        "ExposedPorts": {port: {}},
        "Hostname": workload.name,
        "HostConfig": _host_config(workload, at, port),
        "NetworkingConfig": {"EndpointsConfig": {at.bridge: {"IPAMConfig": {"IPv4Address": at.address}}}},
        # The image's own health check would run a second, unmetered probe with the app's money.
        "Healthcheck": {"Test": ["NONE"]},
    }
    if workload.profile is Profile.RESTRICTED:
        arguments["User"] = unprivileged(at.user)
    return _joined(arguments, at) if at.holder else arguments


def _joined(arguments: dict[str, Any], at: Placement) -> dict[str, Any]:
    """Leave out what the holder has of it: address, port, host name and resolver."""
    theirs, network = ("ExposedPorts", "Hostname", "NetworkingConfig"), ("PortBindings", "Dns", "DnsOptions")
    host = {name: value for name, value in arguments["HostConfig"].items() if name not in network}
    kept = {name: value for name, value in arguments.items() if name not in theirs}
    return kept | {"HostConfig": host | {"NetworkMode": f"container:{at.holder}"}}


def holder_arguments(
    bridge: str,
    address: str,
    *,
    image: str,
    device_id: str,
    host_ip: str,
    host_port: int,
) -> dict[str, Any]:
    """Return the body of `POST /containers/create` for what holds a network ready; it runs our own few bytes only."""
    port = f"{HOLDER_PORT}/tcp"
    return {
        "Image": image,
        "Labels": {f"{LABEL}device": device_id, f"{LABEL}holder": bridge},
        "User": f"{NOBODY}:{NOBODY}",
        "Hostname": "app",
        "ExposedPorts": {port: {}},
        "NetworkingConfig": {"EndpointsConfig": {bridge: {"IPAMConfig": {"IPv4Address": address}}}},
        "HostConfig": {
            "NetworkMode": bridge,
            "PortBindings": {port: [{"HostIp": host_ip, "HostPort": str(host_port)}]},
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Memory": HOLDER_BYTES,
            "MemorySwap": HOLDER_BYTES,
            "PidsLimit": 4,
            "LogConfig": {"Type": "none"},
            "CgroupnsMode": "private",
            "IpcMode": "private",
            "RestartPolicy": {"Name": "no"},
            **CLOSED_NAMES,
        },
    }


def opener_arguments(*, image: str, labels: dict[str, str], options: dict[str, str]) -> dict[str, Any]:
    """Return the body of `POST /containers/create` for what has a file system mounted for the agent (openers.py); it never starts.

    Args:
        options: of Docker's local driver, for its one volume, which has no name and goes with it.
    """
    own = {"NoCopy": True, "DriverConfig": {"Name": "local", "Options": options}}
    return {
        "Image": image,
        "Labels": labels,
        "User": f"{NOBODY}:{NOBODY}",
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [{"Type": "volume", "Source": "", "Target": OPENED_AT, "VolumeOptions": own}],
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Memory": HOLDER_BYTES,
            "MemorySwap": HOLDER_BYTES,
            "PidsLimit": 4,
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
        },
    }


def _host_config(workload: Workload, at: Placement, port: str) -> dict[str, Any]:
    restricted = workload.profile is Profile.RESTRICTED
    config: dict[str, Any] = {
        "NetworkMode": at.bridge,  # its own bridge: no neighbour to listen to
        "PortBindings": {port: [{"HostIp": at.host_ip, "HostPort": str(at.host_port)}]},  # exactly one published port
        "PublishAllPorts": False,  # ports the image declares beyond that stay inside
        "CapDrop": ["ALL"],  # Docker's default set can forge packets and make device nodes
        "CapAdd": [] if restricted else list(BASELINE_CAPABILITIES),
        "SecurityOpt": [
            "no-new-privileges",  # set-uid programs in the image gain nothing
            f"seccomp={seccomp.profile()}",  # Docker's default of before version 25 leaves io_uring open
        ],
        "Privileged": False,
        "Init": at.init,  # the app is not process 1, so SIGTERM ends it at once and its orphans are reaped
        "ReadonlyRootfs": restricted,  # nothing written outlives the process, nothing of the image is changed
        "Memory": workload.memory_bytes,  # the kernel kills inside this cgroup instead of on the owner's desktop
        "MemorySwap": workload.memory_bytes,  # equal to memory: no swap, which would wear the owner's disk
        "CpuPeriod": PERIOD_MICROSECONDS,
        "CpuQuota": workload.cpu_millis * PERIOD_MICROSECONDS // 1000,  # a hard cap, not a share
        "PidsLimit": PROCESSES,  # a fork bomb stops here
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},  # a crash must not write memory, with its secrets, to disk
            {
                "Name": "fsize",
                "Soft": workload.disk_bytes,
                "Hard": workload.disk_bytes,
            },  # no single file passes the limit
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},  # kernel memory for file handles is the host's
            # Linux counts these two for all programs with one user number, the owner's own among them, and lets each
            # have 819,200 and tens of thousands: apps, all together, leave the rest.
            {"Name": "msgqueue", "Soft": QUEUE_BYTES, "Hard": QUEUE_BYTES},
            {"Name": "sigpending", "Soft": PENDING_SIGNALS, "Hard": PENDING_SIGNALS},
        ],
        # Logs live on the owner's disk outside every other limit.
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_FILE_SIZE, "max-file": str(LOG_FILES)}},
        "CgroupnsMode": "private",  # hides what else runs here
        "IpcMode": "private",  # no shared memory with others
        "RestartPolicy": {"Name": "no"},  # the agent restarts, so that it can say why and give up
        **({"Dns": list(at.dns_servers)} if at.outbound else CLOSED_NAMES),
    }
    if restricted:
        options = f"rw,noexec,nosuid,nodev,size={TMPFS_BYTES},mode=1777"
        # What the image wants kept apart would be the one place on the owner's disk that it may fill; it has the image's
        # permissions for its user.
        user, _, group = unprivileged(at.user).partition(":")
        apart = dict.fromkeys(_other_volumes(workload, at), f"{options},uid={user},gid={group}")
        config["Tmpfs"] = {**apart, "/tmp": options, "/run": options}  # noqa: S108 (inside the container)
    if at.cgroup_parent:
        config["CgroupParent"] = at.cgroup_parent  # its counters outlive the container's own (counters.py)
    if at.runtime:
        config["Runtime"] = at.runtime
    if at.layer_bytes and not restricted:
        config["StorageOpt"] = {"size": str(at.layer_bytes)}  # the kernel's quota: more cannot be written
    mounts = [_volume(workload, at)] if workload.volume_path else []
    mounts += [_apart(path, folder) for path, folder in kept_apart(workload, at).items()]
    if mounts:
        config["Mounts"] = mounts
    return config | blkio(at.paces)  # a flush that waits for nobody keeps no neighbour waiting


def _volume(workload: Workload, at: Placement) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": at.volume or volume_name(at.device_id, workload.id),
        "Target": workload.volume_path,
        "VolumeOptions": {
            "Labels": volume_labels(at.device_id, workload.id),
            # Copying the image's folder would also copy its owner, root, whom a restricted app is not.
            "NoCopy": workload.profile is Profile.RESTRICTED,
        },
    }


def _apart(path: str, folder: str) -> dict[str, Any]:
    """A volume without a name, as Docker would make, so that it is filled from the image and goes with the container."""
    options = {"type": "none", "device": folder, "o": "bind,nodev,nosuid"}
    driver = {"Name": "local", "Options": options}
    return {"Type": "volume", "Target": path, "VolumeOptions": {"DriverConfig": driver}}


def kept_apart(workload: Workload, at: Placement) -> dict[str, str]:
    """Return for each folder the image wants kept apart the one in the layer's file system that is mounted there."""
    if not at.layer:
        return {}
    return {path: f"{at.layer}/apart-{number}" for number, path in enumerate(_other_volumes(workload, at))}


def _other_volumes(workload: Workload, at: Placement) -> list[str]:
    """Return the folders the image wants kept apart, without the one that is the workload's volume."""
    paths = {posixpath.normpath(f"/{path.lstrip('/')}") for path in at.image_volumes}
    return sorted(paths - {posixpath.normpath(workload.volume_path or "/")})


def layer_allowance(workload: Workload) -> int:
    """Return the bytes a container may write beside its volume: all it has where there is none, else a quarter of that."""
    return limits.layer_bytes(workload.disk_bytes, workload.profile.value, has_volume=bool(workload.volume_path))


def volume_labels(device_id: str, workload_id: str) -> dict[str, str]:
    return {f"{LABEL}device": device_id, f"{LABEL}workload": workload_id}


def unprivileged(user: str) -> str:
    """Return the image's user if it is a number other than root's, else nobody: a name may be root's in the image's own files."""
    name, _, group = user.partition(":")
    if _is_other_than_root(name):
        return f"{name}:{group if _is_other_than_root(group) else name}"
    return f"{NOBODY}:{NOBODY}"


def _is_other_than_root(number: str) -> bool:
    # "²" is a digit too, and a number that wraps around 32 bits could be root's after all.
    return number.isascii() and number.isdigit() and len(number) <= 10 and 0 < int(number) < 2**31


def _short(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()[:10]
