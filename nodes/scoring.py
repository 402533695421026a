"""Which device suits a workload best: a pure ranking, no database.

A device's score is the weighted sum of what speaks for it, in whole points; docs/placement.md has the table. Prices are one list for each
region, so that the price of a device is its region's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from uuid import UUID

DATA = 100_000  # the workload's data is there
WISHED_RUNTIME = 50_000  # it has the runtime the workload would rather have
ANOTHER_OF_OWNER = -10_000  # for each replica that this owner's devices hold already
ANOTHER_OF_NETWORK = -3_000  # for each replica in the same network
RECENT_FAILURE = -2_000  # for each time it failed this workload a while ago
REGION = 1_500  # it is in the region asked for
WARM_IMAGE = 1_000  # it ran this image before, so nothing needs to be fetched
RELIABILITY = 600  # × its reliability, from 0 to 1
ROOM = 400  # × its free memory, as a share of the most that any has
LOAD = -300  # × how busy its processor is, from 0 to 1

MOST_FAILURES = 4  # more of them count no more


@dataclass(frozen=True)
class Offer:
    """A device that has room, and what speaks for it."""

    device_id: UUID
    owner_id: int = 0
    network: str = ""  # `network_of` its address
    region: str = ""
    has_volume: bool = False
    has_wished_runtime: bool = False
    has_image: bool = False
    free_memory_bytes: int = 0
    reliability: int = 1000  # thousandths
    cpu_percent: int = 0
    failures: int = 0


def standing(offer: Offer, *, region: str, most: int) -> int:
    """Return the points that do not depend on what the workload was or has elsewhere: the same for all that ask alike.

    Args:
        most: free memory in bytes that counts as full points.
    """
    return (
        REGION * bool(region and offer.region == region)
        + WISHED_RUNTIME * offer.has_wished_runtime
        + RELIABILITY * offer.reliability // 1000
        + ROOM * offer.free_memory_bytes // (most or 1)
        + LOAD * min(max(offer.cpu_percent, 0), 100) // 100
    )


def merits(offer: Offer) -> int:
    """Return the points of what the workload left there before; never below 0."""
    return DATA * offer.has_volume + WARM_IMAGE * offer.has_image


def demerits(offer: Offer, *, owners: Counter[int], networks: Counter[str]) -> int:
    """Return the points taken off for the workload's other replicas and its failures; never above 0.

    Args:
        owners, networks: how many of the other replicas each has.
    """
    return (
        ANOTHER_OF_OWNER * owners[offer.owner_id]
        + ANOTHER_OF_NETWORK * (networks[offer.network] if offer.network else 0)
        + RECENT_FAILURE * min(offer.failures, MOST_FAILURES)
    )


def rank(offers: Iterable[Offer], *, beside: Collection[Offer] = (), region: str = "", most: int = 0) -> list[Offer]:
    """Return the offers, best first; the id settles what is equal.

    Args:
        beside: the devices that hold the workload's other replicas (only their owner and network count).
        region: where it should rather run; empty: anywhere.
        most: free memory in bytes that counts as full points; 0: the most that any of them has.
    """
    found = list(offers)
    most = most or max((offer.free_memory_bytes for offer in found), default=0)
    owners = Counter(other.owner_id for other in beside)
    networks = Counter(other.network for other in beside if other.network)

    def score(offer: Offer) -> int:
        above = standing(offer, region=region, most=most) + merits(offer)
        return above + demerits(offer, owners=owners, networks=networks)

    return sorted(found, key=lambda offer: (-score(offer), str(offer.device_id)))


def network_of(host: str) -> str:
    """Return the network a device's address is in, as an owner's provider gives them out: /24, or /56 of IPv6; "" for a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    bits, whole = (24, 32) if address.version == 4 else (56, 128)
    return f"{int(address) >> (whole - bits)}/{bits}"
