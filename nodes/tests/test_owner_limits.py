"""An owner's limits at the portal: set on the page or by the API, told by the device, kept by placement."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
import time_machine
from rest_framework.test import APIClient

from interchain_site.testing.devices import GIGABYTE, make_device, make_workload
from nodes import queries
from nodes.agent.protocol import (
    Hours,
    Image,
    Limits,
    Mode,
    Observed,
    Profile,
    Reason,
    Report,
    Status,
    from_json,
    to_json,
)
from nodes.errors import Invalid, NoDevice, NotFound
from nodes.models import Device, Lease
from nodes.services import devices, leases, owner_limits, placement
from nodes.states import DeviceState

MONDAY_10 = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@pytest.fixture
def limit(cast, box):
    def set_limits(**changes):
        owner_limits.set_limits(device=box.device, limits=Limits(**changes), by=cast.owner)
        box.device.refresh_from_db()

    return set_limits


def tell(box, **changes):
    owner_limits.hear(device=box.device, report=Report(**changes))
    box.device.refresh_from_db()


def why_not(**changes) -> str:
    return placement.can_place(workload=make_workload(**changes))


def test_amounts_bound_what_is_placed(limit, box):
    limit(memory_bytes=GIGABYTE, cpu_millis=1000)
    assert (box.device.memory_bytes, box.device.cpu_millis) == (GIGABYTE, 1000)
    assert why_not(memory_bytes=GIGABYTE) == ""
    assert "memory" in why_not(memory_bytes=GIGABYTE + 1)
    limit()
    assert box.device.memory_bytes == 8 * GIGABYTE


def test_the_stricter_of_page_and_device_wins_either_way(limit, box):
    limit(memory_bytes=3 * GIGABYTE)
    tell(box, limits=Limits(memory_bytes=2 * GIGABYTE))
    assert box.device.memory_bytes == 2 * GIGABYTE
    limit(memory_bytes=GIGABYTE)
    assert box.device.memory_bytes == GIGABYTE


@pytest.mark.parametrize(
    ("limits", "workload", "says"),
    [
        ({"profiles": ("restricted",)}, {"profile": Profile.BASELINE}, "baseline"),
        ({"outbound": False}, {"outbound": True}, "call out"),
        ({"blocked_images": ("xmrig",)}, {"image": Image("docker.io/bad/xmrig:6@sha256:" + "a" * 64)}, "this image"),
        ({"blocked_images": ("evil.example/*",)}, {"image": Image("evil.example/x@sha256:" + "a" * 64)}, "this image"),
        ({"blocked_images": ("b" * 64,)}, {"image": Image(archive_sha256="b" * 64)}, "this image"),
    ],
)
@pytest.mark.parametrize("side", ["page", "device"])
def test_what_is_not_accepted_is_not_placed(limit, box, limits, workload, says, side):
    assert why_not(**workload) == ""
    if side == "page":
        limit(**limits)
    else:
        tell(box, limits=Limits(**limits))
    assert says in why_not(**workload)
    # Whatever else is asked for still comes.
    assert why_not(profile=Profile.RESTRICTED) == ""


def test_hours_are_the_owners_own(limit, box):
    limit(hours=(Hours(0, 9 * 60, 17 * 60),), time_zone="America/New_York")
    with time_machine.travel(MONDAY_10, tick=False):
        assert "Opens Monday 09:00" in why_not()
    with time_machine.travel(MONDAY_10.replace(hour=15), tick=False):
        assert why_not() == ""
    with time_machine.travel(MONDAY_10.replace(hour=21, minute=55), tick=False):
        assert "hours end at 17:00" in why_not()


def test_before_closing_time_apps_move_to_another_device(limit, box, cast):
    with time_machine.travel(MONDAY_10, tick=False):
        lease = placement.open_lease(workload=make_workload(), by=None)
        box.runs(lease)
        other = make_device(cast.publisher, "Other")
        limit(hours=(Hours(0, 9 * 60, 17 * 60),))
        owner_limits.sweep()
        lease.refresh_from_db()
        assert lease.state == "running"
    with time_machine.travel(MONDAY_10.replace(hour=16, minute=51), tick=False):
        owner_limits.sweep()
        owner_limits.sweep()
    lease.refresh_from_db()
    assert lease.state == "running", "until the next one is ready"
    newest = Lease.objects.get(workload_id=lease.workload_id, is_newest=True)
    assert (newest.device, newest.generation, newest.replaces) == (other.device, 2, lease)


def test_used_up_traffic_closes_the_device_until_next_month(limit, box):
    limit(transfer_bytes_per_month=100 * GIGABYTE)
    with time_machine.travel(MONDAY_10, tick=False):
        tell(box, load={"transfer_month_bytes": 97 * GIGABYTE})
        assert why_not() == ""
        tell(box, load={"transfer_month_bytes": 98 * GIGABYTE})
        assert "nearly used up" in why_not()
        tell(box, load={"transfer_month_bytes": 101 * GIGABYTE})
        assert "used up" in why_not()
    with time_machine.travel(datetime(2026, 12, 1, 0, 1, tzinfo=UTC), tick=False):
        assert why_not() == ""


def test_a_device_that_says_it_drains_is_emptied_and_given_nothing(box, cast):
    lease = placement.open_lease(workload=make_workload(), by=None)
    kept = placement.open_lease(workload=make_workload("keeps", volume_path="/data"), by=None)
    for each in (lease, kept):
        box.runs(each)
    other = make_device(cast.publisher, "Other")
    tell(box, mode=Mode.DRAINING, mode_reason="Its hours end at 17:00.")
    for each, state in ((lease, "running"), (kept, "draining")):
        each.refresh_from_db()
        assert each.state == state
    assert Lease.objects.get(workload_id=lease.workload_id, is_newest=True).device == other.device
    box.says(kept, Observed.STOPPED)
    # Its data is on the device: it waits for the copy rather than start with none elsewhere.
    with pytest.raises(NoDevice, match="being copied"):
        placement.open_lease(workload=kept.workload, by=None)
    tell(box, mode=Mode.OPEN)
    assert placement.open_lease(workload=kept.workload, by=None).device == box.device


def test_lending_less_moves_the_youngest_until_the_rest_fits(limit, box, cast):
    old = placement.open_lease(workload=make_workload("old", memory_bytes=2 * GIGABYTE), by=None)
    young = placement.open_lease(workload=make_workload("young", memory_bytes=2 * GIGABYTE), by=None)
    box.runs(old)
    box.runs(young, 40_001)
    limit(memory_bytes=3 * GIGABYTE)
    old.refresh_from_db()
    young.refresh_from_db()
    assert (old.state, young.state) == ("running", "draining")
    assert box.device.memory_bytes == 4 * GIGABYTE, "nothing is free until the young one has stopped"
    box.says(young, Observed.STOPPED)
    box.device.refresh_from_db()
    assert box.device.memory_bytes == 3 * GIGABYTE


def test_what_a_device_declines_is_not_offered_to_it_again_at_once(box):
    workload = make_workload()
    lease = placement.open_lease(workload=workload, by=None)
    box.says(lease, Observed.FAILED, reason=Reason.DECLINED, message="The device's owner does not accept this image.")
    assert (lease.state, lease.reason) == ("stopped", "declined")
    with pytest.raises(NoDevice):
        placement.open_lease(workload=workload, by=None)
    Lease.objects.update(stopped_at=MONDAY_10.replace(year=2020))
    assert placement.open_lease(workload=workload, by=None).generation == 2


def test_drain_from_the_browser_empties_and_resume_opens(client, cast, box):
    client.force_login(cast.owner)
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    assert "moves away" in client.post(f"/devices/{box.id}/drain/", follow=True).text
    lease.refresh_from_db()
    box.device.refresh_from_db()
    assert (lease.state, box.device.state) == ("draining", DeviceState.DRAINING)
    assert queries.desired_of(box.device).mode is Mode.DRAINING
    assert why_not() != ""
    client.post(f"/devices/{box.id}/resume/")
    assert why_not() == ""


def test_the_page_takes_and_shows_limits(client, cast, box):
    client.force_login(cast.owner)
    url = f"/devices/{box.id}/limits/"
    form = {"cores": "1.5", "memory_gb": "2", "transfer_gb": "500", "time_zone": "Europe/Berlin", "drain_minutes": "15"}
    form |= {
        "profiles": ["restricted"],
        "opens_0": "22:00",
        "closes_0": "06:00",
        "opens_5": "00:00",
        "closes_5": "00:00",
    }
    form |= {"blocked_images": "xmrig\n\n"}
    assert client.post(url, form).status_code == 302
    box.device.refresh_from_db()
    limits = queries.desired_of(box.device).limits
    hours = (Hours(0, 1320, 360), Hours(5, 0, 1440))
    wanted = Limits(
        1500, 2 * GIGABYTE, 0, 500 * GIGABYTE, hours, "Europe/Berlin", 15, ("restricted",), False, ("xmrig",)
    )
    assert limits == wanted
    page = client.get(url).text
    for value in ('value="1.5"', 'value="22:00"', 'value="500"', "xmrig"):
        assert value in page
    detail = client.get(f"/devices/{box.id}/").text
    assert "Monday 22:00–06:00, Saturday 00:00–24:00 (Europe/Berlin)" in detail
    assert "give both times" in client.post(url, form | {"closes_0": ""}).text
    assert "This field is required" in client.post(url, form | {"profiles": []}).text


def test_the_api_reads_and_sets_limits_and_mode(cast, box):
    api, stranger = APIClient(), APIClient()
    api.force_authenticate(cast.owner)
    stranger.force_authenticate(cast.stranger)
    url = f"/api/v1/devices/{box.id}"
    assert api.get(f"{url}/limits").data["profiles"] == ["restricted", "baseline"]
    set_ = api.put(f"{url}/limits", {"memory_bytes": GIGABYTE, "hours": [{"day": 6}]}, format="json")
    assert (set_.status_code, set_.data["hours"]) == (200, [{"day": 6, "opens": 0, "closes": 1440}])
    assert api.put(f"{url}/limits", {"time_zone": "Mars/Base"}, format="json").data["fields"].keys() == {"time_zone"}
    assert api.put(f"{url}/mode", {"mode": "draining"}, format="json").data["state"] == "draining"
    assert api.put(f"{url}/mode", {"mode": "open"}, format="json").data["state"] == "online"
    assert api.put(f"{url}/mode", {"mode": "closed"}, format="json").status_code == 400
    for path, body in (("limits", {}), ("mode", {"mode": "paused"})):
        assert stranger.put(f"{url}/{path}", body, format="json").status_code == 404


def test_a_stranger_sets_nothing_and_nonsense_is_refused(cast, box):
    with pytest.raises(NotFound):
        owner_limits.set_limits(device=box.device, limits=Limits(), by=cast.stranger)
    with pytest.raises(Invalid):
        owner_limits.set_limits(device=box.device, limits=Limits(time_zone="Nowhere"), by=cast.owner)


def test_a_report_that_says_nothing_new_writes_nothing(box, django_assert_num_queries):
    tell(box, limits=Limits(cpu_millis=500))
    with django_assert_num_queries(0):
        owner_limits.hear(device=box.device, report=Report(limits=Limits(cpu_millis=500)))


def test_typed_at_the_device_the_portals_switch_follows(agent, box):
    for mode, state in ((Mode.PAUSED, "paused"), (Mode.DRAINING, "draining"), (Mode.OPEN, "online")):
        assert agent.send("mode", f'{{"mode": "{mode.value}"}}').status_code == 204
        assert Device.objects.get().state == state


def test_limits_survive_the_wire(box):
    limits = Limits(1, 2, 3, 4, (Hours(1, 2, 3),), "Asia/Tokyo", 5, ("baseline",), False, ("x",))
    report = Report((Status("x", 1, Observed.RUNNING),), limits=limits, mode=Mode.CLOSED)
    assert from_json(Report, to_json(report)) == report
    assert dataclasses.replace(limits) == limits


def test_a_removed_device_is_refused_and_its_apps_are_elsewhere(agent, box, cast):
    lease = placement.open_lease(workload=make_workload(), by=None)
    box.runs(lease)
    devices.revoke_device(device=box.device, by=cast.owner)
    answer = agent.send("report", "{}")
    assert (answer.status_code, answer.json()["code"]) == (403, "device_revoked")
    lease.refresh_from_db()
    assert (lease.state, lease.reason) == ("stopped", "")
    other = make_device(cast.publisher, "Other")
    assert placement.open_lease(workload=lease.workload, by=None).device == other.device
    leases.settle_removed(lease.pk)
