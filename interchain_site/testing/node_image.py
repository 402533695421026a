"""The agent's own image, built by its own Dockerfile; only what that begins with is made here instead of pulled.

Its base image is Python with pip on a small Debian; ours is the same from Debian's packages (`interchain_site.local.images`). What the
Dockerfile then does, it does itself: packages by apt, the agent's requirements by pip from wheels this machine's pip found.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from interchain_site.local import images
from interchain_site.local.steps import ROOT, command

NAME = "interchain-test/node:1"
AGENT = ROOT / "nodes" / "agent"
BASE = """\
FROM python:3.11-slim
COPY wheels /wheels
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_ROOT_USER_ACTION=ignore
RUN python3 "$(echo /wheels/pip-*.whl)/pip" install --no-cache-dir pip
"""


def image() -> str:
    """Return the name of the agent's image on this machine's Engine: that of INTERCHAIN_NODE_IMAGE, or one built of these sources."""
    given = os.environ.get("INTERCHAIN_NODE_IMAGE", "")
    return given or _build(NAME, ROOT, "-f", str(AGENT / "Dockerfile"), "--build-arg", f"BASE={_base()}")


def _base() -> str:
    """Return the name of an image with Python and pip, made unless the Engine has it."""
    wanted = (AGENT / "requirements.txt").read_bytes()
    name = f"interchain-test/python:{hashlib.sha256(BASE.encode() + wanted).hexdigest()[:12]}"
    if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0:
        return name
    images.base_image("python:3.11-slim")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(BASE)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", "--python-version", "3.11"]
        wanted_and_pip = ["-r", str(AGENT / "requirements.txt"), "pip", "-d", str(context / "wheels")]
        command([*pip, *wanted_and_pip], failure="The agent's requirements cannot be downloaded")
        return _build(name, context)


def _build(name: str, context: Path, *options: str) -> str:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}  # the classic builder takes base images from the Engine alone
    build = ["docker", "build", "-q", "-t", name, *options, str(context)]
    command(build, failure=f"{name} cannot be built", env=environment)
    return name
