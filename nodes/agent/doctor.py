"""Says whether this device may run strangers' programs, and what to do where it may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nodes.agent.engine import Engine
from nodes.agent.errors import AgentError, SetupError
from nodes.agent.firewall import Firewall

OLDEST_API = (1, 41)


@dataclass(frozen=True)
class Check:
    ok: bool
    message: str
    needed: bool = True  # false: worth knowing, not worth refusing for


def examine(engine: Engine, firewall: Firewall) -> "list[Check]":
    """Return every check, in the order a person would mend them."""
    try:
        version, info = engine.call("GET", "/version"), engine.call("GET", "/info")
    except AgentError as error:
        return [Check(False, str(error))]
    checks = [_version(version), *_isolation(info)]
    try:
        firewall.ensure()
        checks.append(Check(True, "Firewall rules keep apps off this device and its network."))
    except AgentError as error:
        checks.append(Check(False, str(error)))
    return checks


def require(checks: "list[Check]") -> None:
    """Return if everything needed holds.

    Raises:
        SetupError: with every reason, one a line.
    """
    wrong = [check.message for check in checks if check.needed and not check.ok]
    if wrong:
        raise SetupError("\n".join(wrong))


def _version(version: "dict[str, Any]") -> Check:
    found = tuple(int(part) for part in str(version["ApiVersion"]).split("."))
    if found < OLDEST_API:
        return Check(False, f"Docker Engine {version['Version']} is too old. Install 20.10 or newer.")
    return Check(True, f"Docker Engine {version['Version']} answers.")


def _isolation(info: "dict[str, Any]") -> "list[Check]":
    security = " ".join(info.get("SecurityOptions") or [])
    checks = [
        Check("seccomp" in security, "Dangerous system calls are blocked (seccomp)."
              if "seccomp" in security else "The Docker Engine runs without seccomp. Use your distribution's kernel and Docker."),
        Check(bool(info.get("MemoryLimit")), "Memory can be limited."
              if info.get("MemoryLimit") else "This kernel cannot limit memory. Start it with cgroup_enable=memory."),
        Check(bool(info.get("CpuCfsQuota")), "Processor time can be limited."
              if info.get("CpuCfsQuota") else "This kernel cannot limit processor time (CONFIG_CFS_BANDWIDTH)."),
        Check(bool(info.get("PidsLimit")), "The number of processes can be limited."
              if info.get("PidsLimit") else "This kernel cannot limit the number of processes (pids cgroup)."),
    ]  # fmt: skip
    if "apparmor" not in security and "selinux" not in security:
        checks.append(
            Check(False, "Neither AppArmor nor SELinux is active: one layer of protection less.", needed=False)
        )
    if info.get("CgroupDriver") != "cgroupfs":
        text = "Docker uses systemd's cgroups: up to one reading interval of processor time is not counted when an app crashes."
        checks.append(Check(False, text, needed=False))
    return checks
