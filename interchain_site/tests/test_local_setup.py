"""Setting up a site on one machine: steps, ports, the .env, and one clear line for what is in the way."""

from __future__ import annotations

import os
import socket
import stat
import sys

import pytest

from interchain_site.local import chosen_tests, engines, environment, ports, steps, suites, system
from interchain_site.local.images import APPS
from interchain_site.local.site import Site
from interchain_site.local.steps import ROOT, Stop
from interchain_site.local.web import _Reader


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_step_is_done_once_per_content(tmp_path):
    done = []
    source, stamp = tmp_path / "requirements.txt", tmp_path / "stamp"
    for text in ("a", "a", "b"):
        source.write_text(text)
        steps.once(stamp, steps.fingerprint([source]), lambda: done.append(source.read_text()))
    assert done == ["a", "b"]


def test_a_step_that_failed_is_done_again(tmp_path):
    def fail():
        raise Stop("no network")

    with pytest.raises(Stop):
        steps.once(tmp_path / "stamp", "x", fail)
    assert not (tmp_path / "stamp").exists()


def test_a_failing_program_is_one_line_and_its_last_words():
    with pytest.raises(Stop, match=r"The packages cannot be fetched.\n    no route"):
        steps.command(["sh", "-c", "echo no route >&2; exit 1"], failure="The packages cannot be fetched")


def test_a_program_that_hangs_is_ended_and_says_where():
    code = "import faulthandler, time; faulthandler.enable(); time.sleep(60)"
    with pytest.raises(Stop, match=r"It hangs: no end after 1 s(.|\n)*File"):
        steps.command([sys.executable, "-c", code], failure="It hangs", timeout_seconds=1)


def test_a_taken_port_is_named_with_its_owner(tmp_path, taken):
    with pytest.raises(Stop, match=rf"Port {taken} \(the web's\) is in use by .*process {os.getpid()}.*--port N"):
        ports.choose(tmp_path / "ports.json", web=taken)


def test_ports_stay_the_same_at_the_next_start(tmp_path):
    first = ports.choose(tmp_path / "ports.json", web=0)
    assert ports.choose(tmp_path / "ports.json", web=0) == first
    assert ports.choose(tmp_path / "ports.json") == first


def test_an_inner_port_that_is_taken_moves_away(tmp_path):
    first = ports.choose(tmp_path / "ports.json", web=0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first.valkey))
        listener.listen()
        assert ports.choose(tmp_path / "ports.json", web=0).valkey != first.valkey


def test_secrets_are_kept_private_and_addresses_renewed(tmp_path):
    path = tmp_path / ".env"
    first = environment.write(path, data=tmp_path, ports=ports.Ports(1, 2, 3, 4, 5, 6, 7), settings={})
    again = environment.write(
        path, data=tmp_path, ports=ports.Ports(1, 2, 3, 9, 5, 6, 7), settings={"EPOCH_SECONDS": "7"}
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again["SECRET_KEY"] == first["SECRET_KEY"]
    assert again["REDIS_URL"].endswith(":9/0")
    assert environment.read(path)["EPOCH_SECONDS"] == "7"


def test_two_starts_in_one_folder_are_refused(tmp_path):
    first, second = Site(tmp_path, port=0), Site(tmp_path, port=0)
    first.open()
    try:
        with pytest.raises(Stop, match=r"runs in .* already"):
            second.open()
    finally:
        first.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make another's folder")
def test_another_persons_folder_is_refused(tmp_path):
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(Stop, match="belongs to user 12345"):
        Site(tmp_path, port=0).open()


def test_missing_packages_give_the_one_command_to_type(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name, path=None: "/usr/bin/apt-get" if name == "apt-get" else None)
    with pytest.raises(Stop, match=r"sudo apt-get install --no-install-recommends docker.io iptables"):
        system.install(system.DOCKER)


@pytest.mark.skipif(sys.platform == "darwin", reason="there the Engine is inside Docker Desktop")
def test_a_docker_client_alone_is_not_an_engine(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/bin/{name}" if name != "dockerd" else None)
    assert [package.name for package in system.DOCKER if not package.present()] == ["docker.io"]


def test_every_demo_app_has_a_dockerfile_a_readme_and_its_port():
    for app in APPS:
        folder = ROOT / "interapps" / app.slug
        assert f"EXPOSE {app.port}" in (folder / "Dockerfile").read_text()
        assert app.volume_path in (folder / "README.md").read_text()


def test_a_form_is_read_as_a_browser_would_send_it():
    reader = _Reader()
    reader.feed(
        "<form action=/buy method=post><input type=hidden name=token value=t><input name=amount required>"
        "<select name=region><option value=us>US<option value=eu selected>EU</select><input type=checkbox name=no>"
        "<textarea name=notes>\nhello</textarea><input type=file name=archive><button name=go value=1>Go</button></form>"
    )
    form = reader.forms[0]
    assert form.fields == {"token": "t", "amount": "", "region": "eu", "notes": "hello"}
    assert (form.files, form.required, form.buttons) == ({"archive"}, {"amount"}, [("go", "1")])


KNOWN = {"unit", "docker", "all"}
ONE = "interchain_site/tests/test_core.py"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [([], False), (["unit", "docker"], False), ([ONE], True), ([f"{ONE}::test_x", "-x"], True), (["nodes"], True)],
)
def test_tests_are_told_from_suites(arguments, meant):
    assert chosen_tests.are_meant(arguments, KNOWN) is meant


@pytest.mark.parametrize(
    ("arguments", "said"), [(["nodes/nowhere.py::x"], "no file nodes/nowhere.py"), (["unit", ONE], "not both")]
)
def test_a_test_that_is_not_there_is_named(arguments, said):
    with pytest.raises(Stop, match=said):
        chosen_tests.are_meant(arguments, KNOWN)


@pytest.mark.slow
def test_a_single_test_runs_with_the_environment_it_needs(monkeypatch, capfd, tmp_path):
    """From any folder, and though the shell has none of the settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "DEBUG"):
        monkeypatch.delenv(name, raising=False)
    name = "test_a_step_that_failed_is_done_again"
    assert suites.main([f"interchain_site/tests/test_local_setup.py::{name}", "-p", "no:cacheprovider"]) == 0
    assert "1 passed" in capfd.readouterr().out


def test_newer_engines_are_tried_only_when_asked_for_by_name(monkeypatch):
    ran = []
    monkeypatch.setattr(suites, "prepare", lambda chosen: None)
    monkeypatch.setattr(suites, "_run", lambda suite: ran.append(suite.name) or suites.Outcome(suite.name, passed=1))
    assert suites.main(["all"]) == 0
    assert not {"engines", "fast"} & set(ran)
    assert suites.main(["engines"]) == 0
    assert ran[-1] == "engines"
    assert all((ROOT / test).exists() for test in engines.TESTS)
    with pytest.raises(Stop, match="28-as-29"):
        engines.main(["29"])
