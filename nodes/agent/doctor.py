"""Says whether this device may run strangers' programs, and what to do where it may not.

The same checks everywhere: `interchain-node doctor`, before enrolment, at each start, and once an hour for the device's page.
"""

from __future__ import annotations

import email.utils
import http.client
import os
import socket
import time
import urllib.parse
from pathlib import Path
from typing import Any

from nodes.agent import computer, trials, tunnel, watches, wording
from nodes.agent.config import Config
from nodes.agent.counters import Counters
from nodes.agent.engine import SPOKEN, Engine, EngineDown, number
from nodes.agent.errors import AgentError, SetupError, plainly
from nodes.agent.firewall import Firewall
from nodes.agent.perf import Perf
from nodes.agent.protocol import CLOCK_SKEW_SECONDS, Check

OLDEST_API = (1, 41)
NEWEST_TRIED = (28, 5)  # of Docker itself
LEAST_DISK_BYTES, GOOD_DISK_BYTES = 2 * 10**9, 10 * 10**9
NETWORK_SECONDS = 5.0
ZONE_FOLDERS = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo")
REGISTRY = ("registry-1.docker.io", 443)


def examine(
    engine: Engine,
    firewall: Firewall,
    *,
    folder: "Path | None" = None,
    portal_url: str = "",
    tried: "trials.Trials | None" = None,
) -> "list[Check]":
    """Return every check, in the order a person would mend them.

    Args:
        folder: where the agent keeps its files; without it the disk is looked at where Docker keeps its own.
        portal_url: without it the network and the clock are not looked at.
        tried: what the caller will ask for afterwards.
    """
    checks, info = [_time_zones(), _snapshots()], {}
    try:
        version, info = engine.call("GET", "/version"), engine.call("GET", "/info")
        checks += [
            *_version(version),
            *_isolation(info),
            _storage(info),
            *trials.run(engine, info, folder=folder, tried=tried),
        ]
    except EngineDown as error:
        checks.append(Check("docker", False, error.what, error.mend))
    except AgentError as error:
        checks.append(Check("docker", False, str(error)))
    checks += [
        *_kernel(),
        watches.raise_limits(),
        _ssh(),
        disk(folder, info),
        _firewall(firewall, has_engine=bool(info)),
    ]
    if portal_url:
        checks += [*_portal(portal_url), _outbound()]
    return checks


def require(checks: "list[Check]", *, but: str = "") -> None:
    """Return if everything needed holds.

    Args:
        but: the check that may fail.

    Raises:
        SetupError: with every reason and its remedy, one a line.
    """
    missing = [check for check in checks if check.needed and not check.ok and check.name != but]
    wrong = [f"{check.message} {check.mend}".strip() for check in missing]
    if wrong:
        raise SetupError("\n".join(wrong))


def line(check: Check) -> str:
    """Return a check as a terminal shows it."""
    head = "ok  " if check.ok else "FAIL" if check.needed else "note"
    return f"{head}  {check.message}" + (f"\n      {check.mend}" if check.mend and not check.ok else "")


def _time_zones() -> Check:
    if not any((Path(folder) / "Europe/Berlin").exists() for folder in ZONE_FOLDERS):
        message = "This computer has no list of time zones, so hours of the week would keep it closed."
        return Check("time_zones", False, message, "Type: apt-get install tzdata", needed=False)
    return Check("time_zones", True, "Time zones are known.")


def _snapshots() -> Check:
    """Without it apps that keep data run here all the same, but their data exists only here."""
    return _either(
        "snapshots", computer.program("restic") is not None, "Apps' data can be copied to a safe place.",
        "restic is missing, so apps' data on this device cannot be copied anywhere.",
        "Type: apt-get install restic", needed=False,
    )  # fmt: skip


