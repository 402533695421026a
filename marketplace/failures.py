"""Why an app is not running, in words, and what its publisher can do about it."""

from __future__ import annotations

from datetime import datetime

from nodes.agent.protocol import Reason

WORDS: dict[str, str] = {
    Reason.IMAGE_NOT_FOUND: "The image does not exist or is not public. Check the reference, or upload the image as an archive.",
    Reason.IMAGE_INVALID: "The image is not the one that was released. Add a release with the right digest or archive.",
    Reason.START_FAILED: "The container did not start. Check the image's command and the release's settings.",
    Reason.EXITED: "The app stopped by itself. Its last lines, below, usually say why.",
    Reason.OUT_OF_MEMORY: "The app grew past its memory limit and was ended. Add a release with more memory.",
    Reason.WRONG_PORT: "The app runs, but nothing listens on the released port. Add a release with the port it listens on.",
    Reason.UNHEALTHY: "The app answers, but its health check fails. Check the path and what the app logs.",
    Reason.DEVICE_ERROR: "The device failed. The app is placed again: on another one, or where its data is.",
}
SILENT = "The device is not answering. It may still be serving; another one takes over as soon as one can."
SILENT_WITH_SNAPSHOT = (
    "The device that holds the app's data is not answering. It may still be serving. If it is not back within {patience}, another one takes over as soon "
    "as one can, with the snapshot of {taken_at:%Y-%m-%d %H:%M} UTC; what was written since then would be lost."
)
SILENT_WITHOUT_SNAPSHOT = (
    "The device that holds the app's data is not answering, and there is no snapshot of that data, so no other device can go on with it. It may still "
    "be serving; else the app goes on when the device is back. To go on without the data, publish it as a new app. Once it runs, take a snapshot on its data page."
)


def silent(*, keeps_data: bool, snapshot_at: datetime | None, patience: str) -> str:
    """Return what comes of an app whose device is silent.

    Args: snapshot_at: when its newest snapshot was taken; None: there is none. patience: how long an app with data waits for its device, in words.
    """
    if not keeps_data:
        return SILENT
    if snapshot_at is None:
        return SILENT_WITHOUT_SNAPSHOT
    return SILENT_WITH_SNAPSHOT.format(patience=patience, taken_at=snapshot_at)


def explain(reason: str, detail: str = "") -> str:
    """Return the reason in words with the device's own detail after it; "" for no reason."""
    if not reason:
        return detail
    words = WORDS.get(reason, "The app is not running.")
    return f"{words} ({detail})" if detail and detail not in words else words
