"""Totals never fall, never count twice, never lose what the kernel still knows."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.agent import files
from nodes.agent.counters import Raw
from nodes.agent.meter import KEPT_UNLISTED, LONGEST_UNSEEN_MS, Meters, Total
from nodes.agent.protocol import Meter, Method


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "meters.json"


def meters(path: Path, *, rate: int = 10**9, boot: str = "boot") -> Meters:
    return Meters(path, instructions_per_second=rate, boot_id=boot)


def total(of: Meters, meter: Meter) -> int:
    of.save()
    return {item.meter: item.total for item in of.readings("a", 1, "now")}[meter]


def test_grows_by_what_the_counter_grew(path: Path) -> None:
    m = meters(path)
    for value in (5, 5, 9):
        m.transfer("a", Raw("s", value))
    assert total(m, Meter.TRANSFER) == 9


def test_a_new_source_starts_from_zero(path: Path) -> None:
    m = meters(path)
    m.transfer("a", Raw("first", 100))
    m.transfer("a", Raw("second", 30))
    assert total(m, Meter.TRANSFER) == 130


def test_a_counter_that_fell_was_reset(path: Path) -> None:
    m = meters(path)
    m.transfer("a", Raw("s", 100))
    m.transfer("a", Raw("s", 10))
    assert total(m, Meter.TRANSFER) == 110


def test_goes_on_after_a_restart_of_the_agent(path: Path) -> None:
    m = meters(path)
    m.transfer("a", Raw("s", 100))
    m.save()
    m.transfer("a", Raw("s", 150))  # not saved: the agent is killed here
    again = meters(path)
    again.transfer("a", Raw("s", 170))
    assert total(again, Meter.TRANSFER) == 170


@settings(deadline=None)  # each save waits for the disk
@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["look", "save", "kill", "reset"])), max_size=40))
def test_any_mixture_of_growth_resets_and_kills_is_exact(
    tmp_path_factory: pytest.TempPathFactory, events: list
) -> None:
    """The true total is what all sources ever counted; a reset is only seen if looked at before, as it is at every stop."""
    path = tmp_path_factory.mktemp("m") / "meters.json"
    m, source, value, true, reported = meters(path), 0, 0, 0, 0
    for grown, event in events:
        value, true = value + grown, true + grown
        if event == "reset":  # container and network go: the agent reads and saves before it removes them
            m.transfer("a", Raw(str(source), value))
            m.save()
            source, value = source + 1, 0
        elif event == "kill":
            m = meters(path)
        else:
            m.transfer("a", Raw(str(source), value))
            if event == "save":
                m.save()
        found = [item.total for item in m.readings("a", 1, "now") if item.meter is Meter.TRANSFER]
        assert not found or reported <= found[0] <= true, "what was told once is never taken back"
        reported = found[0] if found else reported
    m.transfer("a", Raw(str(source), value))
    assert total(m, Meter.TRANSFER) == true


def test_compute_is_processor_time_times_rate_without_rounding_away(path: Path) -> None:
    m = meters(path, rate=3)
    for nanoseconds in range(1, 10**3):
        m.cpu("a", Raw("s", nanoseconds * 333_333))
    assert total(m, Meter.COMPUTE) == 999 * 333_333 * 3 // 10**9


def test_a_new_rate_changes_only_what_comes_after(path: Path) -> None:
    m = meters(path, rate=10)
    m.cpu("a", Raw("s", 10**9))
    m.save()
    m = meters(path, rate=20)
    m.cpu("a", Raw("s", 2 * 10**9))
    assert total(m, Meter.COMPUTE) == 30


def test_uptime_counts_between_healthy_checks_only(path: Path) -> None:
    m = meters(path)
    m.healthy("a", "run", 1000)
    m.healthy("a", "run", 6000)
    m.unhealthy("a")
    m.healthy("a", "run", 20_000)
    m.healthy("a", "run", 21_000)
    assert total(m, Meter.UPTIME) == 6000


def test_uptime_is_bounded_and_belongs_to_one_run(path: Path) -> None:
    m = meters(path)
    m.healthy("a", "run", 0)
    m.healthy("a", "run", LONGEST_UNSEEN_MS + 1)
    assert total(m, Meter.UPTIME) == 0
    m.healthy("a", "other", LONGEST_UNSEEN_MS + 2)
    assert total(m, Meter.UPTIME) == 0


def test_uptime_spans_a_quick_restart_of_the_agent_but_not_of_the_device(path: Path) -> None:
    m = meters(path)
    m.healthy("a", "run", 0)
    m.healthy("a", "run", 1000)
    m.save()
    again = meters(path)
    again.healthy("a", "run", 4000)
    assert total(again, Meter.UPTIME) == 4000
    again.save()
    rebooted = meters(path, boot="next")
    rebooted.healthy("a", "run", 4500)
    assert total(rebooted, Meter.UPTIME) == 4000


def test_uptime_counts_though_a_release_is_seldom_checked(path: Path) -> None:
    m = meters(path)
    for now in (0, 300_100, 600_200):
        m.healthy("a", "run", now, pause_ms=300_000)
    assert total(m, Meter.UPTIME) == 600_200


def test_what_was_seen_to_fail_is_not_uptime_though_the_agent_is_killed_at_once(path: Path) -> None:
    m = meters(path)
    m.healthy("a", "run", 0)
    m.healthy("a", "run", 1000)
    m.save()
    m.unhealthy("a")
    again = meters(path)
    again.healthy("a", "run", 31_000)
    assert total(again, Meter.UPTIME) == 1000


def test_storage_is_bytes_times_seconds(path: Path) -> None:
    m = meters(path)
    m.held("a", 100, 0)
    m.held("a", 300, 10_000)
    m.held("a", 300, 11_500)
    assert total(m, Meter.STORAGE) == 100 * 10 + 300 * 3 // 2


def test_of_two_sizes_the_smaller_counts_and_so_nothing_for_what_was_removed_while_the_agent_was_away(
    path: Path,
) -> None:
    m = meters(path)
    m.held("a", 100, 0)
    m.save()
    again = meters(path)
    again.held("a", 0, 86_400_000)
    assert total(again, Meter.STORAGE) == 0


def test_a_volume_that_another_lease_counted_meanwhile_counts_from_when_it_is_back(path: Path) -> None:
    m = meters(path)
    m.held("a", 100, 0)
    m.held_by_another("a")
    m = meters(path)
    m.held("a", 100, 50_000)
    m.held("a", 100, 51_000)
    assert total(m, Meter.STORAGE) == 100


def test_storage_of_one_boot_is_not_counted_into_the_next(path: Path) -> None:
    m = meters(path)
    m.held("a", 100, 1000)
    m.save()
    again = meters(path, boot="next")
    again.held("a", 100, 9000)
    assert total(again, Meter.STORAGE) == 0


def test_a_total_the_hardware_had_a_part_in_says_so_after_a_restart(path: Path) -> None:
    m = meters(path)
    m.cpu("a", Raw("cpu", 10), Raw("perf", 90))
    m.save()
    again = meters(path)
    again.cpu("a", Raw("cpu", 20))
    again.save()
    assert {item.method for item in again.readings("a", 1, "now")} == {Method.PERF}


def test_totals_outlive_the_portals_forgetting(path: Path) -> None:
    m = meters(path)
    m.transfer("a", Raw("s", 7))
    m.listed({"a": 1})
    m.listed({})
    m.save()
    again = meters(path)
    assert total(again, Meter.TRANSFER) == 7
    assert again.generations() == {"a": 1}


def test_what_is_wiped_and_no_longer_named_is_forgotten(path: Path) -> None:
    m = meters(path)
    for lease_id in ("a", "b"):
        m.transfer(lease_id, Raw("s", 7))
    m.listed({"a": 1, "b": 1}, is_wiped=lambda lease_id: lease_id == "b")
    m.listed({"a": 1}, is_wiped=lambda lease_id: lease_id == "b")
    assert m.transfers() == {"a": 7}
    m.save()
    assert meters(path).transfers() == {"a": 7}


def test_what_is_remembered_of_leases_no_longer_named_is_bounded_and_the_last_stay(path: Path) -> None:
    m = meters(path)
    for number in range(KEPT_UNLISTED + 5):
        m.transfer(str(number), Raw("s", 1))
        m.listed({str(number): 1})
        if number % 50 == 0:
            m.save()
            m = meters(path)
    m.listed({})
    assert sorted(map(int, m.transfers())) == list(range(5, KEPT_UNLISTED + 5))


def test_total_is_plain() -> None:
    found = Total()
    assert [found.absorb(Raw("x", value)) for value in (3, 3, 1)] == [3, 0, 1]


def test_what_a_full_disk_does_not_take_is_kept_until_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meters = Meters(tmp_path / "meters.json", instructions_per_second=1, boot_id="boot")
    for second in range(3):
        meters.healthy("lease", "run", second * 1000)
        meters.held("lease", 100, second * 1000)
    with monkeypatch.context() as full:
        full.setattr(files, "write_json", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        meters.unhealthy("lease")
        meters.held("lease", 10, 3000)
        meters.held_by_another("lease")
        meters.save_if_possible()
        with pytest.raises(OSError, match="No space"):
            meters.save()
        assert meters.readings("lease", 1, "now") == [], "nothing is told that is not on disk"
    meters.save()
    again = Meters(tmp_path / "meters.json", instructions_per_second=1, boot_id="boot")
    assert {item.meter.value: item.total for item in again.readings("lease", 1, "now")} == {
        "uptime": 2000,
        "storage": 210,
    }
