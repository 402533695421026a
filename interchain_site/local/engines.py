"""`bin/test engines`: the agent's tests with newer Docker Engines than this machine's. As root, on Debian.

They are Debian's own packages of later releases, unpacked beside the machine's Docker and never installed. apt fetches them with lists
of its own, and proves them by Debian's signatures. Each Engine runs in network and mount namespaces of its own, with its own data; runc
is the machine's.

  bin/test engines                                      the tests below, with every Engine
  python -m interchain_site.local.engines 28            … with one
  python -m interchain_site.local.engines 28 nodes/agent/tests/test_volumes.py -x
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interchain_site.local import check
from interchain_site.local.steps import ROOT, Stop, command

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = ("docker.io", "docker-cli", "containerd")
FOLDER = ROOT / "var" / "engines"
SETTINGS = Path("/etc/docker")
DATA = Path("/var/lib")  # not in a container's own layers, where no Engine can keep its own
START_SECONDS = 60
# Those that install the agent (test_update.py, test_install.py) need packages from a network, which these namespaces lack.
TESTS = [  # start, port, metering, copies, wipe · image · layer · network · volume
    *(f"nodes/agent/tests/test_{name}.py" for name in ("images", "layers", "holders", "opened_volumes")),
    *(f"nodes/agent/tests/test_{name}.py" for name in ("volumes", "image_volumes", "ordinary_programs")),
    *(f"nodes/agent/tests/test_{name}.py" for name in ("engine_against_sdk", "encryption", "life_of_a_lease")),
    *(f"nodes/agent/tests/test_{name}.py" for name in ("bounded_layers", "full_docker", "reboot", "docker_restart")),
    *(f"nodes/agent/tests/test_{name}.py" for name in ("killed_at_every_step", "uninstall")),
]


@dataclass(frozen=True)
class Variant:
    """One Engine, and how it is set up."""

    release: str  # of Debian
    containerd: bool = False  # whether it keeps images and layers in containerd's store
    oldest_api: str = ""  # of what it speaks; empty: as it comes

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_MIN_API_VERSION": self.oldest_api} if self.oldest_api else {}


VARIANTS = {
    "26": Variant("trixie"),
    "28": Variant("sid"),
    # Debian has no 29 yet: 28 with what 29 does unless told otherwise.
    "28-as-29": Variant("sid", containerd=True, oldest_api="1.44"),
}


def main(arguments: list[str]) -> int:
    """Run the tests with one Engine in namespaces of its own; return pytest's exit code.

    Raises:
        Stop: it cannot be done here; in words.
    """
    name, tests = (arguments[0] if arguments else ""), arguments[1:] or TESTS
    if name not in VARIANTS:
        raise Stop(f"Name an Engine: {', '.join(VARIANTS)}")
    if os.geteuid() != 0:
        raise Stop("An Engine can only be started by root.")
    programs = fetched(VARIANTS[name].release)
    path = os.pathsep.join([str(programs / "usr/sbin"), str(programs / "usr/bin"), os.environ["PATH"]])
    inside = [sys.executable, "-m", __spec__.name, "--inside", name, *tests]
    call = ["unshare", "--net", "--mount", "--propagation", "private", *inside]
    return subprocess.run(call, cwd=ROOT, env={**check.environment(), "PATH": path}, check=False).returncode


def fetched(release: str) -> Path:
    """Return the folder in which the release's Engine is unpacked: fetched once, and again when the release has a newer one."""
    if not KEYRING.exists():
        raise Stop("Debian's keys are missing. Type: apt-get install debian-archive-keyring")
    home = FOLDER / release
    for folder in ("lists/partial", "archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    sources = home / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {_mirror()} {release} main\n")
    options = {
        "Etc::sourcelist": sources,
        "Etc::sourceparts": "/dev/null",
        "State::lists": home / "lists",
        "Cache": home,
    }
    apt = ["apt-get", "-q", *(f"-oDir::{name}={value}" for name, value in options.items()), "-oAPT::Sandbox::User=root"]
    command([*apt, "update"], failure=f"Debian's list of {release} cannot be fetched")
    uris = command([*apt, "--print-uris", "download", *PACKAGES], failure=f"{release} has no Docker")
    packages = [home / line.split()[1] for line in uris.splitlines() if line.startswith("'")]
    root = home / "-".join(sorted(package.name.removesuffix(".deb") for package in packages))
    if not root.exists():
        command([*apt, "download", *PACKAGES], failure="The Engine's packages cannot be fetched", cwd=home)
        unfinished = Path(tempfile.mkdtemp(dir=home))
        for package in packages:
            command(["dpkg", "-x", str(package), str(unfinished)], failure=f"{package.name} cannot be unpacked")
            package.unlink()
        unfinished.rename(root)
    return root


def _mirror() -> str:
    """Return the address this machine has Debian's packages from."""
    listed = command(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE)", "Created-By: Packages"],
        failure="apt does not say where Debian's packages come from",
    )
    for line in listed.splitlines():
        origin, _, site = line.partition(" ")
        if origin == "Debian":
            return site
    raise Stop("apt has no list of Debian's. Type: apt-get update")


def inside(name: str, tests: list[str]) -> int:
    """Run the tests where the namespaces are made already."""
    command(["ip", "link", "set", "lo", "up"], failure="The tests' network does not come up")
    command(["mount", "-t", "tmpfs", "tmpfs", "/run"], failure="The tests' /run cannot be mounted")  # its sockets
    Path("/run/lock").mkdir()
    _set_up(VARIANTS[name])
    data = Path(tempfile.mkdtemp(prefix="interchain-engine-", dir=DATA))
    try:
        with running(data):
            about = "Docker {{.ServerVersion}}, {{.Driver}} {{.DriverStatus}}"
            print(command(["docker", "info", "-f", about], failure="Docker says nothing of itself"), flush=True)
            call = [str(check.BIN / "python"), "-m", "pytest", "-n", "0", "-m", "docker", *tests]
            return subprocess.run(call, cwd=ROOT, check=False).returncode
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _set_up(variant: Variant) -> None:
    """Have every Engine here, those that tests start for themselves too, read the variant's settings."""
    SETTINGS.mkdir(exist_ok=True)
    command(["mount", "-t", "tmpfs", "tmpfs", str(SETTINGS)], failure="The Engine's settings cannot be replaced")
    settings = {"features": {"containerd-snapshotter": variant.containerd}}
    (SETTINGS / "daemon.json").write_text(json.dumps(settings))
    os.environ.update(variant.environment)


@contextmanager
def running(data: Path) -> Iterator[None]:
    """Run the Engine at its usual address while the block lasts.

    Raises:
        Stop: it does not come up.
    """
    log = data / "dockerd.log"
    options = ["--data-root", str(data / "docker"), "--exec-opt", "native.cgroupdriver=cgroupfs"]
    with log.open("wb") as said:
        process = subprocess.Popen(["dockerd", *options], stdout=said, stderr=said)
    try:
        _wait_for(process, log)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not Path("/run/docker.sock").exists() or not _answers():
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise Stop(f"The Engine does not come up: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.2)


def _answers() -> bool:
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--inside"]:
            sys.exit(inside(sys.argv[2], sys.argv[3:]))
        sys.exit(main(sys.argv[1:]))
    except Stop as stop:
        sys.exit(f"Stopped: {stop}")
