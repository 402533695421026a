"""Says in plain words why an app is not running. Reads what the kernel shows of the container's process; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nodes.agent import files, holdings, sandbox
from nodes.agent.protocol import HealthCheck, Reason, Runtime, Workload
from nodes.agent.reconcile import Seen

DISK_FULL = "The device's disk is full. The app is started again, here or on another device."
LISTENING = "0A"
FILE_TOO_LARGE = 25  # SIGXFSZ
NOT_EXECUTABLE, NOT_FOUND = 126, 127


@dataclass(frozen=True)
class Finding:
    reason: Reason
    message: str
    permanent: bool = False  # trying again would end the same way


def exited(seen: Seen, workload: Workload, *, filled: bool = False) -> Finding:
    """Say why a container's process is gone.

    Args:
        filled: it ended by itself, with no room left in what it may write beside its volume.
    """
    if seen.out_of_memory:
        return Finding(
            Reason.OUT_OF_MEMORY,
            f"The app used more than its {_size(workload.memory_bytes)} of memory and was stopped. "
            "Give the release more memory, or make it use less.",
        )
    if seen.exit_code == 128 + FILE_TOO_LARGE:
        return Finding(
            Reason.OUT_OF_DISK,
            f"The app wrote a file larger than its {_size(workload.disk_bytes)} of disk and was stopped.",
        )
    if seen.error:
        return Finding(Reason.START_FAILED, f"The container did not start: {seen.error}")
    if seen.exit_code in (NOT_EXECUTABLE, NOT_FOUND):
        what = "is not in the image" if seen.exit_code == NOT_FOUND else "may not be executed"
        message = (
            f"The app's command, or a program it calls, {what} (exit code {seen.exit_code}). See its last lines below."
        )
        return Finding(Reason.START_FAILED, message, permanent=True)
    if seen.exit_code == 0:
        return Finding(
            Reason.EXITED,
            "The app ended by itself (exit code 0). It must stay in the foreground and keep serving its port.",
        )
    if filled:
        return Finding(
            Reason.OUT_OF_DISK,
            f"The app filled the {_size(sandbox.layer_allowance(workload))} it may write{' outside its volume' if workload.volume_path else ''} "
            f"and ended with exit code {seen.exit_code}. Give the release more disk, or make it write less.",
        )
    return Finding(
        Reason.EXITED,
        f"The app ended with exit code {seen.exit_code}{_signal(seen.exit_code)}. See its last lines below.",
    )


def of_device(error: OSError) -> str:
    """Say what the device itself lacks."""
    return DISK_FULL if error.errno in files.DISK_FULL else f"The device cannot do it now: {error.strerror or error}."


def no_room(workload: Workload, free: int) -> Finding:
    """Say what was too small when Docker had no room for what an image brings: what the app may write, or the device's disk.

    Args:
        free: bytes left where Docker keeps its data. With as much as the app may ever write the device has not refused it.
    """
    own = workload.disk_bytes + sandbox.layer_allowance(workload)
    if free < own:
        return Finding(Reason.DEVICE_ERROR, DISK_FULL)
    return Finding(
        Reason.OUT_OF_DISK,
        f"What the image keeps in its data folders (VOLUME in its Dockerfile, or the release's) does not fit in the {_size(workload.disk_bytes)} of disk it has. "
        "Give the release more disk.",
        permanent=True,
    )


def overfull(held: int, allowed: int, *, layer: bool) -> Finding:
    """Say that an app holds more than it may, or keeps the rest where nobody looks (holdings.py).

    Args:
        layer: it is what the app wrote beside its volume.
    """
    where = "outside its volume" if layer else "on disk"
    if held <= allowed:
        return Finding(
            Reason.OUT_OF_DISK,
            f"The app keeps files {where} where they cannot be counted: folders more than {holdings.DEEPEST} deep, or more than "
            f"{holdings.MOST_NAMELESS:,} open files that it removed. It was stopped; its data is kept.",
            permanent=True,
        )
    return Finding(
        Reason.OUT_OF_DISK,
        f"The app holds {_size(held)} {where} and may hold {_size(allowed)}. It was stopped; its data is kept. "
        "Give the release more disk, or make it write less.",
        permanent=True,
    )


def unwell(seen: Seen, workload: Workload, *, alive: bool) -> Finding:
    """Say why a running container gets no requests: it does not live, or it lives and is not ready."""
    return _not_ready(workload) if alive else silent(seen, workload)


def silent(seen: Seen, workload: Workload, proc: Path = Path("/proc")) -> Finding:
    """Say why a running container is not healthy."""
    if seen.runtime == Runtime.GVISOR.value:
        return _unseen(workload)
    port, found = workload.port, listening(seen.pid, proc)
    if port in found.everywhere:
        return _unhealthy(workload.health, port)
    if port in found.loopback:
        return Finding(
            Reason.WRONG_PORT,
            f"The app listens on port {port} of 127.0.0.1 only, where nobody outside its container can reach it. "
            "Make it listen on 0.0.0.0.",
        )
    others = sorted(found.everywhere | found.loopback)
    if others:
        named = ", ".join(str(other) for other in others)
        return Finding(
            Reason.WRONG_PORT,
            f"Nothing listens on port {port}. The app listens on {'port' if len(others) == 1 else 'ports'} {named}: "
            "correct the release's port, or the app's.",
        )
    return Finding(Reason.WRONG_PORT, f"The app runs, but listens on no port. It should listen on port {port}.")


def _not_ready(workload: Workload) -> Finding:
    health, port = workload.health, workload.port
    wanted = f"GET {health.ready_path} on port {port} does not answer 200–399 within {health.timeout_seconds} s"
    return Finding(Reason.UNHEALTHY, f"The app runs, but is not ready: {wanted}. It gets no requests until it is.")


def _unseen(workload: Workload) -> Finding:
    """Under gVisor the app's ports are not the device's kernel's to know."""
    words = (
        f"The app runs, but does not answer on port {workload.port}, or its health check there fails. It may listen on"
    )
    return Finding(Reason.UNHEALTHY, f"{words} another port, or on 127.0.0.1 only: under gVisor that cannot be seen.")


def _unhealthy(health: HealthCheck, port: int) -> Finding:
    if health.kind == "http":
        wanted = f"GET {health.path} on port {port} does not answer 200–399 within {health.timeout_seconds} s"
    else:
        wanted = f"port {port} does not accept a connection within {health.timeout_seconds} s"
    return Finding(Reason.UNHEALTHY, f"The app listens on its port, but its health check fails: {wanted}.")


@dataclass(frozen=True)
class Listening:
    everywhere: "frozenset[int]"
    loopback: "frozenset[int]"


def listening(pid: int, proc: Path = Path("/proc")) -> Listening:
    """Return the TCP ports that anything in the process's network listens on."""
    everywhere: set[int] = set()
    loopback: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / str(pid) / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            address, _, port = columns[1].partition(":")
            if columns[3] == LISTENING and not _is_docker_resolver(address):
                (loopback if _is_loopback(address) else everywhere).add(int(port, 16))
    return Listening(frozenset(everywhere), frozenset(loopback - everywhere))


def _is_loopback(address: str) -> bool:
    return address.endswith("7F") if len(address) == 8 else address in ("00000000000000000000000001000000",)


def _is_docker_resolver(address: str) -> bool:
    return address == "0B00007F"  # 127.0.0.11, Docker's own name server in every container


def _size(count: int) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"


def _signal(code: int) -> str:
    known = {137: " (killed)", 139: " (it crashed: segmentation fault)", 143: " (asked to stop)", 134: " (it aborted)"}
    return known.get(code, "")
