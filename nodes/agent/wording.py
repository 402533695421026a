"""What an owner reads in more than one place: each with what mends it."""

from __future__ import annotations

REMOVED = (
    "This device was removed from the portal; its apps were stopped. Take the agent off: interchain-node uninstall"
)
SET_CLOCK = "Set it: timedatectl set-ntp true"


def clock(ahead_seconds: float) -> str:
    """Say how far this device's clock is off the portal's.

    Args:
        ahead_seconds: how much later it is by this clock; negative: earlier.
    """
    return f"The clock is {duration(abs(ahead_seconds))} {'ahead of' if ahead_seconds > 0 else 'behind'} the portal's."


def duration(seconds: float) -> str:
    """Return "45 seconds", "12 minutes", "5 hours" or "2 days", rounded."""
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 1.5 * length:
            return f"{round(seconds / length)} {name}s"
    return f"{round(seconds)} seconds"