def _version(version: "dict[str, Any]") -> "list[Check]":
    name = str(version["Version"])
    if number(str(version["ApiVersion"])) < OLDEST_API:
        return [Check("docker", False, f"Docker Engine {name} is too old.", "Install 20.10 or newer.")]
    answers = Check("docker", True, f"Docker Engine {name} answers.")
    newest = ".".join(map(str, NEWEST_TRIED))
    if number(name) <= NEWEST_TRIED and number(str(version.get("MinAPIVersion") or "0")) <= SPOKEN:
        return [
            answers,
            Check("docker_version", True, f"It is one of those this agent was tried with (20.10 to {newest})."),
        ]
    message = f"Docker Engine {name} is newer than those this agent was tried with (20.10 to {newest})."
    mend = "Keep the agent up to date. Should apps not start here, tell the portal's staff, and this version with it."
    return [answers, Check("docker_version", False, message, mend, needed=False)]


def _isolation(info: "dict[str, Any]") -> "list[Check]":
    security = " ".join(info.get("SecurityOptions") or [])
    mandatory = "apparmor" in security or "selinux" in security
    systemd = info.get("CgroupDriver") != "cgroupfs"
    groups = f"cgroups version {info.get('CgroupVersion') or Counters().cgroup_version}"
    return [
        _either("seccomp", "seccomp" in security, "Dangerous system calls are blocked (seccomp).",
                "The Docker Engine runs without seccomp.", "Use your distribution's kernel and Docker."),
        _either("memory", bool(info.get("MemoryLimit")), "Memory can be limited.",
                "This kernel cannot limit memory.", "Start it with cgroup_enable=memory."),
        _either("processor", bool(info.get("CpuCfsQuota")), "Processor time can be limited.",
                "This kernel cannot limit processor time.", "It needs CONFIG_CFS_BANDWIDTH."),
        _either("processes", bool(info.get("PidsLimit")), "The number of processes can be limited.",
                "This kernel cannot limit the number of processes.", "It needs the pids cgroup."),
        _either("mandatory_access", mandatory, "AppArmor or SELinux adds a layer of protection.",
                "Neither AppArmor nor SELinux is active: one layer of protection less.", "Install apparmor.", needed=False),
        _either("cgroups", not systemd, f"Use is counted exactly ({groups}).",
                f"Docker uses systemd's tree ({groups}): up to one reading interval of processor time is not counted "
                "when an app crashes.", 'Put "exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json.',
                needed=False),
    ]  # fmt: skip


def _storage(info: "dict[str, Any]") -> Check:
    driver = str(info.get("Driver") or "unknown")
    good = driver in ("overlay2", "overlayfs", "btrfs", "zfs")
    return _either("overlay", good, f"Images share their layers ({driver}).",
                   f"Docker stores images with {driver}, which copies every layer: slow, and much disk.",
                   "Use overlay2: a kernel with overlayfs and an ext4 or xfs disk.", needed=False)  # fmt: skip


def _kernel() -> "list[Check]":
    release = os.uname().release
    try:
        tenth = "overlay" in Path("/proc/filesystems").read_text()
    except OSError:
        tenth = False
    perf = Perf().available
    return [
        _either("kernel", tenth, f"Kernel {release} has overlayfs.", f"Kernel {release} shows no overlayfs.",
                "Type: modprobe overlay", needed=False),
        _either("perf", perf, "Executed instructions are counted in hardware.",
                "This computer does not count instructions in hardware (virtual machines mostly do not); "
                "processor time × the benchmark is used.", needed=False),
    ]  # fmt: skip


def _ssh() -> Check:
    return _either("ssh", tunnel.possible(), "Tunnels can be opened, should this device not be reachable from outside.",
                   "There is no ssh client: if this device cannot be reached from outside, nobody can reach its apps.",
                   "Type: apt-get install openssh-client", needed=False)  # fmt: skip


