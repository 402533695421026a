"""What the doctor finds, without a Docker Engine: each lack is said in words with what to type."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from nodes.agent import computer, doctor
from nodes.agent.engine import Engine, EngineDown
from nodes.agent.errors import SetupError
from nodes.agent.protocol import Check
from nodes.agent.tests.portal import FakePortal

GOOD = {
    "SecurityOptions": ["name=seccomp,profile=default", "name=apparmor"],
    "MemoryLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "CgroupDriver": "cgroupfs",
    "CgroupVersion": "2",
    "Driver": "overlay2",
    "DockerRootDir": "/",
}


@pytest.fixture(autouse=True)
def _no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials need a real Engine: test_trials.py."""
    monkeypatch.setattr(doctor.trials, "run", lambda engine, info, **_: [])


class FakeEngine:
    def __init__(self, info: "dict[str, Any]", version: str = "1.41", **more: str) -> None:
        self.info, self.version = info, {"ApiVersion": version, "Version": "20.10.24", **more}

    def call(self, method: str, path: str) -> Any:
        return self.info if path == "/info" else self.version


class FakeFirewall:
    def ensure(self) -> bool:
        return False


def found(engine: Any = None, **more: Any) -> "dict[str, Check]":
    checks = doctor.examine(engine or FakeEngine(GOOD), FakeFirewall(), **more)  # type: ignore[arg-type]
    assert all(check.ok or check.mend or check.name in ("firewall", "perf") for check in checks), (
        "each says how to mend it"
    )
    return {check.name: check for check in checks}


def test_a_good_device_passes() -> None:
    doctor.require(list(found().values()))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"SecurityOptions": []}, "seccomp"),
        ({"MemoryLimit": False}, "memory"),
        ({"CpuCfsQuota": False}, "processor"),
        ({"PidsLimit": False}, "processes"),
    ],
)
def test_what_is_needed_is_refused_without(change: "dict[str, Any]", name: str) -> None:
    checks = found(FakeEngine({**GOOD, **change}))
    assert (checks[name].ok, checks[name].needed) == (False, True)
    with pytest.raises(SetupError):
        doctor.require(list(checks.values()))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"Driver": "vfs"}, "overlay"),
        ({"CgroupDriver": "systemd"}, "cgroups"),
        ({"SecurityOptions": ["seccomp"]}, "mandatory_access"),
    ],
)
def test_what_is_better_with_is_a_note(change: "dict[str, Any]", name: str) -> None:
    checks = found(FakeEngine({**GOOD, **change}))
    assert (checks[name].ok, checks[name].needed) == (False, False)
    doctor.require(list(checks.values()))


def test_no_engine_and_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = found(Engine("unix:///nowhere/docker.sock"))
    assert "No Docker Engine" in checks["docker"].message
    assert not checks["firewall"].ok
    assert "too old" in found(FakeEngine(GOOD, "1.39"))["docker"].message
    assert issubclass(EngineDown, Exception)


@pytest.mark.parametrize(
    ("version", "oldest", "tried"),
    [
        ("20.10.24+dfsg1", "1.12", True),
        ("28.5.2", "1.24", True),
        ("28.5.2", "1.45", False),
        ("29.0.0-rc.1", "1.44", False),
        ("dev", "", True),
    ],
)
def test_a_docker_nobody_has_tried_yet_is_told_of(version: str, oldest: str, tried: bool) -> None:
    check = found(FakeEngine(GOOD, "1.51", Version=version, MinAPIVersion=oldest))["docker_version"]
    assert (check.ok, check.needed) == (tried, tried)
    assert tried or version in check.message


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "1.41"), ("1.51", "1.24", "1.44"), ("1.52", "1.44", "1.44"), ("1.60", "1.48", "1.48")],
)
def test_an_engine_is_spoken_to_in_a_version_it_knows(
    monkeypatch: pytest.MonkeyPatch, newest: str, oldest: str, spoken: str
) -> None:
    engine, asked = Engine("unix:///nowhere/docker.sock"), []

    def answer(method: str, target: str, *_: object) -> "tuple[io.BytesIO, io.BytesIO]":
        asked.append(target)
        return io.BytesIO(json.dumps({"ApiVersion": newest, "MinAPIVersion": oldest}).encode()), io.BytesIO()

    monkeypatch.setattr(engine, "_request", answer)
    engine.call("GET", "/info")
    assert asked == ["/version", f"/v{spoken}/info"]


@pytest.mark.parametrize(
    ("free", "ok", "needed"), [(10**9, False, True), (5 * 10**9, False, False), (10**11, True, True)]
)
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, ok: bool, needed: bool) -> None:
    monkeypatch.setattr(computer, "free_bytes", lambda path: free)
    disk = found(folder=tmp_path)["disk"]
    assert (disk.ok, disk.needed) == (ok, needed)


@pytest.mark.parametrize(("offset", "ok"), [(0, True), (29, True), (-3600, False), (86_400, False)])
def test_the_clock_is_held_against_the_portals(
    portal: FakePortal, monkeypatch: pytest.MonkeyPatch, offset: int, ok: bool
) -> None:
    monkeypatch.setattr(doctor, "_outbound", lambda: Check("outbound", True, ""))
    portal.clock_offset = offset
    checks = found(portal_url=portal.url)
    assert checks["portal"].ok
    assert checks["clock"].ok is ok
    if offset > 60:
        assert "behind the portal's" in checks["clock"].message


def test_a_portal_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_outbound", lambda: Check("outbound", True, ""))
    checks = found(portal_url="http://127.0.0.1:1")
    assert (checks["portal"].ok, "clock" in checks) == (False, False)
