"""Whether the storage of snapshots can be used, and telling staff when it cannot."""

from __future__ import annotations

from interchain_site.core.alerts import clear_alert, raise_alert
from nodes.errors import StorageAway
from nodes.snapshots import store

ALERT = "snapshot_storage_away"
PATIENCE_SECONDS = 60  # what passes by itself mails nobody


def check() -> None:
    """Try the storage; staff hear of it while it fails.

    Raises:
        StorageAway: it cannot be used.
    """
    try:
        store.probe()
    except StorageAway as error:
        note_away(error)
        raise
    clear_alert(code=ALERT)


def note_away(error: StorageAway) -> None:
    """Tell staff that the storage was found away."""
    raise_alert(
        code=ALERT,
        message=f"Snapshots cannot be stored or read: {error.why}.",
        mend="Look at the storage and at SNAPSHOTS_DIR or SNAPSHOTS_S3_… (dotenv-sample). Apps go on; their data has no newer copy meanwhile.",
        patience_seconds=PATIENCE_SECONDS,
    )
