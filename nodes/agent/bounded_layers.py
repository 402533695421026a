"""Writable layers the kernel holds to their size where Docker itself cannot: each lies in a file system of its own (disks.py).

    <Docker's data>/interchain/<name>.img    the file system: `<id>/diff` and `work` are the layer, `apart-<number>` what the image wants kept apart
    <Docker's data>/interchain/<name>.dev    link to the loop device that offers it now
    <Docker's data>/interchain/<name>.mnt    link to where it is mounted, while a container starts and no longer
    <Docker's data>/overlay2/<id>/diff, work links into that; elsewhere in containerd's store (layer_links.py)

Docker mounts the layer at each start of the container. For that moment the agent has the file system mounted by an opener (openers.py); the
mounted layer keeps it after that. Anybody else's `docker start` finds nothing where the links lead and fails, so no app runs without its limit.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from nodes.agent import disks, layer_links, loops, sandbox, volume_files
from nodes.agent.abilities import Ability
from nodes.agent.diagnosis import DISK_FULL
from nodes.agent.engine import Engine, EngineError, is_disk_full
from nodes.agent.errors import AgentError, LeaseError, SetupError
from nodes.agent.openers import CannotMount, Openers, is_damage
from nodes.agent.protocol import Reason, Workload
from nodes.agent.trial_turns import Untried

log = logging.getLogger(__name__)
PREFIX = "layer-"
SPARE = "spare-"
LEAVE_AFTER_SECONDS = 0.5
WRITTEN_SECONDS = 2.0
GONE_INSIDE = "no such file or directory"  # the folders of the layer, in a file system that is mounted


class LayerLost(LeaseError):
    """What a container wrote beside its volume cannot be had any more."""


class Opening(threading.Thread):
    """A file system that is being mounted at `path`, from the loop device the link `device` leads to. Whoever needs it there waits; a start of a container without that fails.

    Letting go of it costs Docker as much as a start's other steps do, so it is left until the app has had its start for itself.
    """

    def __init__(self, path: str, device: str, work: "Callable[[ExitStack], None]") -> None:
        super().__init__(name="layer", daemon=True)
        self.path, self.device, self._work = path, device, work
        self._ready, self._leave, self._hurry = threading.Event(), threading.Event(), threading.Event()
        self._error: "Exception | None" = None

    def run(self) -> None:
        try:
            with ExitStack() as stack:
                try:
                    self._work(stack)
                except Exception as error:
                    self._error = error
                    return
                self._ready.set()
                self._leave.wait()
                self._hurry.wait(LEAVE_AFTER_SECONDS)
        except (AgentError, OSError) as error:  # it goes with the next start of the agent, or with the lease
            log.warning("A layer's file system is still mounted: %s", error)
        finally:
            self._ready.set()

    def wait(self) -> str:
        """Return the path once it is mounted there.

        Raises:
            LayerLost: Docker cannot mount it. LeaseError, AgentError: it cannot be made, or not be seen.
        """
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self.path

    def leave(self) -> None:
        """Have it let go of soon; returns at once."""
        self._leave.set()

    def end(self) -> None:
        """Return when it is let go of."""
        self._leave.set()
        self._hurry.set()
        self.join()


class BoundedLayers:
    """The layers of one device. Safe to call from any thread, for one lease from one at a time."""

    def __init__(self, device_id: str, engine: Engine, openers: Openers) -> None:
        """Args: openers: of the device; prepared before the layers are."""
        self._device_id, self._engine, self._openers = device_id, engine, openers
        self._folder = Path()
        self._lock = threading.Lock()
        self._openings: dict[Path, Opening] = {}  # what is, or was, opened for a start
        self._spare: "tuple[Path, int] | None" = None  # a file system that no lease has, and its size
        self.possible = Ability("Whether what the app writes can be held to a size here", lambda: False)

    def prepare(self, docker_root: str, *, leases: "Iterable[str]", possible: Ability) -> None:
        """Remove what is left of containers that are gone, and make openers ready.

        Args:
            leases: those that have a container. possible: whether new containers are to get one (trials.py); until it is known none is begun.
        """
        self._folder = Path(docker_root) / volume_files.FOLDER
        kept = {self._image(lease_id).stem for lease_id in leases}
        for image in {path.with_suffix(".img") for path in self._folder.glob(f"{self._name('*')}")}:
            if image.stem not in kept:
                volume_files.erase(image)
            image.with_suffix(".mnt").unlink(missing_ok=True)
        self._spare = None
        self.possible = possible
        with suppress(Untried):
            if possible.known():
                self._refill()

    @contextmanager
    def fresh(self, lease_id: str, workload: Workload) -> "Iterator[Opening | None]":
        """Have a new layer made and mounted while the block makes and starts its container; None where it gets none.

        It is begun here and goes on beside the block's first steps, which take as long: see `Opening`.

        Raises:
            LeaseError: whether it can be held to a size is not known now; an app is not started without its limit meanwhile.
        """
        size = sandbox.layer_allowance(workload)
        if not size or not self.possible.needed():
            yield None
            return
        with self._opened(self._image(lease_id), size=size) as opening:
            yield opening

    @contextmanager
    def again(self, detail: "dict[str, Any]") -> Iterator[None]:
        """Have a container's layer where its links lead while the block starts it; nothing to do for one without.

        Raises:
            LayerLost: the file system is gone or damaged, or the container was never joined to it.
        """
        if sandbox.LAYER_LABEL not in detail["Config"]["Labels"]:
            yield
            return
        with self._opened(self._image(detail["Config"]["Labels"][f"{sandbox.LABEL}lease"])) as opening:
            opening.wait()
            try:
                joined = layer_links.is_joined(detail, self._engine)
            except EngineError as error:
                lost = is_damage(error) or GONE_INSIDE in str(error).lower()
                raise (LayerLost if lost else LeaseError)(
                    Reason.DEVICE_ERROR, f"Docker cannot mount its files: {error}"
                ) from error
            if not joined:
                raise LayerLost(Reason.DEVICE_ERROR, "its container is not joined to it")
            yield

    def leases(self) -> "set[str]":
        """Return the leases that have a layer here, with a container or without."""
        begin = self._name("")
        names = (
            {path.stem.removeprefix(begin) for path in self._folder.glob(f"{begin}*.img")}
            if self._folder.name
            else set()
        )
        return {name for name in names if not name.startswith(SPARE)}

    def remove(self, lease_id: str) -> None:
        """Remove the layer of a lease whose container is gone; it is fine if there is none."""
        image = self._image(lease_id)
        self._wait_until_closed(image)
        volume_files.erase(image)

    def is_full(self, lease_id: str) -> bool:
        """Whether the container of a lease, which has ended, had no room left in its layer."""
        image = self._image(lease_id)
        self._wait_until_closed(image)
        with suppress(FileNotFoundError):
            until = time.monotonic() + WRITTEN_SECONDS  # what is free is written down when it is unmounted
            while loops.attached(image) and time.monotonic() < until:
                time.sleep(0.02)
            return disks.is_full(image)
        return False

    @contextmanager
    def _opened(self, image: Path, *, size: int = 0) -> "Iterator[Opening]":
        """Have it mounted, as long as the block lasts; an app need not wait for the end of it.

        Args:
            size: make it first, of so many bytes; 0: it is there.
        """
        self._wait_until_closed(image)
        path, device = str(image.with_suffix(".mnt")), str(image.with_suffix(".dev"))
        opening = Opening(path, device, partial(self._open, image, size))
        with self._lock:
            self._openings[image] = opening
        opening.start()
        try:
            yield opening
        finally:
            opening.leave()

    def _open(self, image: Path, size: int, stack: ExitStack) -> None:
        try:
            if size:
                self._make(image, size)
            if not image.exists():
                raise LayerLost(Reason.DEVICE_ERROR, f"{image} is missing")
            if not disks.is_file_system(image):
                raise LayerLost(Reason.DEVICE_ERROR, f"{image} holds no file system")
            device, keep = loops.hold(image) or loops.attach(image)
            stack.callback(self._refill, image.stat().st_size)
            stack.callback(os.close, keep)
            volume_files.link(image.with_suffix(".dev"), device)  # Docker finds by it what to hold the app's writes to
            path = stack.enter_context(self._openers.mounted(device))
            stack.callback(image.with_suffix(".mnt").unlink, missing_ok=True)
            volume_files.link(image.with_suffix(".mnt"), path)
        except CannotMount as error:
            raise LayerLost(Reason.DEVICE_ERROR, f"Docker cannot mount {image}: {error}") from error
        except (OSError, SetupError, EngineError) as error:
            raise LeaseError(Reason.DEVICE_ERROR, DISK_FULL if is_disk_full(error) else str(error)) from error

    def _make(self, image: Path, size: int) -> None:
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None and spare[1] == disks.whole(size):
            with suppress(FileNotFoundError):
                spare[0].replace(image)
                return
        self._folder.mkdir(mode=0o711, exist_ok=True)
        disks.make(image, size, lasting=False)
        if spare is not None:
            spare[0].unlink(missing_ok=True)

    def _refill(self, size: int = 0) -> None:
        with self._lock:
            wanted = bool(size) and (self._spare is None or self._spare[1] != size)
        if wanted:
            self._make_spare(size)
        with suppress(AgentError):  # then the next start makes its own
            self._openers.refill()

    def _make_spare(self, size: int) -> None:
        """Have a file system ready for the next start, of the size that was wanted last: one app is often started several times."""
        path = self._image(f"{SPARE}{uuid.uuid4().hex[:10]}")
        with suppress(OSError, SetupError):  # then the next start makes its own
            disks.make(path, size, lasting=False)
            with self._lock:
                spare, self._spare = self._spare, (path, size)
            if spare is not None:
                spare[0].unlink(missing_ok=True)

    def _wait_until_closed(self, image: Path) -> None:
        with self._lock:
            opening = self._openings.pop(image, None)
        if opening is not None:
            opening.end()

    def _image(self, lease_id: str) -> Path:
        return self._folder / f"{self._name(lease_id)}.img"

    def _name(self, lease_id: str) -> str:
        return sandbox.volume_name(self._device_id, f"{PREFIX}{lease_id}")
