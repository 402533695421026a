"""Bytes of the owner's month: never lost, never twice, whatever restarts."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nodes.agent.traffic import Traffic


def test_counts_growth_and_downloads_by_month(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "traffic.json")
    assert traffic.add({"a": 100}, "2026-11") == 100
    assert traffic.add({"a": 150, "b": 10}, "2026-11") == 160
    traffic.add_download(1000, "2026-11")
    assert traffic.add({"b": 15}, "2026-12") == 5
    assert traffic.used("2026-11") == 1160


def test_a_total_read_before_a_kill_and_again_after_is_counted_once(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "traffic.json")
    for total in (100, 150, 120, 170):  # the agent died at 150, and its meters' file knew of 120
        traffic.add({"a": total}, "2026-11")
    assert traffic.used("2026-11") == 170


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3_000_000), st.booleans(), st.sampled_from(["2026-11", "2026-12"])), max_size=30
    )
)
def test_kills_and_a_clock_that_jumps_lose_and_repeat_nothing(tmp_path_factory, steps) -> None:
    path = tmp_path_factory.mktemp("traffic") / "traffic.json"
    traffic, total = Traffic(path), 0
    for grown, killed, month in steps:
        total += grown
        traffic.add({"lease": total}, month)
        if killed:
            traffic = Traffic(path)
    traffic.add({"lease": total}, "2026-12")
    assert traffic.used("2026-11") + traffic.used("2026-12") == total
