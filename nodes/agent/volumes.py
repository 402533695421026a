"""Apps' volumes, each as large as the workload's `disk_bytes` and no larger, whatever the app does.

Where the device can, a volume is a file system of its own in one sparse file (disks.py) under Docker's data folder:

    <Docker's data>/interchain/<volume>.img    the file system
    <Docker's data>/interchain/<volume>.dev    link to the loop device that offers it now
    <Docker's data>/interchain/<volume>.mnt    of an encrypted one: link to where it is mounted, while a container starts and no longer

Docker's local driver mounts the link when the container starts and unmounts it when it ends; the loop device then goes by itself. So
nothing has to be put back after a reboot or a restart of Docker: each start attaches what it needs. A volume whose file is gone is
refused, never begun anew. Volumes made by agents before 0.2, and those of devices without loop devices, are plain folders.

Longer than 300 lines because it is the whole life of a volume: made, filled, opened, looked at, removed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from nodes.agent import (
    diagnosis,
    disks,
    encryption,
    encryption_trial,
    holdings,
    loops,
    openers,
    sandbox,
    volume_files,
    volume_trial,
)
from nodes.agent.abilities import Ability
from nodes.agent.config import Config
from nodes.agent.diagnosis import DISK_FULL
from nodes.agent.engine import Engine, EngineError, filters, is_disk_full
from nodes.agent.errors import AgentError, LeaseError, SetupError
from nodes.agent.executor import Volume
from nodes.agent.openers import CannotMount, Openers
from nodes.agent.protocol import Profile, Reason, Workload
from nodes.agent.trial_turns import Untried

log = logging.getLogger(__name__)

OPENER = f"{sandbox.LABEL}opener"
OPENER_PREFIX = "opener-"


class Volumes:
    """The volumes of one device. Safe to call from any thread."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._lock = threading.Lock()
        self._folder = Path()
        # Whether new volumes are file systems of their own: one begun as a plain folder has no limit for its whole life.
        self._bounds = Ability("Whether the app's volume can be held to its size here", self._can_bound)
        self._encrypts = Ability("Whether the app's data can be encrypted here", self._can_encrypt)
        self.keys = encryption.Keys()
        labels = {f"{sandbox.LABEL}device": config.device_id, OPENER: "1"}
        self.openers = Openers(engine, labels, prefix=self._name(OPENER_PREFIX))

    def prepare(self, docker_root: str) -> None:
        """Find out whether this device can bound a volume. Called once, before anything starts.

        What cannot be found out now is tried again with the first volume that needs it.
        """
        self._folder = Path(docker_root) / volume_files.FOLDER
        with suppress(Untried):
            self._encrypts.known()
        openers.remove_left(self._engine, f"{sandbox.LABEL}device={self._config.device_id}", OPENER)
        self.openers.prepare(self._folder)
        for left in self._folder.glob(f"{self._name('*')}.mnt"):
            left.unlink(missing_ok=True)

    @contextmanager
    def ready(self, workload: Workload, user: str) -> Iterator[str]:
        """Have the workload's volume ready to be mounted while the block creates and starts its container.

        Yields the name of the volume that was opened for it, "" for the workload's own.

        Args:
            user: what the image asks to run as; a restricted app's volume belongs to whom it runs as.

        Raises:
            LeaseError: its file is gone or damaged, or its data does not fit in `disk_bytes`.
            encryption.BoundElsewhere: its container must be made anew.
        """
        if not workload.volume_path:
            yield ""
            return
        name, owner = self._name(workload.id), _owner(workload, user)
        if self.is_begun(workload):  # Docker did not come to the end of bringing there what the image has
            self.remove(workload.id)
        volume = self._engine.call("GET", f"/volumes/{name}", ignore=(404,))
        bounded = volume is None and self._bounds.needed()
        if volume is None:
            self._begin(name)
        encrypted = bounded and self.keys.of(workload.id) is not None and self._encrypts.needed()
        encryption.check_wish(workload, volume, can=encrypted)
        if bounded:
            with self._lock:
                volume = self._create(name, workload, owner, encrypted=encrypted)
        if volume is None or not is_bounded(volume):
            self._plain(workload, owner)
            yield ""
            return
        with self._attached(self._image(name), workload, owner) as device:
            if not encryption.is_encrypted(volume):
                yield ""
                return
            with self._mounted(device) as path, self._shown(self._image(name), path) as shown:
                encryption.unlock(path, self.keys.of(workload.id), owner)
                labels = sandbox.volume_labels(self._config.device_id, workload.id)
                folder = os.path.join(shown, encryption.FOLDER)
                yield encryption.opened_volume(name, folder, labels, self._engine)

    @contextmanager
    def opened(self, workload_id: str) -> "Iterator[str]":
        """Return where the workload's volume lies while the block lasts, whether its app runs or not.

        Raises:
            AgentError: there is none, or it cannot be seen from here: never an empty folder in its place.
        """
        name = self._name(workload_id)
        volume = self._engine.call("GET", f"/volumes/{name}", ignore=(404,))
        if volume is None:
            raise AgentError("The volume is not there, so it was not copied.")
        if not is_bounded(volume):
            yield str(volume["Mountpoint"])
            return
        with self._attached(self._image(name)) as device, self._mounted(device) as path:
            sealed = encryption.is_encrypted(volume)
            yield encryption.unlock(path, self.keys.of(workload_id), (0, 0)) if sealed else path

    def give(self, workload: Workload, user: str, path: str) -> None:
        """Let a restricted app own its volume again after something else was brought there."""
        if workload.profile is Profile.RESTRICTED:
            os.chown(path, *_owner(workload, user))

    def is_begun(self, workload: Workload) -> bool:
        """Whether the workload's volume was made, and no container with it yet."""
        return bool(workload.volume_path) and volume_files.is_begun(self._image(self._name(workload.id)))

    def filled(self, workload: Workload) -> None:
        """Note that a container was made with the workload's volume, if it has one."""
        if workload.volume_path:
            volume_files.filled(self._image(self._name(workload.id)))

    def device(self, workload: Workload) -> str:
        """Return the link to the loop device of a volume that is ready, "" where it is a plain folder or there is none."""
        link = self._image(self._name(workload.id)).with_suffix(".dev")
        return str(link) if workload.volume_path and link.exists() else ""

    def look(self, workload_id: str) -> "Volume | None":
        """Return what the workload's volume holds; None if it has none, or its file is gone."""
        name = self._name(workload_id)
        volume = self._engine.call("GET", f"/volumes/{name}", ignore=(404,))
        if volume is None:
            return None
        if not is_bounded(volume):
            found = holdings.by_folder(volume["Mountpoint"])
            return Volume(found.bytes, bounded=False, hidden=found.hidden)
        image, path = self._image(name), str(volume["Mountpoint"])
        if encryption.is_encrypted(volume):
            opened = self._engine.call("GET", f"/volumes/{encryption.opened_name(name)}", ignore=(404,))
            path = str(opened["Mountpoint"]) if opened else path
        try:
            if os.path.ismount(path):
                inside = os.statvfs(path)
                return Volume((inside.f_blocks - inside.f_bfree) * inside.f_frsize, bounded=True)
            return Volume(disks.used_bytes(image, mounted=bool(loops.attached(image))), bounded=True)
        except OSError as error:
            log.warning("%s cannot be looked at: %s", image, error)
            return None

    def remove(self, workload_id: str) -> int:
        """Remove the workload's volume with everything in it; it is fine if it is gone. Returns the bytes it held."""
        found = self.look(workload_id)
        name = self._name(workload_id)
        for each in (encryption.opened_name(name), name):
            self._engine.call("DELETE", f"/volumes/{each}", ignore=(404,))
        with self._lock:
            volume_files.erase(self._image(name))
        return found.bytes if found else 0

    def _can_bound(self) -> bool:
        return not volume_trial.why_not(self._folder)

    def _can_encrypt(self) -> bool:
        return self._bounds.known() and not encryption_trial.why_not(self._folder, self._engine)

    def _begin(self, name: str) -> None:
        image = self._image(name)
        try:
            if not image.exists():  # else somebody pruned Docker's volumes, and it holds an app's data
                volume_files.begin(image)
        except OSError as error:
            raise LeaseError(Reason.DEVICE_ERROR, diagnosis.of_device(error)) from error

    def _create(self, name: str, workload: Workload, owner: "tuple[int, int]", *, encrypted: bool) -> "dict[str, Any]":
        image = self._image(name)
        if not image.exists():  # else a crash came between the file and the volume, or somebody pruned Docker's volumes
            try:
                self._folder.mkdir(mode=0o711, exist_ok=True)
                disks.make(image, workload.disk_bytes, owner=owner, encrypted=encrypted)
            except (OSError, SetupError) as error:
                raise LeaseError(Reason.DEVICE_ERROR, str(error)) from error
        options = {"type": "ext4", "device": str(image.with_suffix(".dev")), "o": openers.OPTIONS}
        labels = sandbox.volume_labels(self._config.device_id, workload.id)
        labels |= {encryption.LABEL: "1"} if disks.encrypts(image) else {}
        body = {"Name": name, "Driver": "local", "DriverOpts": options, "Labels": labels}
        created: "dict[str, Any]" = self._engine.call("POST", "/volumes/create", body)
        return created

    @contextmanager
    def _attached(
        self, image: Path, workload: "Workload | None" = None, owner: "tuple[int, int]" = (0, 0)
    ) -> Iterator[str]:
        """Return the loop device that offers the file, at least while the block lasts."""
        with self._lock:
            device, keep = self._attach(image, workload, owner)
        try:
            yield device
        finally:
            os.close(keep)

    @contextmanager
    def _mounted(self, device: str) -> Iterator[str]:
        with ExitStack() as stack:
            try:
                path = stack.enter_context(self.openers.mounted(device))
            except (CannotMount, EngineError) as error:
                words = DISK_FULL if is_disk_full(error) else f"The app's volume cannot be opened: {error}"
                raise LeaseError(Reason.DEVICE_ERROR, words) from error
            yield path

    @contextmanager
    def _shown(self, image: Path, path: str) -> Iterator[str]:
        """Return the link that leads to where an encrypted volume is mounted while the block lasts."""
        shown = image.with_suffix(".mnt")
        with self._lock:
            volume_files.link(shown, path)
        try:
            yield str(shown)
        finally:
            with self._lock, suppress(FileNotFoundError):
                if os.readlink(shown) == path:  # else another start of this app has it meanwhile
                    shown.unlink()

    def _attach(self, image: Path, workload: "Workload | None", owner: "tuple[int, int]") -> "tuple[str, int]":
        """Return the loop device, and a descriptor that keeps it until Docker has mounted it."""
        if not image.exists():
            message = f"The app's data is gone from this device: {image} is missing. It is not started without it."
            raise LeaseError(Reason.DEVICE_ERROR, message)
        try:
            held = loops.hold(image)
            if held is None and workload is not None:
                self._fit(image, workload, owner)
            path, keep = held or loops.attach(image)
            volume_files.link(image.with_suffix(".dev"), path)
            return path, keep
        except OSError as error:
            raise LeaseError(Reason.DEVICE_ERROR, f"The app's volume cannot be opened: {error}") from error

    def _fit(self, image: Path, workload: Workload, owner: "tuple[int, int]") -> None:
        try:
            disks.resize(image, workload.disk_bytes)
        except SetupError as error:
            words = (
                f"The app's data cannot be fitted in the {workload.disk_bytes / 1e6:.0f} MB of this release: {error}"
            )
            raise LeaseError(Reason.OUT_OF_DISK, words, permanent=True) from error
        if workload.profile is Profile.RESTRICTED:
            try:
                disks.give(image, owner)
            except SetupError as error:
                raise LeaseError(Reason.DEVICE_ERROR, str(error)) from error

    def _plain(self, workload: Workload, owner: "tuple[int, int]") -> None:
        """Let a restricted app's user own its folder: it has no capability to take it."""
        if workload.profile is Profile.RESTRICTED:
            labels = sandbox.volume_labels(self._config.device_id, workload.id)
            body = {"Name": self._name(workload.id), "Labels": labels}
            os.chown(self._engine.call("POST", "/volumes/create", body)["Mountpoint"], *owner)

    def _image(self, name: str) -> Path:
        return self._folder / f"{name}.img"

    def _name(self, workload_id: str) -> str:
        return sandbox.volume_name(self._config.device_id, workload_id)


def is_bounded(volume: "dict[str, Any]") -> bool:
    """Whether a volume Docker told of is one of ours with a file system of its own."""
    return str((volume.get("Options") or {}).get("device", "")).endswith(".dev")


def names(device_id: str, engine: Engine) -> "list[str]":
    """Return the names of the volumes that hold apps' data of this device."""
    mine = filters(label=[f"{sandbox.LABEL}device={device_id}"])
    return [item["Name"] for item in engine.call("GET", "/volumes", query=mine).get("Volumes") or []]


def _owner(workload: Workload, user: str) -> "tuple[int, int]":
    if workload.profile is not Profile.RESTRICTED:
        return 0, 0
    name, _, group = sandbox.unprivileged(user).partition(":")
    return int(name), int(group)
