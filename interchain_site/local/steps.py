"""Numbered steps with durations, and stamps that let a half-finished set-up go on where it stopped."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PRIVATE = 0o077  # umask of a site's programs: the database, mails and logs are nobody else's to read


class Stop(Exception):
    """Something is in the way that a person must mend; the text is one line saying what to do."""


class Steps:
    """Print `n. title … 1.2 s` for each step of one job."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.number = 0
        self.quiet = quiet
        self.began = time.monotonic()

    def do(self, title: str, work: Callable[[], object]) -> None:
        """Run a step; a text it returns is shown beside its duration."""
        self.number += 1
        if not self.quiet:
            print(f"{self.number:3d}. {title} …", end="", flush=True)
        began = time.monotonic()
        note = work()
        if not self.quiet:
            said = f" ({note})" if isinstance(note, str) and note else ""
            print(f" {time.monotonic() - began:.1f} s{said}", flush=True)

    @property
    def seconds(self) -> float:
        """Return how long the job has been running."""
        return time.monotonic() - self.began


def command(
    arguments: list[str],
    *,
    failure: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout_seconds: float = 1800,
    stdin: bytes | None = None,
    umask: int = -1,
) -> str:
    """Run a program silently and return what it printed.

    Raises:
        Stop: it failed; the message is `failure` and the program's last lines.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            umask=umask,
        )
    except FileNotFoundError:
        raise Stop(f"{failure}: {arguments[0]} is not installed.") from None
    with process:
        try:
            out, err = process.communicate(stdin, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # a Python program with PYTHONFAULTHANDLER says where it hangs
            out, err = process.communicate()
            failure = f"{failure}: no end after {timeout_seconds:g} s"
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        said = (err.strip() or out.strip()).decode(errors="replace").splitlines()[-8:]
        raise Stop(f"{failure}.\n" + "\n".join(f"    {line}" for line in said))
    return out.decode(errors="replace")


def fingerprint(paths: Iterable[Path], *, extra: str = "") -> str:
    """Return one hash over the contents of files (folders: all files in them) and a text."""
    digest = hashlib.sha256(extra.encode())
    for path in sorted(paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def once(stamp: Path, wanted: str, work: Callable[[], object]) -> str:
    """Do the work unless the stamp file says it was completed for the same `wanted` fingerprint."""
    if stamp.exists() and stamp.read_text() == wanted:
        return "up to date"
    work()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    return ""
