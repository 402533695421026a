"""System packages and the Docker Engine: installed as root on Debian and Ubuntu, elsewhere the one command to type."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from interchain_site.local.steps import Stop, command

ENGINE_LOG = Path("/var/log/interchain-dockerd.log")
ENGINE_SECONDS = 30


@dataclass(frozen=True)
class Package:
    """A Debian package, present when any of `programs` or `files` exists (other vendors' builds count)."""

    name: str
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def present(self) -> bool:
        """Tell whether the machine has what the package brings."""
        places = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        if any(shutil.which(program, path=places) for program in self.programs):
            return True
        return any(True for pattern in self.files for _ in Path("/").glob(pattern.lstrip("/")))


# On Linux a client alone runs nothing; on a Mac the Engine is inside Docker Desktop.
ENGINE = "docker" if sys.platform == "darwin" else "dockerd"
DOCKER = (Package("docker.io", (ENGINE,)), Package("iptables", ("iptables",)))
IMAGES = (Package("debootstrap", ("debootstrap",)),)
SNAPSHOTS = (Package("restic", ("restic",)),)  # copies of apps' volumes
TEST_IMAGES = (Package("busybox-static", ("busybox",)),)  # interchain_site/testing/docker.py
COMPILER = (  # the sandbox's probes: nodes/agent/tests/probes/src
    Package("gcc", ("gcc",)),
    Package("libc6-dev", files=("/usr/lib/*/libc.a", "/usr/lib64/libc.a")),
)
CERTIFICATES = (Package("openssl", ("openssl",)),)  # authorities of the tests' own: nodes/agent/tests/test_tls.py
SSH = (Package("openssh-client", ("ssh",)),)  # devices behind NAT open tunnels with it
DISKS = (  # file systems of the tests' own: volumes, and a Docker with quotas
    Package("e2fsprogs", ("mkfs.ext4",)),
    Package("btrfs-progs", ("mkfs.btrfs",)),
)
NAMESPACES = (Package("iproute2", ("ip",)),)  # computers of their own, for tests of the network
GVISOR = (Package("runsc", ("runsc",)),)  # whose trial on a device is tested in every way it can end
UNITS = (Package("systemd", ("systemd-analyze",)),)  # checks the agent's service
BROWSER = (
    Package("chromium-headless-shell", ("chromium-headless-shell",)),
    Package("libatomic1", files=("/usr/lib/*/libatomic.so.1", "/lib/*/libatomic.so.1", "/usr/lib64/libatomic.so.1")),
    Package(
        "fonts-dejavu-core",
        files=("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "/usr/share/fonts/*/DejaVuSans.ttf"),
    ),
)
POSTGRES = (Package("postgresql", ("initdb",), ("/usr/lib/postgresql/*/bin/initdb",)),)


def install(packages: Sequence[Package]) -> str:
    """Install what is missing; returns what was done in a few words.

    Raises:
        Stop: it cannot be installed here; the message is the command to type.
    """
    missing = [package.name for package in packages if not package.present()]
    if not missing:
        return "there already"
    words = " ".join(missing)
    if shutil.which("apt-get") is None:
        hint = "Docker Desktop" if sys.platform == "darwin" else "your system's package manager"
        raise Stop(f"Missing: {words} (Debian's names). Install them with {hint}, then start again.")
    if os.geteuid() != 0:
        raise Stop(f"Missing system packages. Type: sudo apt-get install --no-install-recommends {words}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    failure = f"The system packages cannot be fetched ({words}). Is there a network?"
    command([*apt, "update"], failure=failure, env=env)
    command([*apt, "install", "--no-install-recommends", *missing], failure=failure, env=env)
    return f"installed {words}"


def engine_answers() -> bool:
    """Tell whether a Docker Engine answers this user."""
    try:
        done = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, timeout=20, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def start_engine() -> str:
    """See to it that a Docker Engine answers: by systemd where there is one, else by starting dockerd.

    Raises:
        Stop: it cannot be started by this user, or does not come up.
    """
    if engine_answers():
        return "running"
    if sys.platform == "darwin":
        raise Stop("The Docker Engine does not answer. Start Docker Desktop, then start again.")
    if os.geteuid() != 0:
        raise Stop(
            "The Docker Engine does not answer this user. Type: sudo systemctl start docker && "
            'sudo usermod -aG docker "$USER", log in again, then start again.'
        )
    if Path("/run/systemd/system").exists():
        command(["systemctl", "start", "docker"], failure="systemd cannot start Docker")
    else:
        _start_dockerd()
    give_up_at = time.monotonic() + ENGINE_SECONDS
    while not engine_answers():
        if time.monotonic() > give_up_at:
            raise Stop(f"The Docker Engine does not come up: {_last_line(ENGINE_LOG)} (all of it: {ENGINE_LOG})")
        time.sleep(0.2)
    return "started"


def _start_dockerd() -> None:
    """Start dockerd on its own; it outlives this program, as a system service would."""
    program = shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        raise Stop("dockerd is missing. Type: apt-get install --no-install-recommends docker.io iptables")
    Path("/var/run/docker.pid").unlink(missing_ok=True)  # left by an Engine that was killed: none answers
    with ENGINE_LOG.open("ab") as log:
        subprocess.Popen(
            [program, "--data-root", "/var/lib/interchain-docker"], stdout=log, stderr=log, start_new_session=True
        )


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "it said nothing"
