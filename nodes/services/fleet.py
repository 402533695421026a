"""The devices a batch of placements looks at, in memory: loaded once, best first for each kind of request, kept true while room is taken.

A ranking is a heap of the devices by the points that are the same for all requests of its kind (`scoring.standing`). What speaks for or against a
device for one workload only is added when it comes to the top: what can only take points off never hides a better one below, and the few
devices that something speaks for are looked at first. So the choice is that of `scoring.rank` over all of them, without ranking all for each slot.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

from nodes import scoring
from nodes.agent.protocol import Profile, Runtime, Workload
from nodes.models import Device
from nodes.scoring import Offer
from nodes.services import reservations, willingness
from nodes.services.reservations import Room
from nodes.services.vacancies import Choice, Claim, Vacancy

MOST_WARM = 50
"""Of the devices that ran a workload's image, so many with the most room are looked at for their image's sake."""


@dataclass(frozen=True)
class Kind:
    """What requests that rank devices alike have in common."""

    region: str
    need: Room
    profile: Profile
    outbound: bool
    encrypted: bool
    needs_gvisor: bool
    wishes_gvisor: bool

    @classmethod
    def of(cls, workload: Workload, region: str) -> Kind:
        gvisor = workload.runtime is Runtime.GVISOR
        return cls(
            region=region,
            need=reservations.need_of(workload),
            profile=workload.profile,
            outbound=workload.outbound,
            encrypted=workload.encrypted,
            needs_gvisor=gvisor and not workload.runtime_optional,
            wishes_gvisor=gvisor and workload.runtime_optional,
        )


class Candidate:
    """A device, and the room it will have once everything chosen so far is written."""

    def __init__(self, device: Device, cpu_percent: int = 0) -> None:
        self.cpu_percent, self.turn = cpu_percent, 0
        self.see(device)

    def see(self, device: Device) -> None:
        """Take the device as the database has it now; what was chosen for it so far is forgotten."""
        self.device, self.pk, self.order = device, device.pk, str(device.pk)
        self.network = scoring.network_of(device.endpoint_host)
        self._takes: dict[tuple[Kind, str], bool] = {}
        self.refuses_images = any(limits.blocked_images for limits in device.both_limits)
        self.free = reservations.free_room(device)
        self.turn += 1

    @property
    def promised(self) -> Room:
        """What is promised of it once everything chosen is written."""
        device = self.device
        return Room(device.cpu_millis, device.memory_bytes, device.disk_bytes) - self.free

    def take(self, claim: Claim) -> None:
        self.free = self.free + claim.before - claim.after
        self.turn += 1  # what rankings say of it is out of date

    def fits(self, claim: Claim, need: Room) -> bool:
        room = self.free + claim.before
        return room.fits(claim.after) and (room - claim.going_on).fits(need)

    def takes(self, kind: Kind, workload: Workload) -> bool:
        """Whether its owner takes the workload now. Asked once for each kind, and image where the owner refuses some."""
        key = (kind, workload.image.reference + workload.image.archive_sha256 if self.refuses_images else "")
        if key not in self._takes:
            self._takes[key] = willingness.willing(self.device, workload)
        return self._takes[key]

    def offer(self, kind: Kind, memory_bytes: int, *, has_image: bool = False, failures: int = 0) -> Offer:
        return Offer(
            device_id=self.pk,
            owner_id=self.device.owner_id,
            network=self.network,
            region=self.device.region,
            has_wished_runtime=kind.wishes_gvisor and self.device.has_gvisor,
            has_image=has_image,
            free_memory_bytes=memory_bytes,
            reliability=self.device.reliability,
            cpu_percent=self.cpu_percent,
            failures=failures,
        )


class Ranking:
    """The candidates for one kind of request, best first."""

    def __init__(self, kind: Kind, pages: Iterator[list[Candidate]]) -> None:
        self.kind, self._pages = kind, pages
        self._members: dict[UUID, Candidate] = {}
        self._unwilling: set[UUID] = set()
        self._heap: list[tuple[int, str, int, Candidate]] = []
        self.most = 0

    def more(self) -> bool:
        """Look at the next page of devices; False when there is none."""
        page = next(self._pages, [])
        found = [one for one in page if one.pk not in self._members]  # devices move between pages
        self._members |= {one.pk: one for one in found}
        # Which amount counts as full points must not change within a batch.
        self.most = self.most or max((one.free.memory_bytes for one in found), default=0)
        for candidate in found:
            self._push(candidate)
        return bool(page)

    def renew(self) -> None:
        """Begin again with the same devices, as they are known now."""
        self._heap.clear()
        self._unwilling.clear()
        for candidate in self._members.values():
            self._push(candidate)

    def takes(self, candidate: Candidate, workload: Workload) -> bool:
        """Whether its owner takes the workload; who takes none of its kind does not come up again."""
        taken = candidate.takes(self.kind, workload)
        if not taken and not candidate.refuses_images:
            self._unwilling.add(candidate.pk)
        return taken

    def standing(self, candidate: Candidate) -> int:
        offer = candidate.offer(self.kind, candidate.free.memory_bytes)
        return scoring.standing(offer, region=self.kind.region, most=self.most)

    def down_from_the_best(self) -> Generator[tuple[int, Candidate]]:
        """Yield the devices that have room and take this kind, with their points, best first."""
        seen: list[tuple[int, str, int, Candidate]] = []
        try:
            while self._heap:
                entry = heapq.heappop(self._heap)
                candidate = entry[3]
                if entry[2] != candidate.turn:  # room was taken since, so its place can only be lower
                    self._push(candidate)
                    continue
                seen.append(entry)
                yield -entry[0], candidate
        finally:
            for entry in seen:
                if entry[3].pk not in self._unwilling:
                    heapq.heappush(self._heap, entry)

    def _push(self, candidate: Candidate) -> None:
        if candidate.free.fits(self.kind.need):
            heapq.heappush(self._heap, (-self.standing(candidate), candidate.order, candidate.turn, candidate))


class Fleet:
    """All devices known to a batch, and its rankings."""

    def __init__(self, pages: Callable[[Fleet, Kind], Iterator[list[Candidate]]]) -> None:
        self.known: dict[UUID, Candidate] = {}
        self._rankings: dict[Kind, Ranking] = {}
        self._pages = pages

    def choose(self, vacancies: Iterable[Vacancy], *, look_further: bool = True) -> list[Choice]:
        """Choose a device for each slot, in order, from what is known now; the first slot of a vacancy that finds none ends it."""
        for candidate in self.known.values():
            candidate.see(candidate.device)
        for ranking in self._rankings.values():
            ranking.renew()
        return [choice for vacancy in vacancies for choice in self._choose(vacancy, look_further=look_further)]

    def ranking(self, kind: Kind) -> Ranking:
        if kind not in self._rankings:
            self._rankings[kind] = Ranking(kind, self._pages(self, kind))
            self._rankings[kind].more()
        return self._rankings[kind]

    def _choose(self, vacancy: Vacancy, *, look_further: bool) -> Iterator[Choice]:
        if vacancy.refused:
            return
        kind, stopping, chosen = Kind.of(vacancy.workload, vacancy.region), set[UUID](), dict[int, Device]()
        for slot in vacancy.slots:
            stops = stopping | ({stop} if (stop := vacancy.stops(slot)) else set())
            best = self._best(vacancy, kind, vacancy.others(slot, chosen), stops)
            while best is None and vacancy.home is None and look_further and self.ranking(kind).more():
                best = self._best(vacancy, kind, vacancy.others(slot, chosen), stops)
            if best is None:
                return
            best.take(vacancy.claim(best.pk, kind.need, stops))
            chosen[slot], stopping = best.device, stops
            yield Choice(vacancy, slot, best.pk, frozenset(stops))

    def _best(self, vacancy: Vacancy, kind: Kind, others: list[Device], stops: Collection[UUID]) -> Candidate | None:
        taken = {device.pk for device in others}
        if vacancy.home is not None:
            home = self.known[vacancy.home]
            return home if home.pk not in taken and _suits(home, vacancy, kind, stops) else None
        ranking = self.ranking(kind)
        owners = Counter(device.owner_id for device in others)
        networks = Counter(filter(None, (scoring.network_of(device.endpoint_host) for device in others)))

        def place(candidate: Candidate, points: int | None = None) -> tuple[int, str]:
            failed = vacancy.failures.get(candidate.pk)
            claim = vacancy.claim(candidate.pk, kind.need, stops)
            offer = candidate.offer(
                kind,
                (candidate.free + claim.before - claim.going_on).memory_bytes,
                has_image=candidate.pk in vacancy.warm,
                failures=failed.count if failed else 0,
            )
            if points is None:
                points = scoring.standing(offer, region=kind.region, most=ranking.most)
            points += scoring.merits(offer) + scoring.demerits(offer, owners=owners, networks=networks)
            return -points, candidate.order

        special = self._special(vacancy)
        fine = [one for one in special if one.pk not in taken and _suits(one, vacancy, kind, stops)]
        best = min(((place(one), one) for one in fine), default=None, key=lambda found: found[0])
        passed_over = taken | {one.pk for one in special}
        with closing(ranking.down_from_the_best()) as down:
            for points, candidate in down:
                if best is not None and (-points, candidate.order) > best[0]:
                    break
                if candidate.pk in passed_over or not ranking.takes(candidate, vacancy.workload):
                    continue
                if _suits(candidate, vacancy, kind, stops):
                    best = min(filter(None, (best, (place(candidate, points), candidate))), key=lambda found: found[0])
        return best[1] if best else None

    def _special(self, vacancy: Vacancy) -> list[Candidate]:
        """Return the devices that something speaks for: the workload holds room there, or its image is there."""
        warm = [self.known[pk] for pk in vacancy.warm if pk in self.known]
        warm.sort(key=lambda one: (-one.free.memory_bytes, one.order))
        held = [self.known[pk] for pk in vacancy.held if pk in self.known and pk not in vacancy.warm]
        return held + warm[:MOST_WARM]


def _suits(candidate: Candidate, vacancy: Vacancy, kind: Kind, stops: Collection[UUID]) -> bool:
    if vacancy.excludes(candidate.pk):
        return False
    claim = vacancy.claim(candidate.pk, kind.need, stops)
    return candidate.fits(claim, kind.need) and candidate.takes(kind, vacancy.workload)


def still_holds(choice: Choice, candidate: Candidate) -> bool:
    """Whether a device, as it is now, can take what was chosen for it; if so its room is taken."""
    vacancy = choice.vacancy
    kind = Kind.of(vacancy.workload, vacancy.region)
    if not _suits(candidate, vacancy, kind, choice.stopping):
        return False
    candidate.take(vacancy.claim(candidate.pk, kind.need, choice.stopping))
    return True
