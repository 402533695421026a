"""What can go wrong with devices, leases and readings, in words that say what to do next."""

from __future__ import annotations

from interchain_site.core.errors import Busy, Conflict, DomainError, Invalid, NotAllowed, NotFound

__all__ = [
    "ArchiveInvalid",
    "BadSignature",
    "Busy",
    "Conflict",
    "DeviceRevoked",
    "IllegalMove",
    "Invalid",
    "Malformed",
    "MovedMeanwhile",
    "NoDevice",
    "NotAllowed",
    "NotFound",
    "Replayed",
    "StorageAway",
    "TokenExpired",
    "TokenUnknown",
    "TokenUsed",
    "TooLarge",
    "Unauthenticated",
]


class IllegalMove(Conflict):
    """The state table does not allow this move."""

    code = "illegal_move"


class MovedMeanwhile(Conflict):
    """Another process moved the row between reading and writing it."""

    code, permanent = "moved_meanwhile", False


class NoDevice(DomainError):
    """No device can take this workload now; the message says why."""

    code, status, permanent = "no_device", 409, False
    message = "No device can run this now. Try again in a while, or ask for less."


class TokenUnknown(DomainError):
    code, status = "token_unknown", 404
    message = "This set-up command is not one of ours. Copy the command from your device's page again."


class TokenUsed(DomainError):
    code, status = "token_used", 409
    message = "This set-up command was already used by another device. Make a new one on the devices page."


class TokenExpired(DomainError):
    code, status = "token_expired", 410
    message = "This set-up command has expired. Make a new one on your device's page."


class Unauthenticated(DomainError):
    """The request does not prove which device sent it."""

    code, status = "unauthenticated", 401
    message = "The request is not signed by a known device. Check the device's clock and that it is still enrolled."


class Replayed(Unauthenticated):
    code = "replayed"
    message = "This token was used before. Make a fresh one for each request."


class DeviceRevoked(NotAllowed):
    code = "device_revoked"  # the agent stops every app on it (nodes/agent/courier.py)
    message = "This device was removed by its owner. Enrol it again with a new command from the devices page."


class BadSignature(Invalid):
    code = "bad_signature"
    message = "The signature is not this device's. Sign with the key the device enrolled with."


class Malformed(Invalid):
    code = "malformed"
    message = "The message does not have the agreed form (docs/agent-protocol.md)."


class TooLarge(DomainError):
    code, status = "too_large", 413
    message = "The message is too large. Send fewer readings at once."


class ArchiveInvalid(Invalid):
    """An uploaded image archive cannot be used; the message says what is wrong with it."""

    code = "archive_invalid"


class StorageAway(DomainError):
    """The storage of snapshots cannot be used. `why` is for staff; the message is for everybody."""

    code, status, permanent = "snapshot_storage_away", 503, False
    message = "The storage of snapshots cannot be used now. What is in it stays; try again in a while."

    def __init__(self, why: str = "") -> None:
        super().__init__()
        self.why = why
