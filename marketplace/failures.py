"""Why an app is not running, in words, and what its publisher can do about it."""

from __future__ import annotations

from nodes.agent.protocol import Reason

WORDS: dict[str, str] = {
    Reason.IMAGE_NOT_FOUND: "The image does not exist or is not public. Check the reference, or upload the image as an archive.",
    Reason.IMAGE_INVALID: "The image is not the one that was released. Add a release with the right digest or archive.",
    Reason.START_FAILED: "The container did not start. Check the image's command and the release's settings.",
    Reason.EXITED: "The app stopped by itself. Its last lines, below, usually say why.",
    Reason.OUT_OF_MEMORY: "The app grew past its memory limit and was ended. Add a release with more memory.",
    Reason.WRONG_PORT: "The app runs, but nothing listens on the released port. Add a release with the port it listens on.",
    Reason.UNHEALTHY: "The app answers, but its health check fails. Check the path and what the app logs.",
    Reason.DEVICE_ERROR: "The device failed. The app is placed on another one.",
}
SILENT = "The device is not answering. It may still be serving; another one takes over as soon as one can."


def explain(reason: str, detail: str = "") -> str:
    """Return the reason in words with the device's own detail after it; "" for no reason."""
    if not reason:
        return detail
    words = WORDS.get(reason, "The app is not running.")
    return f"{words} ({detail})" if detail and detail not in words else words
