"""A PostgreSQL cluster of the tests' own: its own folder and port, run as a user who is not root, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from interchain_site.local.steps import Stop, command
from interchain_site.testing.servers import free_port

# Nothing here is worth keeping, so nothing waits for the disk.
SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "listen_addresses=127.0.0.1",
    "max_connections=200",
)


@contextmanager
def cluster(folder: Path, *, settings: Sequence[str] = SETTINGS) -> Iterator[str]:
    """Run a cluster in `folder` (made on first use) until the block ends; yields its URL.

    Raises:
        Stop: PostgreSQL is not installed, or does not start.
    """
    programs = _programs()
    user = _runner(folder)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        initdb = [
            str(programs / "initdb"),
            "-D",
            str(data),
            "-U",
            "interchain",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        ]
        _as(user, initdb, "PostgreSQL cannot make a cluster")
    port, log = free_port(), folder / "postgres.log"
    options = " ".join(f"-c {setting}" for setting in (*settings, f"port={port}", f"unix_socket_directories={folder}"))
    control = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(log)]
    subprocess.run(_command(user, [*control, "-m", "immediate", "stop"]), capture_output=True, check=False, cwd="/")
    _as(user, [*control, "-o", options, "start"], f"PostgreSQL does not start (see {log})")
    try:
        yield f"postgres://interchain@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(_command(user, [*control, "-m", "fast", "stop"]), capture_output=True, check=False, cwd="/")


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb is None:
        raise Stop("PostgreSQL is not installed. Type: sudo apt-get install postgresql")
    return Path(initdb).resolve().parent


def _runner(folder: Path) -> str:
    """Return who runs the cluster: this user, or `postgres` when this is root (PostgreSQL refuses root)."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return ""
    owner = pwd.getpwnam("postgres")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    folder.chmod(0o700)
    return "postgres"


def _command(user: str, arguments: list[str]) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *arguments] if user else arguments


def _as(user: str, arguments: list[str], failure: str) -> None:
    command(_command(user, arguments), failure=failure, cwd=Path("/"))
