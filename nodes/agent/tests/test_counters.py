"""The kernel's counters, from its own files and from trees of files as other kernels have them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes.agent.counters import Counters, Raw

CGROUPS = Path("/sys/fs/cgroup")


def tree(root: Path, files: dict[str, str], interface_number: Callable[[str], int] = lambda name: 1) -> Counters:
    for name, text in {"proc/sys/kernel/random/boot_id": "b\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Counters(root / "sys", root / "proc", interface_number)


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


NET_DEV = "head\nhead\n    lo: 999 0 0 0 0 0 0 0 999 0\n icn-1: 100 1 0 0 0 0 0 0 23 1\n"


def test_bytes_are_of_the_leases_own_bridge(tmp_path: Path) -> None:
    numbers = {"icn-1": [9, 9, 9, 10]}
    c = tree(tmp_path, {"proc/self/net/dev": NET_DEV}, lambda name: numbers.get(name, [7] * 9).pop(0))
    assert c.interface_bytes("icn-1") == Raw("b:icn-1:9", 123)
    assert c.interface_bytes("icn-1") is None, "it was made anew while we looked"
    assert [c.interface_bytes(name) for name in ("icn", "")] == [None, None]


def test_a_bridge_that_is_not_there_has_no_bytes() -> None:
    assert Counters().interface_bytes("icn-nothing") is None
    assert Counters().interface_bytes("lo").value > 0
