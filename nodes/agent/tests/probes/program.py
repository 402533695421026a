"""The probe program, built from `src/`, and the image it is an app in: a web server whose answers are attempts to break out."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path

from interchain_site.testing import docker as engine

SOURCES = Path(__file__).parent / "src"
IMAGE = "interchain-test/probes:1"
PORT, SECOND_PORT = 8080, 9090
# Two ports, of which the release names one. Its own output is where the log bomb goes.
COMMAND = f"httpd -p {SECOND_PORT} -h /www; exec httpd -f -p {PORT} -h /www"
FLAGS = ("-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-static")


@cache
def program() -> bytes:
    """Return the static executable.

    Raises:
        AssertionError: it cannot be compiled; with what the compiler said.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "probe"
        command = ["gcc", *FLAGS, "-o", str(out), *map(str, sorted(SOURCES.glob("*.c")))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return out.read_bytes()


@cache
def image() -> str:
    """Return the id of the image: busybox, the program three times, and nodes for the disk Docker's own
    files are on and for the kernel's log."""
    root = io.BytesIO(engine.busybox_root())
    root.seek(0)
    with tarfile.open(fileobj=root, mode="a") as tar:
        for name, mode in (("bin/probe", 0o755), ("bin/probe-setuid", 0o4755), ("www/cgi-bin/probe", 0o755)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(program()), mode
            tar.addfile(info, io.BytesIO(program()))
        disk = os.stat(engine.docker("info", "-f", "{{.DockerRootDir}}")).st_dev
        for name, kind, major, minor in (
            ("www/disk", tarfile.BLKTYPE, os.major(disk), os.minor(disk)),
            ("www/kmsg", tarfile.CHRTYPE, 1, 11),
        ):
            node = tarfile.TarInfo(name)
            node.type, node.mode, node.devmajor, node.devminor = kind, 0o666, major, minor
            tar.addfile(node)
    command = f"CMD {['/bin/sh', '-c', COMMAND]}".replace("'", '"')
    return engine.import_image(IMAGE, root.getvalue(), command, f"EXPOSE {PORT} {SECOND_PORT}")


def words(line: str, **values: object) -> list[str]:
    """Return a probe and its arguments, the names in braces replaced."""
    return shlex.split(line.format(**values))
