"""What an idle agent does not hold in memory. How much it holds is measured by bench/agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.agent import computer, process_settings

ROOT = Path(__file__).resolve().parents[3]
LARGE = [
    "argparse", "bz2", "decimal", "fractions", "importlib.metadata", "lzma", "shutil", "statistics", "tarfile", "tempfile", "urllib.request", "zipfile",
]  # fmt: skip


def said_by(code: str) -> object:
    """Return what a fresh interpreter prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_agents_work_loads_nothing_large_that_it_does_not_use() -> None:
    code = "import json, sys; import nodes.agent.__main__, nodes.agent.work, nodes.agent.wiring; print(json.dumps(sorted(sys.modules)))"
    loaded = said_by(code)
    assert isinstance(loaded, list)
    assert "nodes.agent.link" in loaded
    assert "websockets.sync.client" in loaded
    assert not set(LARGE) & set(loaded)


def test_removing_a_folder_that_is_not_there_loads_nothing() -> None:
    """Each start removes what a killed copy left, which is hardly ever anything."""
    code = "import json, sys; from pathlib import Path; from nodes.agent import files; files.remove_folder(Path('/nowhere')); print(json.dumps(sorted(sys.modules)))"
    assert not set(LARGE) & set(said_by(code))  # type: ignore[call-overload]


def test_modules_left_out_of_websockets_are_there_for_everybody_else() -> None:
    code = """
import json
import nodes.agent.websocket
import importlib.metadata, urllib.request
from websockets.proxy import get_proxy
from websockets.uri import parse_uri
import os
os.environ["https_proxy"] = "http://proxy.example:3128"
print(json.dumps([importlib.metadata.version("websockets"), get_proxy(parse_uri("wss://portal.example/link/"))]))
"""
    version, proxy = said_by(code)  # type: ignore[misc]
    assert version
    assert proxy == "http://proxy.example:3128", "a library that does use them finds them"


def test_programs_are_found_where_a_shell_finds_them_and_where_root_does(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "folder").mkdir()
    before = os.environ["PATH"]
    try:
        os.environ["PATH"] = str(tmp_path)
        assert computer.program("tool") is None, "it may not be executed"
        (tmp_path / "tool").chmod(0o755)
        assert computer.program("tool") == str(tmp_path / "tool")
        assert computer.program("folder") is None
        assert computer.program("no-such-program") is None
        assert computer.program("ldconfig"), "in /sbin, off this PATH"
    finally:
        os.environ["PATH"] = before
    assert computer.free_bytes(tmp_path) > 0


# An installed command; what follows the settings tells what it has.
COMMAND = """#!{python} -I
import json, os, sys
sys.path.insert(0, {root!r})
from nodes.agent import work
work.main = lambda home: print(json.dumps([os.getpid(), str(home), sys.argv, dict(os.environ)])) or 0
from nodes.agent.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "launcher_sets",
    [
        {},
        {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"},  # that of version 0.1, before docs/adr/0316
        {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=3"},  # an owner's own choice
        dict(process_settings.SETTINGS),
    ],
)
def test_an_older_launcher_starts_an_agent_with_all_settings(tmp_path: Path, launcher_sets: "dict[str, str]") -> None:
    command = tmp_path / "interchain-node"
    command.write_text(COMMAND.format(python=sys.executable, root=str(ROOT)))
    command.chmod(0o755)
    others = {name: value for name, value in os.environ.items() if name not in process_settings.SETTINGS}
    environment = {**others, "WATCHDOG_USEC": "1000", **launcher_sets}
    started = subprocess.Popen([command, "run", "--home", "a home"], env=environment, stdout=subprocess.PIPE, text=True)
    said, _ = started.communicate(timeout=60)
    pid, home, words, has = json.loads(said)
    assert (pid, home) == (started.pid, "a home"), "the process its launcher knows"
    assert words == [str(command), "run", "--home", "a home"]
    assert {name: has[name] for name in environment} == environment, "nothing of its environment is lost"
    assert {name: has[name] for name in process_settings.SETTINGS} == {**process_settings.SETTINGS, **launcher_sets}


def test_an_agent_that_cannot_start_itself_again_works_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    process_settings.ensure()
