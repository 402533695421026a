"""What strangers make of folders and open files: counted whatever they do, with little memory, and removed to the last one."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodes.agent import files, holdings
from nodes.agent.holdings import by_folder, by_processes

LONG = "d" * 255
MB = 2**20


def nest(folder: Path, depth: int) -> int:
    """Make folders of the longest name inside one another, and a file of 1 MB at the end; returns the depth reached."""
    script = f"""
import os, sys
os.chdir(sys.argv[1])
for _ in range({depth}):
    os.mkdir("{LONG}"); os.chdir("{LONG}")
open("end", "wb").write(b"x" * {MB})
"""
    subprocess.run([sys.executable, "-c", script, folder], check=True)
    return depth


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "deep"
    folder.mkdir()
    nest(folder, 10_000)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def test_blocks_count_once_and_holes_do_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    (tmp_path / "sub").mkdir()
    before = by_folder(tmp_path)
    for number in range(3):
        (tmp_path / f"sub/hard{number}").hardlink_to(tmp_path / "a")
    (tmp_path / "sub/soft").symlink_to("/usr")
    assert before.bytes >= 10_000
    assert abs(by_folder(tmp_path).bytes - before.bytes) < 10_000
    assert by_folder(tmp_path).files == before.files + 4
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**9)
    found = by_folder(tmp_path)
    assert found.bytes < 10**6
    assert found.length > 10**9
    assert by_folder(tmp_path / "missing") == holdings.Held()


def test_ten_thousand_folders_inside_one_another_are_noticed_and_removed(deep: Path) -> None:
    assert by_folder(deep).hidden
    kept = deep.parent / "kept"
    kept.write_text("kept")
    (deep / "link").symlink_to(kept)
    files.empty_folder(deep)
    assert os.listdir(deep) == []
    assert kept.read_text() == "kept"


def test_what_installs_programs_is_counted_to_the_end(tmp_path: Path) -> None:
    nest(tmp_path, holdings.DEEPEST - 1)
    found = by_folder(tmp_path)
    assert found.bytes >= MB
    assert not found.hidden


def test_it_stops_once_it_knows_enough(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).write_bytes(b"x" * 4096)
    found = by_folder(tmp_path, enough=10_000)
    assert found.bytes + found.files * holdings.FILE_BYTES > 10_000
    assert found.files == 2
    assert by_folder(tmp_path, enough=10**6) == by_folder(tmp_path)


def test_many_files_and_hard_links_take_no_memory(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / str(number)).touch()
        (tmp_path / f"link{number}").hardlink_to(tmp_path / str(number))
    tracemalloc.start()
    try:
        assert by_folder(tmp_path).files == 20_000
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_folder_that_becomes_a_link_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "held/sub").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(bytes(MB))
    enter = holdings._enter

    def swap(folders: "list[holdings._Folder]", name: str, parent: "int | None" = None) -> None:
        if name == "sub":
            (tmp_path / "held/sub").rmdir()
            (tmp_path / "held/sub").symlink_to(outside)
        enter(folders, name, parent)

    monkeypatch.setattr(holdings, "_enter", swap)
    assert by_folder(tmp_path / "held").bytes < MB


def test_too_few_descriptors_are_an_error_and_no_small_folder(tmp_path: Path) -> None:
    nest(tmp_path, 50)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            by_folder(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_without_a_name_count_while_they_are_open_or_mapped(tmp_path: Path) -> None:
    devices = {os.stat(tmp_path).st_dev}
    before = by_processes([os.getpid()], devices)
    with tempfile.TemporaryFile(dir=tmp_path) as opened, tempfile.TemporaryFile(dir=tmp_path) as mapped:
        opened.write(bytes(MB))
        opened.flush()
        again = os.dup(opened.fileno())
        mapped.write(b"x" * MB)
        mapped.flush()
        memory = mmap.mmap(mapped.fileno(), MB)
        mapped.close()
        found = by_processes([os.getpid()], devices)
        assert found.bytes - before.bytes == 2 * MB
        assert found.files - before.files == 2
        assert by_processes([os.getpid()], set()) == holdings.Held()
        os.close(again)
        memory.close()
    assert by_processes([os.getpid()], devices) == before


def test_too_many_to_look_at_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "MOST_NAMELESS", 3)
    devices = {os.stat(tmp_path).st_dev}
    with ExitStack() as kept:
        for _ in range(5):
            kept.enter_context(tempfile.TemporaryFile(dir=tmp_path))
        assert by_processes([os.getpid()], devices).hidden
        monkeypatch.setattr(holdings, "MOST_NAMELESS", 100)
        assert not by_processes([os.getpid()], devices).hidden
        monkeypatch.setattr(holdings, "MOST_DESCRIPTORS", 3)
        assert by_processes([os.getpid()], devices).hidden
