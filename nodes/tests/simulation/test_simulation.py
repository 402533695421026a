"""A thousand small worlds with everything going wrong in them. A failing one prints the command that lives it again."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from interchain_site.testing.devices import make_device
from nodes.models import Device
from nodes.tests.simulation.world import BEGAN, live, world

SEEDS = 1000 if connection.vendor == "sqlite" else 40  # the seeds are the same; a round trip costs more there
GROUP = 20
STEPS = 3


@pytest.fixture
def boxes(cast):
    owners = [cast.owner, cast.stranger, cast.buyer, cast.staff]
    made = [make_device(owner, f"Box {n}", host=f"10.0.{n}.1") for n, owner in enumerate(owners)]
    # The silence of a device that enrolled a moment ago, or in time to come, says nothing.
    Device.objects.update(enrolled_at=BEGAN - timedelta(days=1))
    for box in made:
        box.device.refresh_from_db()
    return made


def chosen(group: int) -> list[int]:
    one = os.environ.get("SIMULATION_SEED")
    return [int(one)] if one else list(range(group * GROUP, (group + 1) * GROUP))


@pytest.mark.slow
@pytest.mark.parametrize("group", [0] if os.environ.get("SIMULATION_SEED") else range(SEEDS // GROUP))
def test_whatever_happens_each_slot_is_served_and_billed_once(boxes, group, settings):
    settings.PRIVATE_ENDPOINTS = True
    for seed in chosen(group):
        with world(seed, boxes) as made, transaction.atomic():
            try:
                live(made, steps=STEPS)
            except Exception as error:
                again = f"SIMULATION_SEED={seed} bin/test nodes/tests/simulation/test_simulation.py"
                story = "\n  ".join(made.log)
                pytest.fail(f"Seed {seed}: {error!r}\n  {story}\nThe same again: {again}")
            finally:
                transaction.set_rollback(True)
        assert timezone.now().year >= 2026
