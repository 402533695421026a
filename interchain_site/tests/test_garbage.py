"""What stays is left out of Python's search for cycles, and a cycle that was left out is found all the same."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from interchain_site import garbage


class Knot:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before():
    before = gc.get_freeze_count()
    yield
    assert gc.get_freeze_count() == before, "nothing stays left out when the process no longer serves"


async def until(true) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


def test_what_lives_is_left_out_and_a_cycle_among_it_goes_in_time(monkeypatch):
    monkeypatch.setattr(garbage, "LEFT_OUT_SECONDS", 0.05)
    monkeypatch.setattr(garbage, "ALL_SECONDS", 0.5)

    async def served() -> None:
        async with garbage.searched_seldom():
            await until(gc.get_freeze_count)
            knot = Knot()
            tied = weakref.ref(knot)
            gc.freeze()
            del knot
            await until(lambda: tied() is None)

    asyncio.run(served())


def test_an_ordinary_search_does_not_look_at_it(monkeypatch):
    async def served() -> None:
        async with garbage.searched_seldom():
            knot = Knot()
            tied = weakref.ref(knot)
            gc.freeze()
            del knot
            gc.collect()
            assert tied() is not None

    asyncio.run(served())
