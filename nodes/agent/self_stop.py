"""Whether this device should stop its leases by itself, because it is cut off and others take them over. Pure.

Rules, in the order they are applied:

1. `self_stop_seconds` is 0: go on.
2. The portal answered within `self_stop_seconds`: go on.
3. No peer is known: go on; there is nobody to take over.
4. No peer answered within `self_stop_seconds` either: this device is cut off. Stop all. Who stood still that long hears them first
   (directory.py).
5. More than half of the peers that answered had the portal's answer after this device began to miss it, and the portal does not
   answer this device when it is asked once more: the cut is this device's own, and the portal is placing its leases elsewhere. Stop
   all. A minority may lie. It is asked once more because a portal that comes back is noticed by some a minute before others.
6. Else the portal is down for all: go on, but stop a lease where a signed record shows that a newer generation serves in its slot.

What was stopped starts again only when the portal answers and still wants it (`loop.Agent.release`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodes.agent.protocol import Action, Desired, DesiredLease
from nodes.agent.records import Record

# A portal that stops answers the requests it has to their end (uvicorn: 3 s): for some devices it is gone so much later than for others.
MARGIN_SECONDS = 5.0


@dataclass(frozen=True)
class Peer:
    """What is known of a peer. Times are of this device's monotonic clock."""

    answered_at: "float | None" = None
    portal_answered_at: "float | None" = None  # when, by its word, the portal answered it last; None: it has not


@dataclass(frozen=True)
class Decision:
    """Which leases to stop, and why in a sentence; none: go on."""

    lease_ids: frozenset[str] = frozenset()
    why: str = ""
    by_peers: bool = (
        False  # because of what peers say of the portal: it holds only if the portal does not answer now either
    )


def decide(
    *,
    now: float,
    self_stop_seconds: float,
    portal_answered_at: float,
    portal_failing_since: "float | None",
    portal_reached_at: "float | None" = None,
    peers: Iterable[Peer],
    leases: Iterable[DesiredLease],
    records: Mapping[str, Record],
) -> Decision:
    """Return what to stop. Times are of this device's monotonic clock; `records` are by workload id.

    Args:
        portal_reached_at: when it last answered the question of rule 5, which says nothing of what it wants.
    """
    if not self_stop_seconds or now - portal_answered_at < self_stop_seconds:
        return Decision()
    known, wanted = list(peers), [lease for lease in leases if lease.action is Action.RUN]
    if not known:
        return Decision()
    everything = frozenset(lease.lease_id for lease in wanted)
    heard = [peer for peer in known if peer.answered_at is not None and now - peer.answered_at < self_stop_seconds]
    if not heard:
        return Decision(everything, "Neither the portal nor any other device can be reached.")
    reached = portal_reached_at is not None and now - portal_reached_at < self_stop_seconds
    if portal_failing_since is not None and not reached:
        since = portal_failing_since + MARGIN_SECONDS
        reaching = [peer for peer in heard if peer.portal_answered_at is not None and peer.portal_answered_at > since]
        if 2 * len(reaching) > len(heard):
            return Decision(everything, "Other devices reach the portal, and this one does not.", by_peers=True)
    superseded = frozenset(lease.lease_id for lease in wanted if is_superseded(lease, records.get(lease.workload.id)))
    return Decision(superseded, "Another device has taken its place." if superseded else "")


def is_superseded(lease: DesiredLease, record: "Record | None") -> bool:
    """Whether a signed record shows that a newer generation serves in this lease's slot."""
    if record is None or record.workload_id != lease.workload.id:
        return False
    return any(
        slot == lease.slot and generation > lease.generation
        for slot, generation in zip(record.slots, record.generations)  # noqa: B905 (Python 3.9)
    )


def without(desired: Desired, lease_ids: "frozenset[str]") -> Desired:
    """Return the desired state with these leases stopped, their data kept."""
    if not lease_ids:
        return desired
    leases = tuple(
        dataclasses.replace(lease, action=Action.STOP)
        if lease.lease_id in lease_ids and lease.action is Action.RUN
        else lease
        for lease in desired.leases
    )
    return dataclasses.replace(desired, leases=leases)
