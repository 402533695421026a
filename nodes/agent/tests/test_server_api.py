"""What the agent makes of a portal's answers, over real HTTP."""

from __future__ import annotations

import ast
import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from nodes.agent import keys, packaging, protocol
from nodes.agent.errors import Cancelled, PortalRefused, PortalUnreachable, SetupError
from nodes.agent.protocol import Benchmark, Capacity, Enrolment, Report
from nodes.agent.server_api import Portal, patiently
from nodes.agent.tests.portal import FakePortal


@pytest.fixture
def enrolled(portal: FakePortal, tmp_path: Path) -> Portal:
    key = keys.create(tmp_path / "key")
    Portal(portal.url).enrol(enrolment(key))
    return Portal(portal.url, device_id=portal.device_id, key=key)


def enrolment(key: keys.DeviceKey, token: str = "good") -> Enrolment:
    return Enrolment(token, key.public_x, "0", Capacity(1, 1, 1), Benchmark(1))


def test_enrolment_refused_says_why(portal: FakePortal, tmp_path: Path) -> None:
    with pytest.raises(PortalRefused, match="not one of ours") as caught:
        Portal(portal.url).enrol(enrolment(keys.create(tmp_path / "key"), token="bad"))
    assert (caught.value.code, caught.value.permanent) == ("token_unknown", True)


def test_desired_is_fetched_once_for_each_change(enrolled: Portal, portal: FakePortal) -> None:
    assert enrolled.desired() == portal.desired
    assert enrolled.desired() is None
    portal.want()
    assert enrolled.desired() == portal.desired


def test_each_request_has_a_token_of_its_own(enrolled: Portal, portal: FakePortal) -> None:
    for _ in range(3):
        enrolled.report(Report())
    assert len(portal.tokens) == 3
    assert portal.rejected == []


@pytest.mark.parametrize("offset", [-7200, 86_400])
def test_a_wrong_clock_is_corrected_by_the_portals(enrolled: Portal, portal: FakePortal, offset: int) -> None:
    portal.clock_offset = offset
    enrolled.report(Report())
    assert len(portal.rejected) == 1
    enrolled.report(Report())
    assert len(portal.rejected) == 1, "learnt once"
    assert abs(enrolled.now() - time.time() - offset) < 5


def test_a_fault_of_the_portal_may_pass_a_refusal_may_not(enrolled: Portal, portal: FakePortal) -> None:
    for status, permanent in ((500, False), (503, False), (429, False), (400, True), (403, True)):
        portal.fail_with = status
        with pytest.raises((PortalUnreachable, PortalRefused)) as caught:
            enrolled.report(Report())
        assert caught.value.permanent is permanent


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(PortalUnreachable):
        Portal("http://127.0.0.1:9", device_id="d", key=keys.create(tmp_path / "key")).desired()


def test_a_connection_the_portal_closed_is_opened_anew(enrolled: Portal, portal: FakePortal) -> None:
    enrolled.report(Report())
    enrolled._connection.sock.shutdown(2)
    enrolled.report(Report())
    assert len(portal.reports) == 2


def test_something_else_answers(portal: FakePortal, tmp_path: Path) -> None:
    portal.answer = lambda *_: (200, b"<html>a login page</html>", {})  # type: ignore[method-assign]
    with pytest.raises(PortalUnreachable, match="Is the address right"):
        Portal(portal.url).enrol(enrolment(keys.create(tmp_path / "key")))


def test_download(enrolled: Portal, portal: FakePortal, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    digest = hashlib.sha256(data).hexdigest()
    portal.archives[digest] = data
    enrolled.download(digest, tmp_path / "got", most=len(data), cancelled=threading.Event())
    assert (tmp_path / "got").read_bytes() == data
    with pytest.raises(PortalUnreachable, match="longer than"):
        enrolled.download(digest, tmp_path / "got", most=len(data) - 1, cancelled=threading.Event())
    changed_its_mind = threading.Event()
    changed_its_mind.set()
    with pytest.raises(Cancelled):
        enrolled.download(digest, tmp_path / "got", most=len(data), cancelled=changed_its_mind)
    with pytest.raises(PortalRefused):
        enrolled.download("0" * 64, tmp_path / "got", most=1, cancelled=threading.Event())


def test_patience_has_an_end_and_knows_when_it_is_no_use() -> None:
    calls: list[int] = []

    def fails(error: Exception) -> None:
        calls.append(1)
        raise error

    with pytest.raises(PortalUnreachable):
        patiently(lambda: fails(PortalUnreachable("down")), attempts=3, first_pause_seconds=0.001)
    assert len(calls) == 3
    with pytest.raises(PortalRefused):
        patiently(lambda: fails(PortalRefused(404, "c", "m")), first_pause_seconds=0.001)
    assert len(calls) == 4


def test_a_key_others_may_read_is_refused(tmp_path: Path) -> None:
    keys.create(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(SetupError, match="chmod 600"):
        keys.load(tmp_path / "key")
    with pytest.raises(SetupError, match="Enrol"):
        keys.load(tmp_path / "none")


def test_the_agent_is_python_3_9() -> None:
    folder = Path(packaging.__file__).parent
    for path in folder.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_the_archive_is_a_wheel_of_the_agent_alone() -> None:
    import io
    import zipfile

    names = zipfile.ZipFile(io.BytesIO(packaging.build_archive())).namelist()
    assert f"nodes/agent/{Path(protocol.__file__).name}" in names
    assert not [name for name in names if "tests" in name or name.endswith((".key", ".json"))]
    packaging.build_archive.cache_clear()
    assert packaging.build_archive() == packaging.build_archive()


def test_the_install_script_is_plain_sh_and_quotes_what_it_is_given() -> None:
    import subprocess

    script = Path(packaging.__file__).with_name("install.sh")
    subprocess.run(["sh", "-n", str(script)], check=True)
    text = script.read_text()
    assert "__PORTAL_URL__" in text
    assert "__TOKEN__" in text
