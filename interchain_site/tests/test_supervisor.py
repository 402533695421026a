"""The process manager: starts, restarts what dies, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from interchain_site.local import leftovers
from interchain_site.local.steps import ROOT, Stop
from interchain_site.local.supervisor import Program, Supervisor


def program(name: str, code: str, **more) -> Program:
    return Program(name, (sys.executable, "-c", code), **more)


@pytest.fixture
def said():
    return []


@pytest.fixture
def supervisor(tmp_path, said):
    made = Supervisor(env=os.environ, cwd=tmp_path, logs=tmp_path / "log", say=said.append)
    yield made
    made.stop()


def until(condition, seconds=10):
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


SLEEP = "import time; time.sleep(60)"


def test_a_killed_program_is_started_again(supervisor, said):
    supervisor.start([program("web", SLEEP)])
    first = supervisor.pids()["web"]
    supervisor.kill("web")
    until(lambda: supervisor.pids().get("web", first) != first)
    assert supervisor.starts("web") == 2
    assert "web ended (SIGKILL)" in said[0]


def test_stop_ends_programs_and_what_they_started(supervisor):
    code = (
        "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    )
    supervisor.start([program("web", code)])
    until(lambda: supervisor.last_line("web").isdigit())
    child, parent = int(supervisor.last_line("web")), supervisor.pids()["web"]
    supervisor.stop()
    until(lambda: not alive(child))
    assert not alive(parent)


def test_one_that_ignores_the_request_is_killed(supervisor):
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    supervisor.start([program("deaf", code, stop_seconds=0.3)])
    until(lambda: supervisor.last_line("deaf") == "deaf")
    pid = supervisor.pids()["deaf"]
    supervisor.stop()
    assert not alive(pid)


def test_one_that_cannot_start_says_its_last_line(supervisor):
    with pytest.raises(Stop, match="broken does not start: no such setting"):
        supervisor.start([program("broken", "import sys; sys.exit('no such setting')", ready=lambda: False)])


def test_a_paused_program_stays_down_until_resumed(supervisor):
    supervisor.start([program("web", SLEEP)])
    supervisor.pause("web")
    time.sleep(0.4)
    assert supervisor.pids() == {}
    supervisor.resume("web")
    assert "web" in supervisor.pids()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_nothing_outlives_a_killed_manager(tmp_path):
    manager = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from interchain_site.local.supervisor import Program, Supervisor
made = Supervisor(env=os.environ, cwd=Path("/"), logs=Path({str(tmp_path)!r}))
made.start([Program("web", (sys.executable, "-c", {SLEEP!r}))])
print(made.pids()["web"], flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", manager], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    until(lambda: not alive(child))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_leftovers_of_an_earlier_start_are_found_by_their_mark_and_ended(tmp_path):
    marked = subprocess.Popen(["sleep", "60"], env={**os.environ, leftovers.MARK: str(tmp_path)})
    other = subprocess.Popen(["sleep", "60"], env={**os.environ, leftovers.MARK: str(tmp_path / "other")})
    try:
        until(lambda: leftovers.find(tmp_path) == [marked.pid])
        assert marked.poll() is None
        # A real leftover is reaped by init; here the test is its parent.
        threading.Thread(target=marked.wait, daemon=True).start()
        assert leftovers.end(tmp_path) == 1
        assert other.poll() is None
    finally:
        for process in (marked, other):
            process.kill()
            process.wait()
