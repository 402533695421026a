"""Containers by which Docker is made to mount file systems of ours for a moment: two are kept ready, for making one is most of what that takes.

An opener never runs. It has one volume without a name, which mounts whatever file system the link `<name>.dev` leads to when Docker is told to
unpack an archive there, and the archive does not come to its end until we are done. That takes 2 ms; starting a container that sleeps takes 200. An
agent that is killed ends it, too. Between two uses the link is not there, so an opener that nobody uses has nothing mounted, and no disk.

The same file system may be mounted by others meanwhile: the kernel has it once, so all see the same files, and a key given to it opens it for all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nodes.agent import holders, sandbox
from nodes.agent.engine import Engine, EngineError, Unfinished, filters
from nodes.agent.errors import AgentError

log = logging.getLogger(__name__)
GONE = 404
SPARE = 2  # what one start takes: for its layer and for its encrypted volume. More are made when apps start at once, and removed afterwards
MOUNT_SECONDS = 15.0  # a file system that was not unmounted reads its journal first
LOOK_SECONDS = 0.001
UNSEEN_SECONDS = 2.0  # between the kernel's having a file system and Docker's having it mounted are microseconds
KNOWN_TO_THE_KERNEL = Path("/sys/fs/ext4")  # every ext4 file system that anybody has mounted, by its device
DAMAGE = ("invalid argument", "structure needs cleaning", "bad message", "wrong fs type", "bad superblock")
# Freed blocks go back to the owner's disk; what we mount holds no devices and lends no rights.
OPTIONS = "discard,nodev,nosuid"


class CannotMount(AgentError):
    """Docker was told to mount the file system, and cannot: it is damaged."""


class TooSlow(AgentError):
    """Docker does not mount it in time."""

    permanent = False


@dataclass(frozen=True)
class Opener:
    container: str  # its id
    device: Path  # the link Docker mounts what it leads to
    path: str  # where Docker mounts that


class Openers:
    """The openers of one device. Safe to call from any thread."""

    def __init__(self, engine: Engine, labels: "dict[str, str]", *, prefix: str) -> None:
        """Args: labels: of the containers. prefix: of the links' names, by which they are known again after an agent was killed."""
        self._engine, self._labels, self._prefix = engine, labels, prefix
        self._folder = Path()
        self._lock = threading.Lock()
        self._spare: list[Opener] = []

    def prepare(self, folder: Path) -> None:
        """Forget those of earlier runs, and remove their links. Args: folder: where the links are to be."""
        with self._lock:
            self._folder, self._spare = folder, []
        for left in folder.glob(f"{self._prefix}*"):
            left.unlink(missing_ok=True)

    def refill(self) -> None:
        """Make those that are missing for the next start."""
        with self._lock:
            missing = SPARE - len(self._spare)
        for _ in range(missing):
            self._give_back(self._make())

    @contextmanager
    def mounted(self, device: str, *, seconds: float = 0.0) -> Iterator[str]:
        """Return where Docker has the file system on a device mounted while the block lasts.

        Args:
            device: the path of a loop device, which somebody keeps open.
            seconds: how long Docker may take; 0: `MOUNT_SECONDS`.

        Raises:
            CannotMount: the kernel says that it is damaged. AgentError: Docker cannot for another reason, does not do it in time, or not where this agent can see it, or no opener can be made.
        """
        opener = self._take() or self._make()
        usable = False
        try:
            opener.device.unlink(missing_ok=True)
            opener.device.symlink_to(device)
            number, unseen = os.stat(device).st_rdev, _unseen(device)
            archive = f"/containers/{opener.container}/archive"
            with self._engine.unfinished("PUT", archive, query={"path": sandbox.OPENED_AT}) as unpacking:
                try:
                    wait_until(_has(opener.path, number), unpacking, seconds=seconds or MOUNT_SECONDS, unseen=unseen)
                except EngineError as error:
                    if not is_damage(error):
                        raise
                    raise CannotMount(str(error)) from error
                yield opener.path
                unpacking.end()  # returns when Docker has let go of it
            usable = not os.path.ismount(opener.path)
        finally:
            opener.device.unlink(missing_ok=True)
            self._give_back(opener) if usable else self._remove(opener)

    def close(self) -> None:
        """Remove those nobody uses."""
        with self._lock:
            spare, self._spare = self._spare, []
        for opener in spare:
            self._remove(opener)

    def _take(self) -> "Opener | None":
        """Return one that is ready, if Docker still has it: somebody may have pruned its containers."""
        while True:
            with self._lock:
                opener = self._spare.pop() if self._spare else None
            if opener is None:
                return None
            found = self._engine.call("GET", f"/containers/{opener.container}/json", ignore=(GONE,))
            if found is not None and not os.path.ismount(opener.path):
                return opener
            self._remove(opener)

    def _make(self) -> Opener:
        device = self._folder / f"{self._prefix}{uuid.uuid4().hex[:10]}.dev"
        options = {"type": "ext4", "device": str(device), "o": OPTIONS}
        body = sandbox.opener_arguments(image=holders.image(self._engine), labels=self._labels, options=options)
        container = str(self._engine.call("POST", "/containers/create", body)["Id"])
        try:
            (volume,) = self._engine.call("GET", f"/containers/{container}/json")["Mounts"]
            return Opener(container, device, str(volume["Source"]))
        except BaseException:
            self._remove(Opener(container, device, ""))
            raise

    def _give_back(self, opener: Opener) -> None:
        with self._lock:
            if len(self._spare) < SPARE:
                self._spare.append(opener)
                return
        self._remove(opener)

    def _remove(self, opener: Opener) -> None:
        try:
            self._engine.call(
                "DELETE", f"/containers/{opener.container}", query={"force": "1", "v": "1"}, ignore=(GONE,)
            )
        except AgentError as error:  # it goes with the next start of the agent
            log.warning("An opener is left: %s", error)


