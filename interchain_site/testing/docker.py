"""Small images for tests with a real Docker Engine, made without a registry, and what a test may leave behind removed."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

BUSYBOX = "interchain-test/busybox:1"


def engine_answers() -> bool:
    """Whether a Docker Engine can be used here."""
    if shutil.which("docker") is None:
        return False
    return (
        subprocess.run(["docker", "version", "-f", "{{.Server.Version}}"], capture_output=True, check=False).returncode
        == 0
    )


def docker(*arguments: str, input: bytes | None = None) -> str:
    """Run the docker command; returns what it printed.

    Raises:
        AssertionError: it failed; with what it said.
    """
    done = subprocess.run(["docker", *arguments], input=input, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def busybox_root() -> bytes:
    """Return a tar of a root folder with Debian's static busybox and a link for each of its applets."""
    program = Path(shutil.which("busybox") or "/bin/busybox")
    applets = subprocess.run([program, "--list"], capture_output=True, check=True).stdout.decode().split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "www", "data", "dev", "proc", "sys", "run"):
            _add(tar, folder, kind=tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        _add(tar, "bin/busybox", program.read_bytes(), mode=0o755)
        for applet in applets:
            if applet != "busybox":
                _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        _add(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        _add(tar, "etc/group", b"root:x:0:\nnobody:x:65534:\n")
        _add(tar, "www/index.html", b"hello from a device\n")
    return out.getvalue()


def import_image(name: str, root: bytes, *changes: str) -> str:
    """Make an image from a root folder, with Dockerfile lines (`CMD …`); returns its id."""
    options = [part for change in changes for part in ("--change", change)]
    return docker("import", *options, "-", name, input=root)


@cache
def busybox() -> str:
    """Return the id of a 2 MB image with busybox and no command."""
    return import_image(BUSYBOX, busybox_root())


@cache
def image(command: str, *changes: str) -> str:
    """Return the id of an image that runs a shell command in the foreground."""
    busybox()
    lines = [f"FROM {BUSYBOX}", *changes, f"CMD {json.dumps(['/bin/sh', '-c', command])}"]
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        _add(tar, "Dockerfile", "\n".join(lines).encode())
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        ["docker", "build", "-q", "-"], input=context.getvalue(), capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def remove_labelled(label: str) -> None:
    """Remove every container, network and volume with the label."""
    chosen = f"label={label}"
    for kind, listing, removal in (
        ("container", ["ps", "-aq"], ["rm", "-f", "-v"]),
        ("network", ["network", "ls", "-q"], ["network", "rm"]),
        ("volume", ["volume", "ls", "-q"], ["volume", "rm", "-f"]),
    ):
        found = docker(*listing, "--filter", chosen).split()
        if found:
            subprocess.run(["docker", *removal, *found], capture_output=True, check=False)
        del kind


def _add(
    tar: tarfile.TarFile,
    name: str,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    link: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = len(data), mode, kind, link
    tar.addfile(info, io.BytesIO(data))
