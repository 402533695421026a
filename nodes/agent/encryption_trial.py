"""Tries whether this device can keep apps' data encrypted: a volume is made, mounted by Docker, unlocked, written to, and looked for on the disk.

Only one trial is made at a time on an Engine, whoever makes it, so what lies there before one was left by an agent that was killed in its own.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from nodes.agent import disks, encryption, fscrypt, holders, loops, openers, sandbox
from nodes.agent.engine import Engine
from nodes.agent.errors import AgentError
from nodes.agent.trial_turns import Untried, turn

NAME = "interchain-trial-encryption"
LABELS = {f"{sandbox.LABEL}trial": "encryption"}
BYTES = 2**21
MARK = b"interchain tries whether this can be read " * 50


def why_not(folder: Path, engine: Engine) -> str:
    """Return why this device cannot encrypt a volume, "" if it can.

    Args:
        folder: where volumes' files are; made if it is missing.

    Raises:
        Untried: something else came between, such as a Docker Engine that does not answer or a full disk.
    """
    try:
        if not holders.image(engine):
            return "no volume can be opened for it on this kind of processor"
        with turn(folder):
            tidy(folder, engine)
            try:
                secret = _keeps_secret(folder / f"{NAME}.img", engine)
                return "" if secret else "it does not keep the text from the disk"
            finally:
                with suppress(OSError, AgentError):  # what stays is found before the next trial
                    tidy(folder, engine)
    except (OSError, AgentError) as error:
        cause = error.__cause__ or error
        if isinstance(cause, OSError) and cause.errno in (errno.EOPNOTSUPP, errno.ENOTTY):
            return "this kernel has no encryption for ext4"
        raise Untried(str(error)) from error


def tidy(folder: Path, engine: Engine) -> None:
    """Remove what a trial made, also one whose agent was killed; not while one is under way."""
    openers.remove_left(engine, *(f"{name}={value}" for name, value in LABELS.items()))
    for path in folder.glob(f"{NAME}*"):
        path.unlink(missing_ok=True)


def tidy_in_turn(folder: Path, engine: Engine) -> None:
    """Remove what a killed agent's trial left, once no other is under way."""
    if folder.is_dir():
        with turn(folder):
            tidy(folder, engine)


def _keeps_secret(image: Path, engine: Engine) -> bool:
    """Write into an encrypted folder as an app's volume has one, and return whether the text cannot be read from the disk."""
    own = openers.Openers(engine, LABELS, prefix=f"{NAME}-")
    own.prepare(image.parent)
    disks.make(image, BYTES, encrypted=True)
    device, keep = loops.attach(image)
    try:
        with own.mounted(device) as mounted:
            data = Path(encryption.unlock(mounted, os.urandom(fscrypt.KEY_BYTES), (0, 0)))
            with (data / "mark").open("wb") as file:
                file.write(MARK)
                file.flush()
                os.fsync(file.fileno())
    finally:
        os.close(keep)
    return MARK[:42] not in image.read_bytes()
