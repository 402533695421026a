"""Gets exactly the image a release names onto this device, and takes it off again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodes.agent.diagnosis import DISK_FULL
from nodes.agent.engine import Engine, EngineError, is_disk_full
from nodes.agent.errors import Cancelled, LeaseError
from nodes.agent.protocol import Image, Reason

LOADED = "loaded"  # file in the archives' folder: one name a line
TAG = "interchain"  # repository of the names we give to loaded archives
Fetch = Callable[[Image, Path, threading.Event], None]


@dataclass(frozen=True)
class Local:
    """An image this device has."""

    id: str
    user: str
    size: int = 0  # bytes, unpacked
    volumes: "tuple[str, ...]" = ()  # folders it wants kept apart (VOLUME in a Dockerfile)
    layers: "tuple[str, ...]" = ()  # digests of their unpacked archives


class Images:
    """Images of one Engine."""

    def __init__(
        self, engine: Engine, *, fetch: Fetch, folder: Path, downloaded: "Callable[[int], None]" = lambda size: None
    ) -> None:
        """Args: fetch: downloads an archive from the portal into a file. folder: where it may lie meanwhile.
        downloaded: told the bytes that came over the owner's line."""
        self._engine, self._fetch, self._folder, self._downloaded = engine, fetch, folder, downloaded
        self._lock, self._held = threading.Lock(), Counter[str]()

    @contextmanager
    def held(self, image: Image, cancelled: threading.Event) -> Iterator[Local]:
        """Have the image here for as long as the block lasts: what is removed meanwhile (`remove`) is removed but for it.

        Raises:
            LeaseError: as `ensure`.
        """
        name = _name(image)
        with self._lock:
            self._held[name] += 1
        try:
            yield self.ensure(image, cancelled)
        finally:
            with self._lock:
                self._held[name] -= 1
                self._held = +self._held  # without what nobody holds

    def ensure(self, image: Image, cancelled: threading.Event) -> Local:
        """Return the image, downloaded if it is not here yet.

        Raises:
            LeaseError: `image_not_found` or `image_invalid`.
        """
        if image.archive_sha256:
            return self._inspect(_tag(image)) or self._known(image) or self._load(image, cancelled)
        if image.reference.startswith("sha256:"):
            found = self._inspect(image.reference)
            if found is None:
                raise _missing(
                    f"This device has no image {image.reference[:19]}…, and an id alone cannot be downloaded."
                )
            return found
        if "@sha256:" not in image.reference:
            raise LeaseError(
                Reason.IMAGE_INVALID,
                f"{image.reference} does not say which image it means. Release it by digest: name@sha256:…",
                permanent=True,
            )
        return self._inspect(image.reference) or self._pull(image.reference, cancelled)

    def _note(self, name: str) -> None:
        """Remember that this image came with us, so that an uninstall takes it along."""
        with (self._folder / LOADED).open("a") as out:
            out.write(f"{name}\n")

    def remove(self, image: Image) -> None:
        """Take our name off the image, unless something is about to start from it; Docker drops its layers unless something else uses them."""
        name = _name(image)
        if name.startswith("sha256:"):
            return  # it was here before us
        with self._lock:
            if not self._held[name]:  # 404: gone already; 409: a container uses it
                self._engine.call("DELETE", f"/images/{name}", ignore=(404, 409))

    def _inspect(self, name: str) -> "Local | None":
        found = self._engine.call("GET", f"/images/{name}/json", ignore=(404,))
        if found is None:
            return None
        config = found.get("Config") or {}
        wanted = tuple(sorted(config.get("Volumes") or {}))
        layers = tuple((found.get("RootFS") or {}).get("Layers") or ())
        return Local(found["Id"], config.get("User") or "", int(found.get("Size") or 0), wanted, layers)

    def _known(self, image: Image) -> "Local | None":
        """Return an image that is here under its own id, for example because it was built here."""
        return self._inspect(image.image_id) if image.image_id else None

    def _load(self, image: Image, cancelled: threading.Event) -> Local:
        from nodes.agent import archives  # tar and its compressors: a megabyte an idle agent can do without

        path = self._folder / f"{image.archive_sha256}.tar"
        try:
            self._fetch(image, path, cancelled)
            self._downloaded(path.stat().st_size)
            layers = archives.check(path, image)
            loaded = ""
            for line in self._engine.stream("POST", "/images/load", query={"quiet": "1"}, body=archives.nameless(path)):
                loaded = _loaded_id(line) or loaded
                _stop_if(cancelled)
        except EngineError as error:
            if is_disk_full(error):
                raise LeaseError(Reason.DEVICE_ERROR, DISK_FULL) from error
            message = f"Docker cannot load the archive: {error}"
            raise LeaseError(Reason.IMAGE_INVALID, message, permanent=error.status != 500) from error
        finally:
            path.unlink(missing_ok=True)
        repository, _, tag = _tag(image).partition(":")
        self._engine.call("POST", f"/images/{loaded or image.image_id}/tag", query={"repo": repository, "tag": tag})
        self._note(_tag(image))
        found = self._inspect(_tag(image))
        if found is None:
            raise LeaseError(Reason.DEVICE_ERROR, "Docker loaded the archive but does not have its image.")
        if found.layers != layers:
            self._engine.call("DELETE", f"/images/{_tag(image)}", ignore=(404, 409))
            raise LeaseError(
                Reason.IMAGE_INVALID, "Docker made another image of the archive than the released one.", permanent=True
            )
        return found

    def _pull(self, reference: str, cancelled: threading.Event) -> Local:
        try:
            for _ in self._engine.stream("POST", "/images/create", query={"fromImage": reference}):
                _stop_if(cancelled)
        except EngineError as error:
            raise _pull_failure(reference, error) from error
        self._note(reference)
        found = self._inspect(reference)
        # What it takes unpacked, which is more than what came: the registry does not say how much that was.
        self._downloaded(
            int((self._engine.call("GET", f"/images/{reference}/json", ignore=(404,)) or {}).get("Size", 0))
        )
        if found is None:
            raise _missing(f"{reference} was downloaded but is not there. Is the device's disk full?")
        return found


def _pull_failure(reference: str, error: EngineError) -> LeaseError:
    text = str(error)
    if is_disk_full(error):
        return LeaseError(Reason.DEVICE_ERROR, DISK_FULL)
    if "no matching manifest" in text:
        message = f"{reference} has no version for this device's processor."
        return LeaseError(Reason.IMAGE_INVALID, message, permanent=True)
    gone = error.status == 404 or any(word in text for word in ("not found", "unknown", "denied", "does not exist"))
    if gone and "dial" not in text:
        return _missing(f"{reference} does not exist, or is not public.", permanent=True)
    return _missing(f"{reference} could not be downloaded: {text}")


def _missing(message: str, *, permanent: bool = False) -> LeaseError:
    return LeaseError(Reason.IMAGE_NOT_FOUND, message, permanent=permanent)


def _name(image: Image) -> str:
    return _tag(image) if image.archive_sha256 else image.reference


def _tag(image: Image) -> str:
    return f"{TAG}:{image.archive_sha256[:32]}"


def _loaded_id(line: "dict[str, Any]") -> str:
    text = str(line.get("stream", ""))
    return text.split("ID: ", 1)[1].strip() if "Loaded image ID: " in text else ""


def _stop_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled("The portal no longer wants this image.")
