"""Every abuse that is tried: what, how it ends inside, and what is seen of it from outside."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interchain_site.testing import docker as engine
from nodes.agent import firewall, sandbox
from nodes.agent.tests.probes import far
from nodes.agent.tests.probes.facts import text
from nodes.agent.tests.probes.program import SECOND_PORT
from nodes.agent.tests.probes.scene import DISK_BYTES, MEMORY_BYTES, Answer, App, Scene

QUEUE_BYTES = 80_000  # ten messages of 8 kB
LOG_BYTES = sandbox.LOG_FILES * 2**20
GONE = "gone"  # the app itself was killed with it; the agent starts it again
DEATH = f"ENOMEM {GONE}"  # killed, by the kernel, at its limit
MORE_THAN_DISK = DISK_BYTES // 2**20 + 64


@dataclass(frozen=True)
class Bomb:
    """One row. `ends` are the errnos that stop it, or "done" where it may go on but must do no harm."""

    name: str
    kind: str
    tries: str
    line: str
    ends: str
    holds: Callable[[Scene, App, Answer], None]
    seen: str  # what `holds` looks at, for the page
    app: str = "baseline"


def memory_held(scene: Scene, app: App, answer: Answer) -> None:
    """The kernel's own count never passed the limit."""
    for name in ("memory.max_usage_in_bytes", "memory.peak", "memory.current"):
        held = text(app.cgroup("memory", name))
        if held:
            assert int(held) <= MEMORY_BYTES
            return
    raise AssertionError("nothing counts memory here")


def processes_held(scene: Scene, app: App, answer: Answer) -> None:
    made = int(re.findall(r"made (\d+)", answer.text)[0])
    assert made < sandbox.PROCESSES
    assert text(app.cgroup("pids", "pids.max")) == str(sandbox.PROCESSES)
    assert subprocess.run(["true"], check=False).returncode == 0


def files_held(scene: Scene, app: App, answer: Answer) -> None:
    assert int(re.findall(r"took (\d+)", answer.text)[0]) < sandbox.OPEN_FILES
    used, _, most = map(int, text("/proc/sys/fs/file-nr").split())
    assert used < most // 2


def queues_held(scene: Scene, app: App, answer: Answer) -> None:
    """A program of the device with the same user number has what is left: half."""
    taken = int(re.findall(r"took (\d+)", answer.text)[0])
    assert 0 < taken * QUEUE_BYTES <= sandbox.QUEUE_BYTES


def log_held(scene: Scene, app: App, answer: Answer) -> None:
    path = Path(app.inspect("{{.LogPath}}"))
    held = sum(one.stat().st_size for one in path.parent.glob(path.name + "*"))
    assert 0 < held <= LOG_BYTES * 1.1


def processor_held(scene: Scene, app: App, answer: Answer) -> None:
    """Eight processes for two seconds got half a core, as the lease says; the kernel pays by 100 ms."""
    ran = int(re.findall(r"ran (\d+)", answer.text)[0]) / 1000
    assert ran <= 2.0 * app.lease.workload.cpu_millis / 1000 * 1.3


def others_live(scene: Scene, app: App, answer: Answer) -> None:
    assert scene.bystander.poll() is None
    assert scene.apps["neighbour"].ask("is-root").text


def connections_held(scene: Scene, app: App, answer: Answer) -> None:
    """20,000 connections leave the device's table to others."""
    assert "sent" in answer.text
    held = connections_of(app.label("address"))
    assert firewall.CONNECTIONS // 2 < held < firewall.CONNECTIONS + 200


def connections_of(address: str) -> int:
    """Return how many connections an address opened that the device's table holds; others' are not counted."""
    with open("/proc/net/nf_conntrack") as table:
        return sum(line.partition(" src=")[2].startswith(f"{address} ") for line in table)


def one_port(scene: Scene, app: App, answer: Answer) -> None:
    published = engine.docker(
        "ps", "--filter", f"label=io.interchain.device={scene.portal.device_id}", "--format", "{{.Ports}}"
    )
    assert str(SECOND_PORT) not in published.replace(f"{SECOND_PORT}/tcp", "")
    assert f"->{SECOND_PORT}" not in published
    for host in ("127.0.0.1", far.PUBLIC.rpartition(".")[0] + ".129"):
        with socket.socket() as caller:
            caller.settimeout(1)
            assert caller.connect_ex((host, SECOND_PORT)) != 0
    with far.inside(far.NAMESPACE), socket.socket() as caller:
        caller.settimeout(1)
        assert caller.connect_ex((app.label("address"), SECOND_PORT)) != 0, (
            "a machine on the owner's network, by a route"
        )


