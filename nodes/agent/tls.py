"""How a portal over HTTPS is trusted: by the system's authorities, and by no more of them in memory than are needed.

Debian keeps each authority in a file of its own, named by its hash: OpenSSL reads the one that signed for the portal. Fedora and Alpine keep
all of them in one file, and every process that trusts it holds all 140: 2 MB of an idle agent. There the agent keeps a
folder like Debian's, made of that file at each start that finds another.
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
import subprocess
from pathlib import Path

from nodes.agent import computer, files

log = logging.getLogger(__name__)
BEGINS, ENDS = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
STAMP = "made-of"  # names the file of all authorities, with its size and time
REHASH_SECONDS = 60
_spread: "list[Path]" = []


@functools.lru_cache(maxsize=1)
def context() -> ssl.SSLContext:
    """Return the one context of this process."""
    folder = _spread[0] if _spread else None
    if folder is None:
        return ssl.create_default_context()
    found = ssl.create_default_context(capath=str(folder))
    each = ssl.get_default_verify_paths().capath
    if each:
        found.load_verify_locations(capath=each)
    return found


def spread_authorities(folder: Path) -> bool:
    """Let `context` find the system's authorities in this folder, one file each, where the system has them in one.

    Returns whether it does; where it cannot be, the system's file is used as it is.
    """
    everything = ssl.get_default_verify_paths().cafile
    openssl = computer.program("openssl")
    if everything is None or openssl is None:
        return False
    try:
        info = os.stat(everything)
        stamp = f"{everything} {info.st_size} {info.st_mtime_ns}\n"
        if not _is_made_of(folder, stamp):
            files.remove_folder(folder)
            _make(folder, Path(everything), openssl)
            files.write_atomic(folder / STAMP, stamp.encode())  # last: half a folder trusts half of the authorities
    except (OSError, subprocess.SubprocessError) as error:
        log.info("All authorities of %s are held in memory (%s).", everything, error)
        return False
    _spread[:] = [folder]
    return True


def _is_made_of(folder: Path, stamp: str) -> bool:
    try:
        return (folder / STAMP).read_text() == stamp
    except OSError:
        return False


def _make(folder: Path, everything: Path, openssl: str) -> None:
    files.private_folder(folder)
    lines: "list[str]" = []
    number = 0
    with everything.open(errors="replace") as text:
        for line in text:
            if lines or line.startswith(BEGINS):
                lines.append(line)
            if line.startswith(ENDS):
                (folder / f"{number:04}.pem").write_text("".join(lines))
                number, lines = number + 1, []
    command = [openssl, "rehash", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=REHASH_SECONDS)
