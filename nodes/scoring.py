"""Which device suits a workload best: a pure ranking, no database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Offer:
    """A device that has room, and what speaks for it."""

    device_id: UUID
    has_volume: bool  # the workload's data is there
    has_image: bool  # it ran this image before, so nothing needs to be fetched
    free_memory_bytes: int


def rank(offers: Iterable[Offer]) -> list[Offer]:
    """Return the offers, best first: data before warm image before most room; the id settles what is equal."""
    return sorted(
        offers,
        key=lambda offer: (not offer.has_volume, not offer.has_image, -offer.free_memory_bytes, str(offer.device_id)),
    )
