"""A bill that rests on readings of before and after the device's key changed is proven all the same; a made-up earlier key is not."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from interchain_verify import bill, documents
from interchain_verify.report import EXIT_FALSE, EXIT_PROVEN
from joserfc.jwk import OKPKey

from interchain_site.testing.devices import FakeDevice
from marketplace.services import charging
from marketplace.tests.test_bill_proofs import HOUR, charged, line, look, settled_file  # noqa: F401  (fixture)
from nodes.agent import protocol
from nodes.models import Device
from nodes.services import device_keys


def x(device: FakeDevice) -> str:
    return str(device.key.as_dict(private=False)["x"])


def named(old: FakeDevice, new: FakeDevice) -> str:
    bare = protocol.KeyChange(old.id, x(new))
    return old.sign(protocol.to_json(dataclasses.replace(bare, proof=new.sign(protocol.to_json(bare)))))


@pytest.fixture
def changed(charged, device):  # noqa: F811
    """A fourth line: uptime and transfer measured under a new key, compute still as the old one signed it."""
    fresh = FakeDevice(device.device, OKPKey.generate_key("Ed25519"))
    device_keys.change(device=device.device, jws=named(device, fresh))
    fresh = FakeDevice(Device.objects.get(pk=device.device.pk), fresh.key)
    fresh.measures(charged, uptime=HOUR + HOUR // 2 + 5, transfer=3 * 10**9)
    charging.charge_new_readings()
    return fresh


def test_a_line_across_a_key_change_is_proven(changed, device, cast):
    proof, node = settled_file(line(3, cast.publisher), cast.publisher)
    assert proof["statement"]["device_key"] == x(changed)
    report = look(proof, node)
    assert report.exit_code == EXIT_PROVEN, report.text()
    assert any(x(device) in words for words in report.trusted)


def test_a_line_of_before_the_change_is_as_it_was(changed, cast):
    proof, node = settled_file(line(0, cast.publisher), cast.publisher)
    assert proof["key_changes"] == []
    assert look(proof, node).exit_code == EXIT_PROVEN


def test_a_key_that_did_not_name_the_next_is_refused(changed, device, cast):
    proof, node = settled_file(line(3, cast.publisher), cast.publisher)
    stranger = FakeDevice(device.device, OKPKey.generate_key("Ed25519"))
    bare = protocol.KeyChange(device.id, x(changed))
    unproven = stranger.sign(protocol.to_json(dataclasses.replace(bare, proof=stranger.sign(protocol.to_json(bare)))))
    for old, statement in (
        (x(stranger), proof["key_changes"][0]["statement"]),
        (x(stranger), named(stranger, device)),
        (x(stranger), unproven),
    ):
        lie = copy.deepcopy(proof)
        lie["key_changes"] = [{"old_key": old, "statement": statement}]
        assert look(lie, node).exit_code == EXIT_FALSE
    lie = copy.deepcopy(proof)
    lie["key_changes"] = []
    assert look(lie, node).exit_code == EXIT_FALSE


def test_a_file_cannot_keep_the_program_busy(charged, cast):  # noqa: F811
    proof, node = settled_file(line(0, cast.publisher), cast.publisher)
    proof["batches"] |= {str(number): "a.b.c" for number in range(bill.MOST_BATCHES + 1)}
    with pytest.raises(documents.Unreadable, match="more signed batches"):
        look(proof, node)
