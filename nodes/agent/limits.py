"""What an owner lends and what not. Pure, and read by both sides: the portal places by it, the agent refuses by it.

There are two sets of limits for a device: those in its own `config.json` and those of its page at the portal. Each is asked by
itself and one objection is enough, so the stricter always wins and an owner need not trust the portal.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

from nodes.agent.protocol import Hours, Limits, Mode, Profile, Workload

MINUTES_A_DAY = 24 * 60
LEAST_LAYER_BYTES = 16 * 2**20
NEARLY_USED_PERCENT = 98  # of the month's traffic: from here on apps move away
NAMES = {Profile.RESTRICTED.value: "restricted", Profile.BASELINE.value: "baseline"}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Standing:
    """Whether the device takes apps now, and why not."""

    mode: Mode = Mode.OPEN
    reason: str = ""


_ORDER = (Mode.OPEN, Mode.PAUSED, Mode.DRAINING, Mode.CLOSED)


def strictest(standings: Iterable[Standing]) -> Standing:
    """Return the one that allows least; the first of equals."""
    return max(standings, key=lambda standing: _ORDER.index(standing.mode), default=Standing())


def objection(limits: Limits, workload: Workload) -> str:
    """Return why this workload may not run under these limits, "" if it may. Amounts are `room`'s business."""
    if workload.profile.value not in limits.profiles:
        return f"The device's owner does not accept the {workload.profile.value} sandbox."
    if workload.outbound and not limits.outbound:
        return "The device's owner does not let apps call out to the internet."
    if any(_blocks(pattern, workload) for pattern in limits.blocked_images):
        return "The device's owner does not accept this image."
    return ""


def least(*amounts: int) -> int:
    """Return the smallest amount, where 0 stands for no limit."""
    return min((amount for amount in amounts if amount > 0), default=0)


def layer_bytes(disk_bytes: int, profile: str, *, has_volume: bool) -> int:
    """Return what a container may write beside its volume: all it has where there is none, else a quarter of that."""
    if profile == Profile.RESTRICTED.value:
        return 0
    return max(disk_bytes // 4, LEAST_LAYER_BYTES) if has_volume else disk_bytes


def held_disk_bytes(disk_bytes: int, profile: str, *, has_volume: bool, runs: bool = True) -> int:
    """Return what a workload may take of a device's disk: its volume, and its layer as long as it has a container."""
    beside = layer_bytes(disk_bytes, profile, has_volume=True) if has_volume and runs else 0
    return disk_bytes + beside


def by_clock(limits: Limits, now: datetime) -> Standing:
    """Return whether the hours of the week allow apps at this moment; draining begins some minutes before they end.

    Args:
        now: with its zone, whichever.
    """
    if not limits.hours:
        return Standing()
    try:
        here = now.astimezone(_zone(limits.time_zone))
    except ValueError:
        return Standing(Mode.CLOSED, f"This device does not know the time zone {limits.time_zone}. Install tzdata.")
    minute = here.weekday() * MINUTES_A_DAY + here.hour * 60 + here.minute
    left = _minutes_open(limits.hours, minute)
    if not left:
        return Standing(Mode.CLOSED, f"Outside the hours its owner lends it. Opens {_opens(limits.hours, minute)}.")
    if left <= limits.drain_minutes:
        ends = here + timedelta(minutes=left)
        return Standing(Mode.DRAINING, f"Its hours end at {ends:%H:%M}.")
    return Standing()


def by_traffic(limits: Limits, used_bytes: int) -> Standing:
    """Return whether this month's traffic allows apps."""
    most = limits.transfer_bytes_per_month
    if not most or used_bytes * 100 < most * NEARLY_USED_PERCENT:
        return Standing()
    if used_bytes < most:
        return Standing(Mode.DRAINING, "This month's traffic is nearly used up.")
    return Standing(Mode.CLOSED, "This month's traffic is used up. Apps come again next month.")


def month(limits: Limits, now: datetime) -> str:
    """Return the month a moment belongs to where the owner is, "2026-11"."""
    try:
        return f"{now.astimezone(_zone(limits.time_zone)):%Y-%m}"
    except ValueError:
        return f"{now:%Y-%m}"


def faults(limits: Limits) -> "dict[str, str]":
    """Return what is wrong with limits somebody typed, by field."""
    found = {}
    for name in ("cpu_millis", "memory_bytes", "disk_bytes", "transfer_bytes_per_month"):
        if not 0 <= getattr(limits, name) < 2**62:
            found[name] = "Give a number of 0 (no limit) or more."
    if not 0 <= limits.drain_minutes <= 240:
        found["drain_minutes"] = "Give 0 to 240 minutes."
    if not set(limits.profiles) <= set(NAMES):
        found["profiles"] = f"Choose from: {', '.join(NAMES)}."
    if len(limits.hours) > 50 or any(not _possible(hours) for hours in limits.hours):
        found["hours"] = "Each opening needs a day 0 (Monday) to 6 and minutes of that day from 0 to 1440."
    if len(limits.blocked_images) > 200 or any(not 1 <= len(item) <= 300 for item in limits.blocked_images):
        found["blocked_images"] = "Give at most 200 names of 1 to 300 characters."
    try:
        _zone(limits.time_zone)
    except ValueError:
        found["time_zone"] = "Give a time zone as the IANA names it, e.g. America/New_York."
    return found


def _zone(name: str) -> tzinfo:
    """Return the time zone. Raises ValueError: it is not known here."""
    if name == "UTC":
        return timezone.utc
    import zoneinfo  # with what it imports half a megabyte, which an agent without hours can do without

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(str(error)) from None


def _blocks(pattern: str, workload: Workload) -> bool:
    """`nginx` blocks that name in any registry, with any tag or digest; `registry.example/*` and digests work too."""
    image = workload.image
    name, _, digest = image.reference.partition("@")
    path, colon, tag = name.rpartition(":")
    plain = path if colon and "/" not in tag else name
    known = {name, plain, plain.rpartition("/")[2], digest, image.reference, image.archive_sha256, image.image_id}
    wanted = pattern.strip().lower()
    return any(fnmatch.fnmatchcase(text.lower(), wanted) for text in known if text)


def _possible(hours: Hours) -> bool:
    return 0 <= hours.day <= 6 and 0 <= hours.opens < MINUTES_A_DAY and 0 <= hours.closes <= MINUTES_A_DAY


def _spans(openings: "tuple[Hours, ...]") -> "list[tuple[int, int]]":
    """Return (first minute of the week, length); one that closes before it opens goes on into the next day."""
    spans = []
    for hours in openings:
        length = hours.closes - hours.opens
        length += MINUTES_A_DAY if length <= 0 else 0
        spans.append((hours.day * MINUTES_A_DAY + hours.opens, length))
    return spans


def _minutes_open(openings: "tuple[Hours, ...]", minute: int) -> int:
    """Return for how many more minutes it stays open without a gap; 0 when closed now. At most a week."""
    week, end = 7 * MINUTES_A_DAY, 0
    spans, grew = _spans(openings), True
    while grew and end < week:
        grew = False
        for start, length in spans:
            into = (minute + end - start) % week
            if into < length:
                end, grew = end + length - into, True
    return min(end, week)


def _opens(openings: "tuple[Hours, ...]", minute: int) -> str:
    week = 7 * MINUTES_A_DAY
    start = min((start for start, _ in _spans(openings)), key=lambda start: (start - minute) % week)
    day, rest = divmod(start, MINUTES_A_DAY)
    return f"{DAYS[day]} {rest // 60:02d}:{rest % 60:02d}"
