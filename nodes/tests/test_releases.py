"""Versions of the agent at the portal: signed, staged, and never a way around the release key."""

from __future__ import annotations

import dataclasses
import io
import zipfile

import pytest
from django.core.management import CommandError, call_command
from joserfc.jwk import OKPKey

from interchain_site.testing.devices import BENCHMARK, CAPACITY, make_device
from nodes import queries
from nodes.agent import keys, packaging, protocol, signing, update
from nodes.conftest import code
from nodes.errors import BadSignature, Conflict, Invalid
from nodes.models import AgentRelease, Device, ReleaseKey
from nodes.services import enrolment, releases


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path / "data"


@pytest.fixture
def key(tmp_path, db):
    made = keys.create(tmp_path / "release.key")
    releases.trust_first_key(public_key=made.public_x)
    return made


def publish(key, version="0.9.0", percent=100, **changes):
    wheel = packaging.build_archive(version)
    return releases.take(manifest=signing.manifest(wheel, version, key), wheel=wheel, percent=percent)


@pytest.fixture
def updatable(box):
    Device.objects.update(can_update=True, agent_version="0.1.0")
    box.device.refresh_from_db()
    return box


def test_a_device_is_told_of_a_version_and_can_trust_it(agent, updatable, key):
    release = publish(key)
    assert agent.send("desired").json()["release"] == "0.9.0"
    offer = protocol.from_json(protocol.ReleaseOffer, agent.send("release").content)
    _, manifest = update.trusted(offer, key.public_x)
    assert (manifest.version, manifest.sha256) == ("0.9.0", release.sha256)
    wheel = agent.send(f"releases/{manifest.sha256}")
    body = b"".join(wheel.streaming_content)
    assert len(body) == manifest.size
    assert b'__version__ = "0.9.0"' in zipfile.ZipFile(io.BytesIO(body)).read("nodes/agent/__init__.py")
    assert code(agent.send("releases/" + "0" * 64)) == (404, "not_found")


def test_a_device_that_has_it_cannot_or_failed_stays(updatable, key):
    publish(key)
    for changes in ({"agent_version": "0.9.0"}, {"can_update": False}, {"update_failure": "0.9.0 did not come up; …"}):
        before = {name: getattr(updatable.device, name) for name in changes}
        Device.objects.update(**changes)
        assert queries.desired_of(Device.objects.get()).release == "", changes
        Device.objects.update(**before)
    assert queries.desired_of(Device.objects.get()).release == "0.9.0"


def test_a_percentage_chooses_devices_and_keeps_its_choice(cast, key):
    release = publish(key, percent=0)
    fleet = [make_device(cast.owner, f"Box {number}").device for number in range(60)]
    Device.objects.update(can_update=True, agent_version="0.1.0")
    chosen: set[object] = set()
    for percent in (10, 50, 100):
        releases.set_percent(release=release, percent=percent, by=cast.staff)
        now = {device.pk for device in fleet if releases.is_chosen(device, release)}
        assert chosen <= now, "who was chosen stays chosen"
        assert abs(len(now) - 60 * percent / 100) <= 15
        chosen = now
    assert len(chosen) == 60
    releases.set_percent(release=release, percent=0, by=cast.staff)
    assert queries.desired_of(Device.objects.first()).release == ""


def test_only_what_the_key_in_force_signed_is_taken(key, tmp_path):
    stranger = keys.create(tmp_path / "stranger.key")
    wheel = packaging.build_archive("0.9.0")
    with pytest.raises(BadSignature):
        releases.take(manifest=signing.manifest(wheel, "0.9.0", stranger), wheel=wheel)
    with pytest.raises(Invalid):
        releases.take(manifest=signing.manifest(wheel, "0.9.0", key), wheel=wheel + b" ")
    # A statement about something else is no version, whoever signed it.
    with pytest.raises(BadSignature):
        releases.take(manifest=signing.key_change(key, stranger), wheel=wheel)
    assert not AgentRelease.objects.exists()


