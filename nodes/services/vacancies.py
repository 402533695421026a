"""What a batch of placements is about: slots that want a device, the device chosen for each, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from interchain_site.core.models import User
from nodes.agent.protocol import Workload
from nodes.models import Device, Lease, ReplicaSet
from nodes.services import handovers, reservations
from nodes.services.failures import Failures
from nodes.services.reservations import Room
from nodes.states import WANTED


@dataclass
class Filled:
    """What an attempt to fill a workload's slots came to."""

    opened: list[Lease] = field(default_factory=list)
    lacking: int = 0
    reason: Callable[[], str] = str

    @property
    def why(self) -> str:
        """Why some slots have no device, in words; "" when none is lacking. Asks the database."""
        return self.reason()


@dataclass(frozen=True)
class Claim:
    """What a lease would change on a device: what its workload holds there before and after, and what of it goes on beside it."""

    before: Room
    after: Room
    going_on: Room


@dataclass
class Vacancy:
    """Slots of one workload that want a device each. Whoever is to write leases has locked its row and its newest leases.

    Args:
        newest: the newest lease of each slot, with its device.
        first: whether it never was anywhere, so that nothing need be looked up of its past.
        avoid: devices it is not to go to.
        forgiving: whether a person asks, who may try a device that failed it a moment ago.
        beside: what serves in these slots goes on until the new lease is ready (nodes/services/handovers.py).
    """

    workload: Workload
    slots: list[int]
    newest: dict[int, Lease]
    wanted: ReplicaSet | None = None
    region: str = ""
    first: bool = False
    by: User | None = None
    avoid: Collection[UUID] = ()
    forgiving: bool = True
    beside: bool = False
    # What the survey found (nodes/services/candidates.py):
    failures: dict[UUID, Failures] = field(default_factory=dict)
    resting: set[UUID] = field(default_factory=set)
    warm: set[UUID] = field(default_factory=set)
    held: dict[UUID, list[Lease]] = field(default_factory=dict)
    home: UUID | None = None
    refused: str = ""

    @classmethod
    def of(
        cls,
        wanted: ReplicaSet,
        newest: dict[int, Lease],
        slots: Iterable[int],
        *,
        by: User | None = None,
        avoid: Collection[UUID] = (),
        forgiving: bool = True,
        beside: bool = False,
    ) -> Vacancy:
        return cls(
            workload=wanted.public_workload,
            slots=list(slots),
            newest=newest,
            wanted=wanted,
            region=wanted.region,
            first=not newest,
            by=by,
            avoid=avoid,
            forgiving=forgiving,
            beside=beside,
        )

    @property
    def workload_id(self) -> UUID:
        return UUID(self.workload.id)

    def excludes(self, device_id: UUID) -> bool:
        return device_id in self.resting or device_id in self.avoid

    def others(self, slot: int, chosen: dict[int, Device]) -> list[Device]:
        """Return the devices that hold, or were just chosen for, the workload's other slots."""
        kept = [
            last.device
            for other, last in self.newest.items()
            if other != slot and other not in chosen and last.action in WANTED
        ]
        return [*kept, *(device for other, device in chosen.items() if other != slot)]

    def stops(self, slot: int) -> UUID | None:
        """Return the lease that is asked to stop when the slot gets a new one; None where none is, or it goes on meanwhile."""
        last = self.newest.get(slot)
        if last is None or last.action not in WANTED or goes_on(last, beside=self.beside):
            return None
        return last.pk

    def claim(self, device_id: UUID, need: Room, stopping: Collection[UUID]) -> Claim:
        """Return what a lease on a device would change there, once these leases of the workload are asked to stop."""
        own = self.held.get(device_id)
        if not own:
            return Claim(Room(), need, Room())
        return Claim(*reservations.held_with(own, need, stopping=stopping))


def goes_on(last: Lease, *, beside: bool) -> bool:
    """Whether the newest lease of a slot goes on until the next one is ready."""
    return beside and handovers.serves(last) and not last.is_pending


@dataclass(frozen=True)
class Choice:
    """A device for one slot."""

    vacancy: Vacancy
    slot: int
    device_id: UUID
    stopping: frozenset[UUID]
