"""Whom a long look freezes, and for how long, on a disk and a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.agent import frozen_look
from nodes.agent.frozen_look import FrozenLook
from nodes.agent.reconcile import Seen

MB = 2**20
STEP = 0.005


class Device:
    """A disk that an app and others fill, and the app's freezer."""

    def __init__(self, *, app: int, others: int = 0, stubborn: float = 0) -> None:
        """Args: app, others: bytes a second. stubborn: seconds it takes the app to stand still."""
        self.now, self.room, self._app, self._others, self._stubborn = 100.0, 10**12, app, others, stubborn
        self.frozen_at: "float | None" = None
        self.times: "list[tuple[float, float]]" = []  # when it was frozen, and for how long
        self.written = 0.0

    def freeze(self, seen: Seen) -> bool:
        self.frozen_at = self.now
        return True

    def is_still(self, lease_id: str) -> bool:
        return self.frozen_at is not None and self.now >= self.frozen_at + self._stubborn

    def thaw(self, lease_id: str) -> float:
        assert self.frozen_at is not None
        seconds, self.frozen_at = self.now - self.frozen_at, None
        self.times.append((self.now - seconds, seconds))
        return seconds

    def pass_time(self) -> None:
        self.now += STEP
        written = 0 if self.is_still("lease") else self._app * STEP
        self.written += written
        self.room -= int(written + self._others * STEP)

    def look(self, seconds: float, *, left: int = 0) -> float:
        """Count for so long; returns how long the app stood still by the look's word."""
        look = FrozenLook(
            Seen("lease", 1, "w"),
            self,  # type: ignore[arg-type]
            lambda: self.room,
            left=left,
            clock=lambda: self.now,
        )
        until = self.now + seconds
        while self.now < until:
            self.pass_time()
            look.progress()
        return look.end()


def test_who_fills_the_disk_stands_still_most_of_the_time_and_never_long() -> None:
    device = Device(app=600 * MB)
    stood = device.look(10)
    assert stood == pytest.approx(sum(seconds for _, seconds in device.times))
    assert stood > 8
    assert device.written < 1.6 * 600 * MB
    assert max(seconds for _, seconds in device.times) <= frozen_look.LONGEST_SECONDS + 2 * STEP


@pytest.mark.parametrize(
    "look",
    [
        lambda: (Device(app=600 * MB), 0.15, 0),  # few files
        lambda: (Device(app=600 * MB), 2, 1300 * MB),  # far from its limit
        lambda: (Device(app=MB), 5, 0),  # writes little
        lambda: (Device(app=0), 5, 0),
    ],
    ids=["few files", "much left", "little", "nothing"],
)
def test_ordinary_apps_notice_nothing(look: "Callable[[], tuple[Device, float, int]]") -> None:
    device, seconds, left = look()
    assert device.look(seconds, left=left) == 0
    assert device.times == []


def test_beside_who_fills_the_disk_an_app_stands_still_for_a_moment_and_then_is_left_alone() -> None:
    device = Device(app=0, others=600 * MB)
    device.look(2)
    assert len(device.times) == 1
    assert device.times[0][1] <= 2 * frozen_look.SAMPLE_SECONDS + 2 * STEP


def test_the_smaller_of_two_does_not_absolve_the_larger() -> None:
    device = Device(app=600 * MB, others=100 * MB)
    assert device.look(10) > 8


def test_what_was_begun_before_it_stood_still_absolves_nobody() -> None:
    device = Device(app=600 * MB, stubborn=0.4)
    device.look(3)
    assert all(seconds > 0.6 for _, seconds in device.times[:-1])
    assert len(device.times) >= 3


def test_it_is_let_go_whatever_happens_to_the_look() -> None:
    device = Device(app=600 * MB)
    device.look(0.5)
    assert device.frozen_at is None
    assert len(device.times) == 1