def test_versions_only_go_up(key):
    publish(key, "0.9.0")
    for version in ("0.9.0", "0.8.9"):
        with pytest.raises(Conflict):
            publish(key, version)
    publish(key, "0.10.0")
    with pytest.raises(Invalid):
        publish(key, "1.0-beta")


def test_a_device_enrolled_under_the_first_key_follows_to_the_third(agent, updatable, key, tmp_path):
    second, third = (keys.create(tmp_path / f"{name}.key") for name in ("second", "third"))
    releases.change_key(statement=signing.key_change(key, second))
    words = signing.key_change(second, third)
    assert releases.change_key(statement=words) == releases.change_key(statement=words)
    with pytest.raises(BadSignature):
        publish(key)
    publish(third)
    offer = protocol.from_json(protocol.ReleaseOffer, agent.send("release").content)
    for trusted in (key, second, third):
        assert update.trusted(offer, trusted.public_x)[0] == third.public_x
    without = dataclasses.replace(offer, keys=offer.keys[1:])
    with pytest.raises(update.UpdateRefused):
        update.trusted(without, key.public_x)
    with pytest.raises(update.UpdateRefused):
        update.trusted(offer, "")


def test_nobody_but_the_key_in_force_names_the_next(key, tmp_path):
    second, thief = (keys.create(tmp_path / f"{name}.key") for name in ("second", "thief"))
    with pytest.raises(BadSignature):
        releases.change_key(statement=signing.key_change(thief, second))
    releases.change_key(statement=signing.key_change(key, second))
    with pytest.raises(BadSignature):
        releases.change_key(statement=signing.key_change(key, thief))
    with pytest.raises(Conflict):
        releases.change_key(statement=signing.key_change(second, key))
    with pytest.raises(Conflict):
        releases.trust_first_key(public_key=thief.public_x)
    assert ReleaseKey.objects.count() == 2


def test_new_devices_install_the_newest_version_for_all(client, cast, key):
    publish(key, "0.9.0", percent=100)
    publish(key, "0.9.1", percent=20)
    answer = client.get("/install/agent.whl")
    assert "interchain_node-0.9.0-py3" in answer.headers["Content-Disposition"]
    assert "interchain_node-0.9.0.dist-info/METADATA" in zipfile.ZipFile(io.BytesIO(answer.content)).namelist()


def test_enrolment_hands_the_release_key_over(client, cast, key):
    _, token = enrolment.create_device(owner=cast.owner, name="New", region="us")
    x = str(OKPKey.generate_key("Ed25519").as_dict(private=False)["x"])
    message = protocol.Enrolment(token, x, "0.1.0", CAPACITY, BENCHMARK, "127.0.0.1")
    answer = client.post("/api/node/v1/enrol", protocol.to_json(message), content_type="application/json")
    assert answer.json()["release_key"] == key.public_x


def test_the_command_signs_takes_and_rolls_out(tmp_path, db, capsys):
    first, second, out = tmp_path / "a.key", tmp_path / "b.key", tmp_path / "out"
    call_command("release_agent", "key", key=first)
    call_command("release_agent", "key", key=first)
    call_command("release_agent", "key", key=second, old=first)
    call_command("release_agent", "sign", key=second, out=out, agent_version="0.9.0")
    call_command("release_agent", "take", str(out))
    call_command("release_agent", "rollout", "0.9.0", "25")
    assert AgentRelease.objects.get().percent == 25
    with pytest.raises(CommandError, match="as new as this"):
        call_command("release_agent", "take", str(out))
    assert (first.stat().st_mode & 0o077, "PRIVATE" in capsys.readouterr().out) == (0, False)


def test_staff_change_the_percentage_and_nothing_else(client, cast, key):
    release = publish(key, percent=0)
    client.force_login(cast.staff)
    url = f"/admin/nodes/agentrelease/{release.pk}/change/"
    assert client.get("/admin/nodes/agentrelease/").status_code == 200
    client.post(url, {"percent": "30", "version": "6.6.6"})
    release.refresh_from_db()
    assert (release.percent, release.version) == (30, "0.9.0")
    assert "less than or equal to 100" in client.post(url, {"percent": "101"}).text
