"""What an idle agent does not hold in memory. How much it holds is measured by bench/agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nodes.agent import computer, service

ROOT = Path(__file__).resolve().parents[3]
LARGE = ["argparse", "bz2", "importlib.metadata", "lzma", "shutil", "tarfile", "tempfile", "urllib.request", "zipfile"]


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


def test_the_image_sets_for_glibc_what_the_launcher_sets(tmp_path: Path) -> None:
    dockerfile = Path(service.__file__).with_name("Dockerfile").read_text()
    launcher = service.write_launcher(tmp_path).read_text()
    for name, value in service.MALLOC.items():
        assert f" {name}={value}" in dockerfile
        assert f" {name}={value} " in launcher