def watches_left(scene: Scene, app: App, answer: Answer) -> None:
    """While it holds them, a neighbour with the same user number and the device's own root can watch files."""
    assert scene.apps["neighbour"].ask("hold-watches", "1", "20", "1", "1").outcome == "done"
    library = ctypes.CDLL(None, use_errno=True)
    own = [library.inotify_init() for _ in range(20)]
    assert all(descriptor >= 0 for descriptor in own)
    assert all(library.inotify_add_watch(descriptor, b"/tmp", 2) >= 0 for descriptor in own)  # IN_MODIFY
    for descriptor in own:
        os.close(descriptor)


def stays(scene: Scene, app: App, answer: Answer) -> None:
    """The app goes on: nobody had to be stopped for it."""
    assert app.ask("is-root").text


BOMBS: tuple[Bomb, ...] = (
    Bomb("fork bomb", "fork bomb, PID exhaustion", "start 2,000 processes", "fork-bomb 2000", "EAGAIN", processes_held, "fewer than 512 were made, the device still starts programs"),
    Bomb("fork bomb, restricted", "fork bomb, PID exhaustion", "start 2,000 processes", "fork-bomb 2000", "EAGAIN", processes_held, "the same", "restricted"),
    Bomb("memory bomb", "memory bomb", "fill 512 MiB", "memory-bomb 512", DEATH, memory_held, "the kernel's highest count is within the limit"),
    Bomb("memory bomb, restricted", "memory bomb", "fill 512 MiB", "memory-bomb 512", DEATH, memory_held, "the same", "restricted"),
    Bomb("shared memory bomb", "memory bomb", "fill 512 MiB of System V shared memory", "shared-memory-bomb 512", DEATH, memory_held, "the same"),
    Bomb("nameless file bomb", "memory bomb", "fill 512 MiB of a file in memory (memfd)", "nameless-bomb 512", DEATH, memory_held, "the same"),
    Bomb("/dev/shm bomb", "memory bomb", "fill 512 MiB of /dev/shm", "file-bomb /dev/shm/bomb 512", "ENOSPC", memory_held, "the same"),
    Bomb("/tmp bomb", "memory bomb", "fill 512 MiB of a restricted app's /tmp", "file-bomb /tmp/bomb 512", "ENOSPC", memory_held, "the same", "restricted"),
    Bomb("page cache bomb", "memory bomb", "have the kernel keep a file larger than its memory", f"file-bomb /data/cache {DISK_BYTES // 2**20 - 16}", "done ENOSPC", memory_held, "the same: the kernel drops pages of this app"),
    Bomb("socket buffer bomb", "memory bomb", "fill 8,000 pairs of sockets", "buffer-bomb 8000", f"EMFILE {DEATH} ENOBUFS", memory_held, "the same: the kernel's memory for it is the app's"),
    Bomb("descriptor bomb", "descriptor bomb", "open 100,000 files", "descriptor-bomb 100000", "EMFILE", files_held, "fewer than 16,384; the device opens files"),
    Bomb("message queue bomb", "descriptor bomb", "open POSIX message queues, which are counted by user number", "queue-bomb 1000", "EMFILE ENOSPC", queues_held, "it gets half of what a user number may have"),
    Bomb("watch instances", "descriptor bomb", "hold 40,000 inotify instances, which are counted by user number", "hold-watches 4 10000 0 20", "done", watches_left, "the app pays with its own memory; a neighbour and the device get theirs"),
    Bomb("watches", "descriptor bomb", "hold 240,000 inotify watches, which are counted by user number", "hold-watches 2 120 1000 20", "done", watches_left, "the same"),
    Bomb("watches beyond memory", "descriptor bomb", "open 320,000 inotify instances", "hold-watches 20 16000 0 20", f"{DEATH} EMFILE", watches_left, "the app is killed at its own memory limit"),
    Bomb("large file", "disk bomb", "write one file beyond the disk limit", f"file-bomb /data/large {MORE_THAN_DISK}", "EFBIG ENOSPC", stays, "the kernel refuses at the limit"),
    Bomb("log bomb", "log bomb", "write 4 MiB of log", "log-bomb 4", "done", log_held, "Docker keeps 2 MB of it"),
    Bomb("CPU hog", "CPU hog", "run eight processes for two seconds", "spin 2000 8", "done", processor_held, "they got the half core of the lease"),
    Bomb("connection bomb", "connection count", "open 20,000 connections", "many-connections {public} 20000", "done", connections_held, "the device's table has 4,096 of this app's", "outbound"),
    Bomb("kill all", "other processes", "kill every process it can see", "kill-all", f"done {GONE}", others_live, "the device's and its neighbours' processes live; the agent starts it again"),
    Bomb("second port", "published port only once", "be reached at a second port its image exposes", "is-root", "done EPERM", one_port, "nobody gets through, also not by a route"),
)  # fmt: skip
