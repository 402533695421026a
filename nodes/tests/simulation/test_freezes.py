"""A thousand freezes shorter than half the time-out: no app is taken from a device."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from nodes.models import Lease
from nodes.tests.simulation.test_simulation import boxes
from nodes.tests.simulation.world import world

__all__ = ["boxes"]
FREEZES = 1000 if connection.vendor == "sqlite" else 100


@pytest.mark.slow
def test_a_thousand_freezes_shorter_than_half_the_timeout_move_nothing(boxes, settings):
    settings.PRIVATE_ENDPOINTS = True
    half = settings.LINK_TIMEOUT_SECONDS / 2
    with world(1, boxes) as made, transaction.atomic():
        made.open_apps()
        for _ in range(12):
            made.tick(3)
        opened = Lease.objects.count()
        for _ in range(FREEZES // len(boxes)):
            for device in made.devices:
                device.frozen_for = made.random.uniform(1, half)
            for _ in range(3):
                made.tick(half / 2)
            assert not Lease.objects.filter(state="lost").exists(), made.seconds
        assert Lease.objects.count() == opened, "something moved"
        transaction.set_rollback(True)


@pytest.mark.slow
def test_a_freeze_longer_than_the_timeout_takes_what_ran_there(boxes, settings):
    """The same world, so that the test above could fail."""
    settings.PRIVATE_ENDPOINTS = True
    with world(1, boxes) as made, transaction.atomic():
        made.open_apps()
        for _ in range(12):
            made.tick(3)
        frozen = next(one for one in made.devices if Lease.objects.filter(device_id=one.id, state="running").exists())
        frozen.frozen_for = settings.LINK_TIMEOUT_SECONDS * 2
        for _ in range(12):
            made.tick(settings.LINK_TIMEOUT_SECONDS / 8)
        assert not Lease.objects.filter(device_id=frozen.id, state="running").exists()
        transaction.set_rollback(True)
