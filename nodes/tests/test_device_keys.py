"""A device's key changes: the old names the new, both are good for a week, and no key serves twice."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.utils import timezone
from joserfc.jwk import OKPKey

from interchain_site.testing.devices import FakeDevice, make_device, make_workload
from nodes import evidence
from nodes.agent import protocol
from nodes.conftest import code
from nodes.errors import BadSignature, NotFound
from nodes.models import Device, DeviceKey
from nodes.services import device_keys, devices, placement


@pytest.fixture
def fresh(box) -> FakeDevice:
    """The same device with the key it is about to have."""
    return FakeDevice(box.device, OKPKey.generate_key("Ed25519"))


def x(device: FakeDevice) -> str:
    return str(device.key.as_dict(private=False)["x"])


def statement(old: FakeDevice, new: FakeDevice, **changes: str) -> str:
    bare = protocol.KeyChange(old.id, x(new))
    signed = dataclasses.replace(bare, proof=new.sign(protocol.to_json(bare)))
    return old.sign(protocol.to_json(dataclasses.replace(signed, **changes)))


def test_both_keys_are_good_for_a_while_and_then_the_new_one_only(agent, box, fresh):
    lease = placement.open_lease(workload=make_workload(), by=None)
    assert agent.send("key", statement(box, fresh)).status_code == 204
    for signer in (box, fresh):
        assert agent.send("desired", token=signer.jwt()).status_code == 200
        batch = signer.batch(signer.reading(lease, protocol.Meter.TRANSFER, 1000))
        assert agent.send("readings", batch, token=signer.jwt()).status_code == 200
    Device.objects.update(previous_key_until=timezone.now() - timedelta(seconds=1))
    assert code(agent.send("desired", token=box.jwt())) == (401, "unauthenticated")
    late = box.batch(box.reading(lease, protocol.Meter.TRANSFER, 2000))
    assert code(agent.send("readings", late, token=fresh.jwt())) == (400, "bad_signature")
    assert agent.send("desired", token=fresh.jwt()).status_code == 200


def test_the_same_statement_twice_changes_nothing(agent, box, fresh):
    words = statement(box, fresh)
    assert agent.send("key", words).status_code == 204
    assert agent.send("key", words).status_code == 204
    assert [key.public_key for key in DeviceKey.objects.all()] == [x(box), x(fresh)]
    assert evidence.key_changes(box.id) == [words]


def test_a_replaced_key_names_no_other(agent, box, fresh):
    agent.send("key", statement(box, fresh))
    third = FakeDevice(box.device, OKPKey.generate_key("Ed25519"))
    assert code(agent.send("key", statement(box, third), token=fresh.jwt())) == (400, "bad_signature")
    assert agent.send("key", statement(fresh, third), token=fresh.jwt()).status_code == 204


@pytest.mark.parametrize("changes", [{"new_key": "short"}, {"device_id": "somebody"}, {"proof": "a.b.c"}])
def test_a_statement_must_be_whole(agent, box, fresh, changes):
    assert agent.send("key", statement(box, fresh, **changes)).status_code == 400
    assert Device.objects.get().public_key == x(box)


def test_a_key_nobody_holds_is_refused(box, fresh):
    """The proof is of another key than the one named: whoever named it does not have it."""
    other = FakeDevice(box.device, OKPKey.generate_key("Ed25519"))
    bare = protocol.KeyChange(box.id, x(fresh))
    stolen = dataclasses.replace(bare, proof=other.sign(protocol.to_json(bare)))
    with pytest.raises(BadSignature):
        device_keys.change(device=box.device, jws=box.sign(protocol.to_json(stolen)))


def test_no_key_serves_twice(agent, box, cast, fresh):
    other = make_device(cast.publisher, "Other")
    agent.send("key", statement(box, fresh))
    # Neither a key somebody has, nor one that somebody had.
    for taken in (other, box):
        words = statement(fresh, FakeDevice(box.device, taken.key))
        assert code(agent.send("key", words, token=fresh.jwt())) == (409, "conflict")


def test_a_removed_device_changes_no_key_and_neither_key_opens_anything(agent, box, fresh, cast):
    agent.send("key", statement(box, fresh))
    devices.revoke_device(device=Device.objects.get(), by=cast.owner)
    for signer in (box, fresh):
        assert code(agent.send("report", "{}", token=signer.jwt())) == (403, "device_revoked")
    third = FakeDevice(box.device, OKPKey.generate_key("Ed25519"))
    assert code(agent.send("key", statement(fresh, third), token=fresh.jwt())) == (403, "device_revoked")


def test_the_owner_asks_for_a_new_key_and_nobody_else(client, agent, box, fresh, cast):
    client.force_login(cast.owner)
    assert "new key" in client.post(f"/devices/{box.id}/key/", follow=True).text
    assert agent.send("desired").json()["new_key"] is True
    agent.send("key", statement(box, fresh))
    assert agent.send("desired", token=fresh.jwt()).json()["new_key"] is False
    with pytest.raises(NotFound):
        device_keys.want_new(device=box.device, by=cast.stranger)
