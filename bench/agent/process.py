"""An agent installed as on a device (its wheel, in an environment of its own), and what the kernel says of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interchain_site.testing import docker as engine
from nodes.agent import packaging
from nodes.agent.tests.portal import FakePortal

TICKS = os.sysconf("SC_CLK_TCK")


def environment(folder: Path) -> Path:
    """Make the agent's environment, as install.sh does; returns its `bin`."""
    bin_folder = folder / "agent-environment" / "bin"
    if not bin_folder.exists():
        wheel = folder / packaging.ARCHIVE_NAME
        wheel.write_bytes(packaging.build_archive())
        subprocess.run([sys.executable, "-m", "venv", str(bin_folder.parent)], check=True)
        subprocess.run([bin_folder / "python", "-m", "pip", "install", "-q", str(wheel)], check=True)
    return bin_folder


@contextmanager
def started_agent(
    portal: FakePortal, folder: Path, *, home: str = "home", engine_at: str = "", **variables: str
) -> Iterator[int]:
    """Enrol and run an agent as its launcher runs it; yields its process id, and removes what it ran.

    Args:
        engine_at: the address of its Engine, where that is not the machine's own.
    """
    node = environment(folder) / "interchain-node"
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    settings |= variables
    arguments = ["--portal", portal.url, "--token", "good", "--endpoint-host", "127.0.0.1"]
    if engine_at:
        arguments += ["--engine", engine_at]
    subprocess.run(
        [node, "enrol", "--home", folder / home, *arguments], check=True, env=settings, cwd=folder, capture_output=True
    )
    with (folder / f"{home}.log").open("wb") as log:
        running = subprocess.Popen([node, "run", "--home", folder / home], env=settings, cwd=folder, stderr=log)
    try:
        portal.wait(lambda: portal.linked, 30, "the agent's link")
        yield running.pid
    finally:
        running.terminate()
        running.wait(30)
        engine.remove_labelled(f"io.interchain.device={portal.device_id}")


def memory_kib(pid: int) -> dict[str, int]:
    """Return Rss, Pss and Private_Dirty of a process, in KiB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        found[name] = int(value.split()[0])
    return {name: found[name] for name in ("Rss", "Pss", "Private_Dirty")}


def seconds_of_cpu(pid: int) -> float:
    """Return the processor time a process and its ended children have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS
