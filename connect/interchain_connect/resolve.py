"""Finds the newest record of a name by asking several nodes at once, some of which may lie."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

from interchain_connect import records
from interchain_connect.http import NoAnswer, ask
from interchain_connect.records import BadRecord, Record
from interchain_connect.trust import Known

ASKED_AT_ONCE = 6
SETTLE_SECONDS = (
    0.5  # after the first good answer, in which the others may still come: a quick liar's old record does not win
)
SUSPECT_NODES = 2


class Resolver:
    """Asks nodes for one name and keeps the newest answer in `known`."""

    def __init__(self, known: Known, name: str) -> None:
        self.known, self.name = known, name

    @property
    def record(self) -> Record | None:
        """The newest record known that has not expired."""
        held = self.known.newest.get(self.name)
        return held if held is not None and held.expires > time.time() else None

    async def refresh(self) -> Record | None:
        """Ask nodes, in waves, until some answered well or all were asked; returns the newest record known."""
        nodes = self.known.nodes()
        random.shuffle(nodes)
        for start in range(0, len(nodes), ASKED_AT_ONCE):
            if await self._wave(nodes[start : start + ASKED_AT_ONCE]):
                break
        return self.record

    async def learn_nodes(self) -> None:
        """Learn further nodes from a signed list, from whoever has one."""
        nodes = self.known.nodes()
        for node in random.sample(nodes, min(3, len(nodes))):
            with suppress(NoAnswer, BadRecord):
                said = await ask(node, "/gossip/nodes")
                if said is not None:
                    now = time.time()
                    self.known.learn_nodes(records.read_nodes(said.get("nodes"), self.known.trust.keys(now), now))
                    return

    async def suspect(self, endpoint: str) -> None:
        """Tell a few nodes that an endpoint does not answer; they pass it on to the portal, which asks the device."""
        record = self.record
        if record is None:
            return
        nodes = self.known.nodes()
        said = {"workload_id": record.workload_id, "endpoint": endpoint}
        asked = random.sample(
            nodes, min(SUSPECT_NODES, len(nodes))
        )  # at once: one of them may be the very device that is gone
        await asyncio.gather(*(ask(node, "/gossip/suspect", said) for node in asked), return_exceptions=True)

    async def _wave(self, nodes: list[str]) -> bool:
        """Ask some nodes at once; returns whether any answered well."""
        pending = {asyncio.ensure_future(self._one(node)) for node in nodes}
        good, settle_at = 0, None
        try:
            while pending:
                left = None if settle_at is None else max(0.0, settle_at - time.monotonic())
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                good += sum(task.result() for task in done)
                if not done:
                    break
                if good and settle_at is None:
                    settle_at = time.monotonic() + SETTLE_SECONDS
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return good > 0

    async def _one(self, node: str) -> bool:
        """Ask one node; returns whether it gave a record that counts."""
        try:
            said = await ask(node, f"/directory/{self.name}")
        except NoAnswer:
            return False
        if said is None:
            return False
        statements = said.get("statements")
        if isinstance(statements, list) and self.known.trust.follow(statements[:100]):
            self.known.save()
        now = time.time()
        try:
            record = records.read(said.get("record"), self.known.trust.keys(now), now, name=self.name)
        except BadRecord:
            return False
        self.known.take(record)
        return True
