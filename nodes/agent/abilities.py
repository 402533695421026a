"""What a device can, once it is known: that the disk was full while it was tried says nothing of the kernel.

What is not known yet is tried again when it is needed next, and until then nothing is begun that would depend on it for good.
"""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator

from nodes.agent.diagnosis import DISK_FULL
from nodes.agent.engine import EngineError, is_disk_full
from nodes.agent.errors import AgentError, LeaseError
from nodes.agent.protocol import Reason
from nodes.agent.trial_turns import Untried

PASSING = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT)
)  # fmt: skip
WORDS = (*(os.strerror(number).lower() for number in PASSING), "deadline exceeded", "context canceled", "unavailable")
MOVED = (404, 409)  # somebody removed, or is removing, what was just made


class Ability:
    """Whether the device can do something: tried when it is needed, and not again once it is known. Safe to call from any thread."""

    def __init__(self, what: str, can: "Callable[[], bool]") -> None:
        """Args: what: is not known yet, as in "Whether …". can: tries it; may raise Untried."""
        self._what, self._can = what, can
        self._lock = threading.Lock()
        self._known: "bool | None" = None

    def known(self) -> bool:
        """Raises: Untried"""
        with self._lock:
            if self._known is None:
                try:
                    self._known = self._can()
                except AgentError as error:
                    raise (Untried(str(error)) if is_passing(error) else error) from error
            return self._known

    def needed(self) -> bool:
        """Return whether it can, for a lease that depends on it.

        Raises:
            LeaseError: it is not known now, and the lease waits.
        """
        try:
            return self.known()
        except Untried as error:
            full = is_disk_full(error)
            words = DISK_FULL if full else f"{self._what} could not be tried yet, so the app waits: {error}"
            raise LeaseError(Reason.DEVICE_ERROR, words) from error


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone with the next try though nobody changed the device: a full disk, no memory, a Docker that is slow or gone."""
    return any(map(_passes, _causes(error)))


def _passes(error: BaseException) -> bool:
    if isinstance(error, EngineError):
        return error.status in MOVED or _says_so(error)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in PASSING
    if isinstance(error, AgentError):
        return not error.permanent or _says_so(error)
    return isinstance(error, subprocess.TimeoutExpired)


def _says_so(error: AgentError) -> bool:
    text = str(error).lower()
    return any(word in text for word in WORDS)


def _causes(error: "BaseException | None") -> "Iterator[BaseException]":
    while error is not None:
        yield error
        error = error.__cause__
