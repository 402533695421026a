"""Who goes on writing while the disk is nearly full is named, and nobody else."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from nodes.agent.disk_reserve import GROWN_BYTES, RESERVE_BYTES, DiskReserve, Place


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What each app's file system holds, by its path."""
    found: dict[str, int] = {}
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=found[path], f_bfree=0, f_frsize=1))
    return found


def place(folder: Path, name: str) -> Place:
    image = folder / name
    image.touch()
    return Place(name, name, image)


def test_with_room_everybody_may_grow(held: dict[str, int], tmp_path: Path) -> None:
    reserve, one = DiskReserve(), place(tmp_path, "one")
    for size in (0, 10 * GROWN_BYTES, 100 * GROWN_BYTES):
        held["one"] = size
        assert reserve.growing([one], RESERVE_BYTES + size) == set()


def test_on_a_nearly_full_disk_who_grows_is_named_however_slowly(held: dict[str, int], tmp_path: Path) -> None:
    reserve, both = DiskReserve(), [place(tmp_path, "rests"), place(tmp_path, "writes")]
    held.update(rests=50 * GROWN_BYTES, writes=0)
    assert reserve.growing(both, RESERVE_BYTES - 1) == set()
    held["writes"] = GROWN_BYTES // 2
    assert reserve.growing(both, RESERVE_BYTES - 1) == set()
    held["writes"] = GROWN_BYTES
    assert reserve.growing(both, RESERVE_BYTES - 1) == {"writes"}


def test_what_has_no_place_on_the_disk_yet_counts_as_taken(held: dict[str, int], tmp_path: Path) -> None:
    reserve, one = DiskReserve(), place(tmp_path, "one")
    held["one"] = 0
    assert reserve.growing([one], 2 * RESERVE_BYTES) == set()
    held["one"] = RESERVE_BYTES + 1
    assert reserve.growing([one], 2 * RESERVE_BYTES) == {"one"}
    one.image.write_bytes(bytes(GROWN_BYTES))
    held["one"] = 0
    assert reserve.growing([one], 2 * RESERVE_BYTES) == set()


def test_who_removes_files_may_write_as_much_again_and_no_more(held: dict[str, int], tmp_path: Path) -> None:
    reserve, one = DiskReserve(), place(tmp_path, "one")
    held["one"] = 9 * GROWN_BYTES
    assert reserve.growing([one], 0) == set()
    held["one"] = 2 * GROWN_BYTES
    assert reserve.growing([one], 0) == set()
    held["one"] = 3 * GROWN_BYTES
    assert reserve.growing([one], 0) == {"one"}
