"""Keys of encrypted volumes: whom they are given, when they go, and who is asked to hold data that must be encrypted."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from django.db import connection

from interchain_site.testing.devices import FakeDevice, make_device, make_workload
from nodes import data_queries, queries
from nodes.agent.protocol import ENCRYPTION_CHECK, Observed, Workload
from nodes.errors import NoDevice
from nodes.models import Device, Lease, VolumeKey
from nodes.services import leases, placement, receipts

pytestmark = pytest.mark.redis


def encrypts(box: FakeDevice, *, ok: bool = True) -> FakeDevice:
    check = {"name": ENCRYPTION_CHECK, "ok": ok, "message": "tried", "mend": "", "needed": False}
    Device.objects.filter(pk=box.device.pk).update(checks=[check])
    box.device.refresh_from_db()
    return box


def opened(workload: Workload) -> Lease:
    return placement.open_lease(workload=workload, by=None)


def key_given(box: FakeDevice) -> str:
    (only,) = queries.desired_of(box.device).leases
    return only.volume_key


def test_a_device_that_encrypts_is_given_a_key_of_its_own_for_each_workload(box):
    encrypts(box)
    opened(make_workload(volume_path="/data"))
    key = key_given(box)
    assert len(base64.urlsafe_b64decode(key)) == 64
    assert key == key_given(box)
    assert key not in repr(queries.desired_of(box.device))
    with connection.cursor() as cursor:
        cursor.execute("select key_encrypted from nodes_volumekey")
        assert key not in str(cursor.fetchall())


@pytest.mark.parametrize(("volume", "ok"), [("/data", False), ("", True)])
def test_where_it_cannot_or_there_is_nothing_to_keep_there_is_none(box, volume, ok):
    encrypts(box, ok=ok)
    opened(make_workload(volume_path=volume))
    assert key_given(box) == ""
    assert not VolumeKey.objects.exists()


def test_the_key_goes_with_the_data_and_not_before(box):
    encrypts(box)
    workload = make_workload(volume_path="/data")
    first = opened(workload)
    box.runs(first)
    key = key_given(box)
    second = placement.replace_workload(lease_id=first.pk, workload=workload, by=None)
    assert {lease.volume_key for lease in queries.desired_of(box.device).leases} == {key}
    box.says(first, Observed.STOPPED)
    box.runs(second)
    leases.close_lease(lease_id=second.pk, by=None)
    box.says(second, Observed.STOPPED)
    leases.wipe_lease(lease_id=second.pk, by=None)
    box.wipes(second)
    assert VolumeKey.objects.exists()  # the first lease's data is the same volume
    receipts.take(device=box.device, jws=box.receipt(first))
    assert not VolumeKey.objects.exists()


def test_what_must_be_encrypted_goes_only_where_it_is(box, cast):
    wish = replace(make_workload(volume_path="/data"), encrypted=True)
    with pytest.raises(NoDevice, match="keeps apps' data encrypted"):
        opened(wish)
    other = encrypts(make_device(cast.owner, "Other"))
    assert opened(wish).device == other.device


def test_pages_say_what_the_device_says_of_the_lease(box):
    encrypts(box)
    lease = opened(make_workload(volume_path="/data"))
    assert data_queries.at_rest(lease.workload_id) is None
    box.runs(lease)
    assert data_queries.at_rest(lease.workload_id) == data_queries.AtRest(encrypted=False)
    box.says(lease, Observed.RUNNING, host_port=40_000, encrypted=True)
    assert data_queries.at_rest(lease.workload_id) == data_queries.AtRest(encrypted=True)


@pytest.mark.parametrize("ok", [True, False])
def test_the_devices_page_shows_it(client, cast, box, ok):
    encrypts(box, ok=ok)
    client.force_login(cast.owner)
    text = client.get(f"/devices/{box.device.pk}/").text
    assert ("encrypted on the disk with keys" in text) is ok
