"""Totals never fall, never count twice, never lose what the kernel still knows."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.agent.counters import Counters, Raw, folder_bytes
from nodes.agent.meter import KEPT_UNLISTED, LONGEST_UNSEEN_MS, Meters, Total
from nodes.agent.protocol import Meter, Method

CGROUPS = Path("/sys/fs/cgroup")


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


# --- the kernel's files -------------------------------------------------------------------------------------------


def tree(root: Path, files: dict[str, str]) -> Counters:
    for name, text in {"proc/sys/kernel/random/boot_id": "b\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Counters(root / "sys", root / "proc")


def test_cgroup_v1_lease_cgroup(tmp_path: Path) -> None:
    c = tree(tmp_path, {"sys/fs/cgroup/cpuacct/interchain/a/cpuacct.usage": "123\n"})
    assert (c.cgroup_version, c.cpu_nanoseconds("a", 0).value) == (1, 123)


def test_cgroup_v1_joint_hierarchy_and_systemd_path(tmp_path: Path) -> None:
    c = tree(
        tmp_path,
        {
            "sys/fs/cgroup/cpu,cpuacct/system.slice/docker-x.scope/cpuacct.usage": "55\n",
            "proc/42/cgroup": "4:memory:/elsewhere\n3:cpu,cpuacct:/system.slice/docker-x.scope\n",
        },
    )
    assert c.cpu_nanoseconds("a", 42, "x").value == 55


def test_cgroup_v2(tmp_path: Path) -> None:
    c = tree(
        tmp_path,
        {
            "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
            "sys/fs/cgroup/interchain/a/cpu.stat": "usage_usec 1500\nuser_usec 1000\n",
            "sys/fs/cgroup/system.slice/docker-y.scope/cpu.stat": "usage_usec 7\n",
            "proc/43/cgroup": "0::/system.slice/docker-y.scope\n",
        },
    )
    assert c.cgroup_version == 2
    assert c.cpu_nanoseconds("a", 43, "y").value == 1_500_000
    assert c.cpu_nanoseconds("other", 43, "y").value == 7000
    assert c.cpu_nanoseconds("other", 0, "y") is None


def test_the_number_of_a_dead_process_may_be_another_processs_by_now(tmp_path: Path) -> None:
    c = tree(
        tmp_path,
        {
            "sys/fs/cgroup/cgroup.controllers": "cpu\n",
            "sys/fs/cgroup/cpu.stat": "usage_usec 999999999999\n",
            "sys/fs/cgroup/system.slice/ssh.service/cpu.stat": "usage_usec 888888888888\n",
            "proc/44/cgroup": "0::/\n",
            "proc/45/cgroup": "0::/system.slice/ssh.service\n",
        },
    )
    assert [c.cpu_nanoseconds("a", pid, "4f" * 32) for pid in (44, 45)] == [None, None]


def test_a_lease_is_counted_by_its_own_cgroup_or_its_containers_and_never_by_both_in_turn(tmp_path: Path) -> None:
    lease_cgroup = "sys/fs/cgroup/cpuacct/interchain/a"
    c = tree(
        tmp_path,
        {
            f"{lease_cgroup}/cpuacct.usage": "100\n",
            f"{lease_cgroup}/y/cpuacct.usage": "100\n",
            "proc/46/cgroup": "3:cpuacct:/interchain/a/y\n",
        },
    )
    assert c.cpu_nanoseconds("a", 46, "y").value == 100
    (tmp_path / lease_cgroup / "cpuacct.usage").unlink()  # cannot be read now
    assert c.cpu_nanoseconds("a", 46, "y") is None


@pytest.fixture
def unified(tmp_path: Path) -> Iterator[tuple[Counters, Path]]:
    """A real version 2 tree, and a cgroup of lease "a" in it."""
    roots = [root for root in (CGROUPS / "unified", CGROUPS) if (root / "cgroup.procs").exists()]
    if os.geteuid() != 0 or not roots:
        pytest.skip("needs root and a version 2 cgroup tree")
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/cgroup").symlink_to(roots[0])
    folder = roots[0] / "interchain" / "a"
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("needs a writable version 2 cgroup tree")
    yield Counters(tmp_path), folder
    folder.rmdir()


def test_a_real_version_2_cgroup_counts_its_children_and_the_dead(unified: tuple[Counters, Path]) -> None:
    c, folder = unified
    assert c.cgroup_version == 2
    before = c.cpu_nanoseconds("a", 0)
    container = folder / "container"
    container.mkdir()
    loop = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    subprocess.run(["sh", "-c", f"echo $$ > {container}/cgroup.procs; ({loop}); {loop}"], check=True)
    alive = c.cpu_nanoseconds("a", 0)
    container.rmdir()
    gone = c.cpu_nanoseconds("a", 0)
    assert gone.source == alive.source == before.source
    assert gone.value >= alive.value > before.value + 10_000_000


def test_a_cgroup_made_anew_is_another_source(tmp_path: Path) -> None:
    name = "sys/fs/cgroup/cpuacct/interchain/a/cpuacct.usage"
    c = tree(tmp_path, {name: "10"})
    before = c.cpu_nanoseconds("a", 0)
    folder = (tmp_path / name).parent
    folder.rename(tmp_path / "kept so that its inode is not given out again")
    tree(tmp_path, {name: "20"})
    assert c.cpu_nanoseconds("a", 0).source != before.source


def test_bytes_are_of_the_leases_own_bridge(tmp_path: Path) -> None:
    c = tree(
        tmp_path,
        {
            "sys/class/net/icn-1/statistics/rx_bytes": "100\n",
            "sys/class/net/icn-1/statistics/tx_bytes": "23\n",
            "sys/class/net/icn-1/ifindex": "9\n",
        },
    )
    assert c.interface_bytes("icn-1") == Raw("b:icn-1:9", 123)
    (tmp_path / "sys/class/net/icn-1/statistics/tx_bytes").unlink()  # the bridge goes while we look
    assert [c.interface_bytes(name) for name in ("icn-1", "gone", "")] == [None, None, None]


def test_folder_bytes_counts_blocks_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    (tmp_path / "sub").mkdir()
    before = folder_bytes(tmp_path)
    (tmp_path / "sub/hard").hardlink_to(tmp_path / "a")
    (tmp_path / "sub/soft").symlink_to("/usr")
    assert before >= 10_000
    assert folder_bytes(tmp_path) - before < 10_000
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**9)
    assert folder_bytes(tmp_path) < 10**6
    assert folder_bytes(tmp_path / "missing") == 0
