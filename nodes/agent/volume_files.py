"""The files of volumes and layers in Docker's data folder, and the links beside them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nodes.agent import encryption_trial, files, layer_trial, loops, sandbox, volume_trial
from nodes.agent.engine import Engine
from nodes.agent.trial_turns import Untried

FOLDER = "interchain"  # in Docker's data folder
BEGUN = ".begun"


def erase(image: Path) -> None:
    """Remove a volume's file, and let go of the device that offers it."""
    for left in (".dev", ".mnt", ".link", ".new", BEGUN):
        image.with_suffix(left).unlink(missing_ok=True)
    if image.exists():
        device = loops.attached(image)
        if device:
            loops.detach(device)
        image.unlink(missing_ok=True)


def erase_all(device_id: str, engine: Engine, *, part: str = "") -> None:
    """Remove what is left of this device's volumes in Docker's data folder, and the folder after the last.

    Args:
        part: only those whose names go on with this after the device's.
    """
    folder = Path(str(engine.call("GET", "/info").get("DockerRootDir") or "")) / FOLDER
    for image in folder.glob(f"{sandbox.volume_name(device_id, part)}*"):
        erase(image.with_suffix(".img"))
        image.unlink(missing_ok=True)
    with suppress(Untried):  # another agent has not come to an end with it
        encryption_trial.tidy_in_turn(folder, engine)
        layer_trial.tidy_in_turn(folder, engine)
        volume_trial.tidy_in_turn(folder)
    with suppress(OSError):  # other agents' volumes, or it was never there
        folder.rmdir()


def begin(image: Path) -> None:
    """Note that a volume is being made: until `filled` what it holds may be half of what its app's image has.

    Raises:
        OSError: it cannot be written down.
    """
    image.parent.mkdir(mode=0o711, exist_ok=True)
    image.with_suffix(BEGUN).touch()
    files.sync_folder(image.parent)


def is_begun(image: Path) -> bool:
    return image.with_suffix(BEGUN).exists()


def filled(image: Path) -> None:
    """Note that a container was made with the volume: what it holds is its app's, and never begun anew."""
    if is_begun(image):
        image.with_suffix(BEGUN).unlink()
        files.sync_folder(image.parent)  # a mark that a power failure brought back would cost the app's data


def link(path: Path, target: str) -> None:
    """Have the link at a path lead elsewhere, at no moment nowhere."""
    beside = path.with_suffix(".link")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)
