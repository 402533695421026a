"""Follow what happens on the chain, and write down what it means once it cannot vanish any more.

The chain worker calls `watch` in each round. What an event means is known by its handler: `HANDLERS` is the whole table.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from django.db import transaction

from billing.chain.states import EVENT_MOVES, EventState, transition
from billing.models import ChainEvent
from billing.services import deposits


class Handler(Protocol):
    """What an event means. A module with these two functions is one. Both run inside a database transaction."""

    def book(self, event: ChainEvent, *, now: datetime) -> None:
        """Write down an event that is final; called once for it, together with its move to `final`.

        Use `event.key` in the keys of ledger postings. An error leaves the event as it was; it is tried again.
        """
        ...

    def unbook(self, event: ChainEvent, *, now: datetime) -> None:
        """Reverse exactly what `book` did: the event vanished although it was final."""
        ...


HANDLERS: dict[tuple[str, str], Handler] = {
    ("Settlement", "Deposited"): deposits,
}


def book(*, event_id: int, now: datetime) -> bool:
    """Let the handler write an event down and make it final, both or neither; false when another worker did."""
    with transaction.atomic():
        event = ChainEvent.objects.select_for_update().get(pk=event_id)
        if event.state != EventState.SEEN:
            return False
        handler = HANDLERS.get((event.contract, event.name))
        if handler is not None:
            handler.book(event, now=now)
        transition(event, EVENT_MOVES, EventState.FINAL, booked_at=now, error="")
    return True
