"""Make the virtualenv and hand over to the program inside it. Standard library only: this is what runs first.

Called by `bin/run`, `bin/test` and `bin/check` as `python3 -I bootstrap.py <door> [arguments]`. Each step is skipped when its
stamp (a hash of the files it depends on) is current, so a half-finished set-up simply goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".interchain-stamp"
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "nodes/agent/requirements.txt")
OLDEST = (3, 11)
UV = "uv==0.13.9"  # installs the requirements ten times faster than pip


class Stop(Exception):
    """Setting up cannot go on; the text is the one line a person reads."""


def main() -> int:
    """Prepare the virtualenv, then become the door that was asked for."""
    try:
        asks_for_help = "-h" in sys.argv or "--help" in sys.argv
        if not (asks_for_help and PYTHON.exists()):  # help is not kept waiting for an update
            prepare()
    except Stop as error:
        print(f"\nStopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next start goes on from here.", file=sys.stderr)
        return 130
    os.chdir(ROOT)
    os.execv(PYTHON, [str(PYTHON), "-m", "interchain_site.local", *sys.argv[1:]])


def prepare() -> None:
    """Create or refresh the virtualenv when the requirement files changed."""
    if platform.system() not in ("Linux", "Darwin"):
        raise Stop("Interchain runs on Linux and macOS; on Windows use WSL 2 with Debian or Ubuntu.")
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted and PYTHON.exists():
        return
    if VENV.exists() and not os.access(VENV, os.W_OK):
        raise Stop(f"{VENV} belongs to somebody else. Run as its owner, or remove it.")
    base = usable_python()
    if not working(PYTHON):
        step("Python environment (.venv)", lambda: make_venv(base))
    step("Python packages", install)
    STAMP.write_text(wanted)


def fingerprint() -> str:
    """Return a hash over all that decides what is installed."""
    digest = hashlib.sha256(UV.encode())
    for name in REQUIREMENTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def usable_python() -> str:
    """Return an interpreter new enough, this one if it is."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in range(14, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    raise Stop(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {platform.python_version()}.")


def working(python: Path) -> bool:
    """Tell whether a virtualenv's interpreter starts and has pip (a half-made one does not)."""
    return python.exists() and quiet([str(python), "-m", "pip", "--version"]).returncode == 0


def make_venv(base: str) -> None:
    """Create .venv, installing python3-venv first where Debian left it out."""
    if quiet([base, "-c", "import ensurepip, venv"]).returncode != 0:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise Stop("Python's venv module is missing. Type: sudo apt-get install python3-venv")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-qy", "python3-venv"]):
            checked(command, "python3-venv cannot be installed", environment)
    checked([base, "-m", "venv", "--clear", str(VENV)], "the virtualenv cannot be made")


def install() -> None:
    """Install the pinned requirements with uv; with pip where uv does not know this machine's package index."""
    offline = "the Python packages cannot be fetched. Is there a network? Run it again when there is"
    pip = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    checked([*pip, UV], offline)
    wanted = ["-r", str(ROOT / "requirements-dev.txt")]
    if quiet([str(VENV / "bin" / "uv"), "pip", "install", "-q", "--python", str(PYTHON), *wanted]).returncode != 0:
        checked([*pip, *wanted], offline)


def step(title: str, work: object) -> None:
    """Run one step, showing its name at once and its duration after."""
    print(f"  ·  {title} …", end="", flush=True)
    began = time.monotonic()
    assert callable(work)
    work()
    print(f" {time.monotonic() - began:.1f} s", flush=True)


def quiet(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checked(command: list[str], failure: str, environment: dict[str, str] | None = None) -> None:
    """Run a command silently; on failure stop with one line and the command's last words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-6:]
        raise Stop(f"{failure}.\n" + "\n".join(f"    {line}" for line in last))


if __name__ == "__main__":
    sys.exit(main())
