"""The agent's own image, built by its Dockerfile from what a fresh machine has: Debian packages, and the wheels pip finds there."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from interchain_site.local import images
from interchain_site.local.steps import ROOT
from interchain_site.testing import docker as engine

NAME = "interchain-test/node:1"
REQUIREMENTS = ROOT / "nodes" / "agent" / "requirements.txt"
# What python:3.11-slim has beyond Debian's own small system, and the agent's requirements as this machine's pip found them.
BASE = """\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
COPY wheels /wheels
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
"""


def image() -> str:
    """Return the name of the agent's image on this machine's Engine: the one of INTERCHAIN_NODE_IMAGE, or one built of these sources."""
    given = os.environ.get("INTERCHAIN_NODE_IMAGE", "")
    return given or _build(NAME, ROOT, "-f", str(ROOT / "nodes/agent/Dockerfile"), "--build-arg", f"BASE={_base()}")


def _base() -> str:
    stamp = hashlib.sha256(BASE.encode() + REQUIREMENTS.read_bytes()).hexdigest()[:12]
    name, kept = f"interchain-test/python:{stamp}", images.cache() / f"program-python-{stamp}.tar"
    if subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0:
        return name
    if kept.exists():
        engine.docker("load", "-q", "-i", str(kept))
        return name
    images.base_image("debian:bookworm-slim")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(BASE)
        wanted = ["--only-binary=:all:", "--python-version", "3.11", "-r", str(REQUIREMENTS)]
        download = [sys.executable, "-m", "pip", "download", "-q", *wanted, "-d", str(context / "wheels")]
        done = subprocess.run(download, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        _build(name, context)
    partial = kept.with_suffix(".partial")
    engine.docker("save", "-o", str(partial), name)
    partial.rename(kept)
    return name


def _build(name: str, context: Path, *options: str) -> str:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}  # the classic builder takes base images from the Engine alone
    command = ["docker", "build", "-q", "-t", name, *options, str(context)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return name