def disk(folder: "Path | None", info: "dict[str, Any]") -> Check:
    """Whether there is room where the agent, and where Docker, keeps its files."""
    places = [place for place in (folder, Path(str(info.get("DockerRootDir") or "/"))) if place and place.exists()]
    place = min(places or [Path("/")], key=computer.free_bytes)
    free = computer.free_bytes(place)
    words = f"{free / 1e9:.1f} GB are free in {place}"
    mend = "Make room, or let Docker keep its data on a larger disk."
    if free < LEAST_DISK_BYTES:
        return Check("disk", False, f"Only {words}.", mend)
    if free < GOOD_DISK_BYTES:
        return Check("disk", False, f"{words}: enough for small apps only.", mend, needed=False)
    return Check("disk", True, f"{words}.")


def _firewall(firewall: Firewall, *, has_engine: bool) -> Check:
    if not has_engine:
        return Check("firewall", False, "The firewall can be looked at once Docker runs.")
    try:
        firewall.ensure()
    except AgentError as error:
        return Check("firewall", False, str(error))
    return Check("firewall", True, "Firewall rules keep apps off this device and its network.")


def _portal(url: str) -> "list[Check]":
    """Whether the portal answers, and how far this clock is from its."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return [
            Check("portal", False, f"{url} is not the address of a portal.", "One looks like https://portal.example")
        ]
    try:
        theirs = _portal_time(url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        mend = "Check the network, a proxy or a firewall in between."
        return [Check("portal", False, f"{url} cannot be reached ({plainly(error)}).", mend)]
    found = [Check("portal", True, f"{url} answers.")]
    off = round(time.time() - theirs)
    if abs(off) <= CLOCK_SKEW_SECONDS:
        return [*found, Check("clock", True, "The clock agrees with the portal's.")]
    return [*found, Check("clock", False, wording.clock(off), wording.SET_CLOCK, needed=False)]


def _portal_time(url: str) -> float:
    """Return seconds since 1970 by the Date of any answer, in the middle of the time it took."""
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=NETWORK_SECONDS)
    try:
        connection.request("HEAD", f"{parts.path.rstrip('/')}/healthz", headers={"User-Agent": "interchain-node"})
        date = connection.getresponse().getheader("Date") or ""
    finally:
        connection.close()
    # The header has whole seconds: on average it is half of one behind.
    return email.utils.parsedate_to_datetime(date).timestamp() + 0.5 if date else time.time()


def _outbound() -> Check:
    try:
        socket.create_connection(REGISTRY, timeout=NETWORK_SECONDS).close()
    except OSError as error:
        message = f"{REGISTRY[0]} cannot be reached ({plainly(error)}): apps from public images cannot be downloaded."
        return Check("outbound", False, message, "Let this computer open connections to port 443.", needed=False)
    return Check("outbound", True, "Public images can be downloaded.")


def directory(settings: Config) -> Check:
    """Whether this device serves the directory, or could; asked at the device itself: the portal sees whether others reach it."""
    from nodes.agent.directory import PORTS_TRIED
    from nodes.agent.peer_http import ask

    first, host = settings.directory_port, settings.publish_address
    if not first:
        return Check("directory", True, "The directory is not served here: its owner chose so.", needed=False)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not opened)
    address = f"[{host}]" if ":" in host else host
    free = 0
    for port in range(first, first + PORTS_TRIED):
        try:
            said = ask(f"{address}:{port}", "/gossip/digest", seconds=1.0)
        except AgentError:
            said = None
            free = free or (port if _is_free(host, port) else 0)
        if said is not None and said.get("device") == settings.device_id:
            return Check("directory", True, f"The directory is served on port {port}, for clients and other devices.")
        if free and said is None:
            break
    mend = "Free it, or set another directory_port in config.json (0: not served)."
    message = f"None of the ports {first} to {first + PORTS_TRIED - 1} is free for the directory."
    return _either("directory", bool(free), f"Port {free} is free for the directory.", message, mend, needed=False)


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return False
    return True


def _either(name: str, ok: bool, good: str, bad: str, mend: str = "", *, needed: bool = True) -> Check:
    return Check(name, ok, good if ok else bad, "" if ok else mend, needed)