def is_damage(error: EngineError) -> bool:
    """Whether Docker cannot mount a file system for what is in it: the kernel's words for that. Anything else may be well the next time."""
    text = str(error).lower()
    return "mount" in text and any(words in text for words in DAMAGE)


def _has(path: str, number: int) -> "Callable[[], bool]":
    """Whether this very device is mounted there, and not what somebody left."""
    return lambda: os.stat(path).st_dev == number


def remove_left(engine: Engine, *labels: str) -> None:
    """Remove the openers that a killed agent left, with their volumes.

    Args:
        labels: what all of them have, as Docker filters: a name, or a name and a value, "a=b".
    """
    for item in engine.call("GET", "/containers/json", query={"all": "1", **filters(label=list(labels))}):
        engine.call("DELETE", f"/containers/{item['Id']}", query={"force": "1", "v": "1"}, ignore=(GONE,))


def _unseen(device: str) -> "Callable[[], bool]":
    """Whether Docker has mounted it a while ago, and so where this agent cannot see it; not to be told where others have it mounted already."""
    known = KNOWN_TO_THE_KERNEL / Path(device).name
    if known.exists():
        return lambda: False
    since: "float | None" = None

    def found() -> bool:
        nonlocal since
        if since is None and known.exists():
            since = time.monotonic()
        return since is not None and time.monotonic() - since > UNSEEN_SECONDS

    return found


def wait_until(
    found: "Callable[[], bool]", unpacking: Unfinished, *, seconds: float, unseen: "Callable[[], bool]" = lambda: False
) -> None:
    """Return once Docker has mounted what an archive is to be unpacked into.

    Args:
        unseen: whether it is sure that it never will be found.

    Raises:
        AgentError: it is not in time (TooSlow), or unseen; in Docker's words if it has any.
    """
    give_up_at = time.monotonic() + seconds
    while not found():
        if unseen():
            raise AgentError("Docker has mounted the volume where this agent cannot see it.")
        if time.monotonic() > give_up_at:
            unpacking.end()  # says why Docker did not mount it
            raise TooSlow("The volume is mounted where this agent cannot see it, or Docker takes too long.")
        time.sleep(LOOK_SECONDS)
