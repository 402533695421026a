"""Totals never fall, never count twice, never lose what the kernel still knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.agent.counters import Counters, Raw, folder_bytes
from nodes.agent.meter import LONGEST_UNSEEN_MS, Meters, Total
from nodes.agent.protocol import Meter


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


def test_storage_is_bytes_times_seconds(path: Path) -> None:
    m = meters(path)
    m.held("a", 100, 0)
    m.held("a", 300, 10_000)
    m.held("a", 0, 11_500)
    assert total(m, Meter.STORAGE) == 100 * 10 + 300 * 3 // 2


def test_totals_outlive_the_portals_forgetting(path: Path) -> None:
    m = meters(path)
    m.transfer("a", Raw("s", 7))
    m.listed(set())
    m.save()
    assert total(meters(path), Meter.TRANSFER) == 7


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
    assert c.cpu_nanoseconds("a", 42).value == 55


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
    assert c.cpu_nanoseconds("a", 43).value == 1_500_000
    assert c.cpu_nanoseconds("other", 43).value == 7000
    assert c.cpu_nanoseconds("other", 0) is None


def test_a_cgroup_made_anew_is_another_source(tmp_path: Path) -> None:
    name = "sys/fs/cgroup/cpuacct/interchain/a/cpuacct.usage"
    c = tree(tmp_path, {name: "10"})
    before = c.cpu_nanoseconds("a", 0)
    folder = (tmp_path / name).parent
    folder.rename(tmp_path / "kept so that its inode is not given out again")
    tree(tmp_path, {name: "20"})
    assert c.cpu_nanoseconds("a", 0).source != before.source


def test_bridge_and_interface_bytes(tmp_path: Path) -> None:
    c = tree(
        tmp_path,
        {
            "sys/class/net/icn-1/statistics/rx_bytes": "100\n",
            "sys/class/net/icn-1/statistics/tx_bytes": "23\n",
            "sys/class/net/icn-1/ifindex": "9\n",
            "proc/7/net/dev": "head\nhead\n    lo: 999 0 0 0 0 0 0 0 999 0\n  eth0: 10 1 0 0 0 0 0 0 20 1\n",
            "proc/7/stat": "7 (a (b) c) " + " ".join(["0"] * 19 + ["777", "0"]),
        },
    )
    assert c.interface_bytes("icn-1", 7).value == 123
    direct = c.interface_bytes("gone", 7)
    assert (direct.value, direct.source) == (30, "b:7:777")
    assert c.interface_bytes("gone", 8) is None


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
