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


class Cluster:
    """A cluster in a folder, which is made on first use. It may be stopped and started as often as one likes."""

    def __init__(self, folder: Path, *, settings: Sequence[str] = SETTINGS) -> None:
        """Raises: Stop: PostgreSQL is not installed, or cannot make a cluster."""
        programs, data = _programs(), folder / "data"
        self._user, self._log, port = _runner(folder), folder / "postgres.log", free_port()
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)
            made = ["-U", "interchain", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
            _as(self._user, [str(programs / "initdb"), "-D", str(data), *made], "PostgreSQL cannot make a cluster")
        chosen = (*settings, f"port={port}", f"unix_socket_directories={folder}")
        self._options = " ".join(f"-c {setting}" for setting in chosen)
        self._control = [str(programs / "pg_ctl"), "-D", str(data), "-w", "-l", str(self._log)]
        self.url = f"postgres://interchain@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start it, after ending what may be left of an earlier run.

        Raises:
            Stop: it does not start.
        """
        self.stop("immediate")
        _as(self._user, [*self._control, "-o", self._options, "start"], f"PostgreSQL does not start (see {self._log})")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; it is fine if it does not run. `immediate` is as a power cut."""
        command = _command(self._user, [*self._control, "-m", mode, "stop"])
        subprocess.run(command, capture_output=True, check=False, cwd="/")


@contextmanager
def cluster(folder: Path, *, settings: Sequence[str] = SETTINGS) -> Iterator[str]:
    """Run a cluster in `folder` until the block ends; yields its URL.

    Raises:
        Stop: PostgreSQL is not installed, or does not start.
    """
    found = Cluster(folder, settings=settings)
    found.start()
    try:
        yield found.url
    finally:
        found.stop()


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
