"""`bin/run --cut`: a device's program is killed and stays away until it is mended."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from interchain_site.local import cuts
from interchain_site.local.run import parser
from interchain_site.local.site import DEVICES, Site
from interchain_site.local.steps import Stop
from interchain_site.local.supervisor import Program, Supervisor

# Ignores the friendly request: only a device that is killed is gone at once.
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


@pytest.fixture
def site(tmp_path):
    """Two enrolled devices whose agents are real processes."""
    site = Site(tmp_path, port=0)
    site.supervisor = Supervisor(env={}, cwd=tmp_path, logs=tmp_path / "log")
    for home in ("agent", "agent-2"):
        (tmp_path / home).mkdir()
        (tmp_path / home / "config.json").write_text(json.dumps({"device_id": f"test-{home}"}))
    programs = [
        Program(DEVICES[name], (sys.executable, "-c", STUBBORN), ready_line="up", stop_seconds=0.2)
        for name in site.devices()
    ]
    site.supervisor.start(programs)
    cuts.forget(site.data)
    (tmp_path / "run.json").write_text(json.dumps({"portal_url": "http://portal.example"}))
    with followed(site):
        yield site
    site.supervisor.stop()


@contextmanager
def followed(site):
    """Let the site act on what is asked, as `bin/run` does."""
    ended = threading.Event()
    follower = threading.Thread(target=cuts.follow, args=(site, ended))
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join(30)


def test_a_cut_device_is_killed_and_comes_back_when_mended(site):
    before = site.supervisor.pids()
    said = cuts.ask(site.data, "second", away=True)
    assert "http://portal.example/apps/" in said
    assert site.supervisor.pids() == {"agent": before["agent"]}
    cuts.ask(site.data, "second", away=False)
    after = site.supervisor.pids()
    assert after["agent"] == before["agent"]
    assert after["agent-2"] != before["agent-2"]


def test_what_is_asked_before_anybody_follows_is_done_and_what_an_earlier_site_was_asked_is_not(tmp_path):
    site = Site(tmp_path, port=0)
    site.supervisor = Supervisor(env={}, cwd=tmp_path, logs=tmp_path / "log")
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "config.json").write_text(json.dumps({"device_id": "test-agent"}))
    site.supervisor.start(
        [Program(DEVICES["first"], (sys.executable, "-c", STUBBORN), ready_line="up", stop_seconds=0.2)]
    )
    cuts.folder(tmp_path).mkdir()
    (cuts.folder(tmp_path) / "first").touch()
    cuts.forget(tmp_path)
    assert list(cuts.folder(tmp_path).iterdir()) == []
    (tmp_path / "run.json").write_text(json.dumps({"portal_url": "http://portal.example"}))
    asked = threading.Thread(target=cuts.ask, args=(tmp_path, "first"), kwargs={"away": True})
    asked.start()
    while not list(cuts.folder(tmp_path).iterdir()):
        assert asked.is_alive()
        time.sleep(0.02)
    with followed(site):
        asked.join(60)
        assert site.supervisor.pids() == {}
    site.supervisor.stop()


def test_a_cut_that_cannot_be_says_why(site, tmp_path_factory):
    with pytest.raises(Stop, match="There are: first, second"):
        cuts.ask(site.data, "third", away=True)
    with pytest.raises(Stop, match="No site runs"):
        cuts.ask(tmp_path_factory.mktemp("empty"), "first", away=True)


def test_the_command_line_knows_the_devices(capsys):
    assert parser().parse_args(["--cut", "second"]).cut == "second"
    with pytest.raises(SystemExit):
        parser().parse_args(["--cut", "fourth"])
    assert "first" in capsys.readouterr().err
