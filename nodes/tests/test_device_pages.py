"""The owner's pages and API: adding a device, watching it, pausing and removing it. The stranger sees nothing."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from interchain_site.core import redis
from interchain_site.testing.devices import make_device, make_workload
from nodes import queries
from nodes.errors import NotFound
from nodes.models import Device, EnrolmentToken
from nodes.services import devices, enrolment, leases, liveness, placement
from nodes.states import DeviceState


@pytest.fixture
def owner_page(client, cast):
    client.force_login(cast.owner)
    return client


def test_an_empty_list_says_what_to_do(owner_page):
    assert "Add your first device" in owner_page.get("/devices/").text


def test_the_list_says_when_a_device_was_heard_not_when_that_was_saved(owner_page, box):
    Device.objects.update(last_seen_at=timezone.now() - timedelta(hours=3))
    liveness.heard([box.device.pk])
    assert "3 h ago" not in owner_page.get("/devices/").text
    redis.connection().delete(liveness.SEEN_KEY)
    assert "3 h ago" in owner_page.get("/devices/").text


def test_adding_a_device_shows_one_command_once(owner_page, cast, settings):
    page = owner_page.post("/devices/new/", {"name": "Attic", "region": "us"}, follow=True)
    device = Device.objects.get(owner=cast.owner)
    command = re.search(rf"curl -fsSL {settings.PORTAL_URL}/install/([\w-]+) \| sudo sh", page.text)
    assert command
    assert "Waiting for your device" in page.text
    assert command[1] not in str(EnrolmentToken.objects.values())
    owner_page.session.flush()
    again = owner_page.post(f"/devices/{device.pk}/command/", follow=True)
    assert command[1] not in again.text


def test_a_name_is_needed(owner_page):
    assert "This field is required" in owner_page.post("/devices/new/", {"name": " ", "region": "us"}).text
    assert not Device.objects.exists()


def test_the_waiting_page_reloads_when_the_device_has_enrolled(owner_page, box):
    answer = owner_page.get(f"/devices/{box.id}/status/?was=pending")
    assert answer.headers["HX-Refresh"] == "true"
    assert "HX-Refresh" not in owner_page.get(f"/devices/{box.id}/status/?was=online").headers


def test_a_device_page_shows_what_runs_but_not_which_app(owner_page, box):
    lease = placement.open_lease(workload=make_workload("secretname"), by=None)
    box.runs(lease)
    box.measures(lease, uptime=1_000, transfer=5_000_000)
    page = owner_page.get(f"/devices/{box.id}/").text
    assert "Running" in page
    assert "0.005 GB" in page
    assert "secretname" not in page
    assert str(lease.workload_id) not in page


def test_the_number_of_queries_does_not_grow(owner_page, box, django_assert_max_num_queries):
    for number in range(5):
        lease = placement.open_lease(workload=make_workload(f"app{number}"), by=None)
        box.measures(lease, transfer=10)
    with django_assert_max_num_queries(14):
        owner_page.get(f"/devices/{box.id}/")
    with django_assert_max_num_queries(6):
        owner_page.get("/devices/")


def test_pause_takes_no_new_apps_and_resume_does(owner_page, box):
    assert "takes no new apps" in owner_page.post(f"/devices/{box.id}/pause/", follow=True).text
    assert placement.can_place(workload=make_workload()) != ""
    owner_page.post(f"/devices/{box.id}/resume/")
    box.device.refresh_from_db()
    assert box.device.state == DeviceState.ONLINE
    assert placement.can_place(workload=make_workload()) == ""


def test_removing_a_device_ends_its_leases_and_settles_what_cannot_be_asked(owner_page, box):
    workload = make_workload(volume_path="/data")
    lease = placement.open_lease(workload=workload, by=None)
    box.runs(lease)
    owner_page.post(f"/devices/{box.id}/remove/")
    lease.refresh_from_db()
    assert (lease.state, lease.action, lease.reason) == ("stopped", "stop", "")
    leases.wipe_lease(lease_id=lease.pk, by=None)
    lease.refresh_from_db()
    assert (lease.state, "gave no receipt" in lease.message) == ("wiped", True)


@pytest.mark.parametrize("path", ["", "status/", "limits/", "pause/", "drain/", "resume/", "remove/", "command/"])
def test_the_stranger_sees_nothing(client, cast, box, path):
    client.force_login(cast.stranger)
    url = f"/devices/{box.id}/{path}"
    answer = client.get(url) if path in ("", "status/", "limits/") else client.post(url)
    assert answer.status_code == 404
    assert box.id not in client.get("/devices/").text
    client.logout()
    assert client.get("/devices/").status_code == 302


@pytest.mark.parametrize(
    "verb",
    [devices.pause_device, devices.drain_device, devices.resume_device, devices.revoke_device, enrolment.new_token],
)
def test_a_service_refuses_the_stranger_by_itself(cast, box, verb):
    with pytest.raises(NotFound):
        verb(device=box.device, by=cast.stranger)


def test_the_api_creates_lists_and_removes(cast):
    api = APIClient()
    api.force_authenticate(cast.owner)
    made = api.post("/api/v1/devices", {"name": "Attic", "region": "us"}, format="json")
    assert (made.status_code, made.data["device"]["state"]) == (201, "pending")
    assert made.data["install_command"].startswith("curl -fsSL http")
    assert [device["name"] for device in api.get("/api/v1/devices").data] == ["Attic"]
    assert api.post("/api/v1/devices", {"name": "", "region": "moon"}, format="json").data["fields"].keys() == {
        "name",
        "region",
    }
    url = f"/api/v1/devices/{made.data['device']['id']}"
    stranger = APIClient()
    stranger.force_authenticate(cast.stranger)
    assert (stranger.get(url).status_code, stranger.delete(url).status_code) == (404, 404)
    assert api.delete(url).status_code == 204
    assert api.get(url).data["state"] == "revoked"
    assert APIClient().get("/api/v1/devices").status_code == 401


def test_the_install_script_is_for_good_tokens_only(client, cast, settings):
    _, token = enrolment.create_device(owner=cast.owner, name="Attic", region="us")
    script = client.get(f"/install/{token}").text
    assert f"PORTAL='{settings.PORTAL_URL}'" in script
    assert f"TOKEN='{token}'" in script
    bad = client.get("/install/nonsense").text
    ran = subprocess.run(["sh"], input=bad, capture_output=True, text=True, check=False)
    assert (ran.returncode, "Copy the command" in ran.stderr) == (1, True)


def test_the_agent_is_served_as_a_wheel_without_the_portal(client, db):
    wheel = zipfile.ZipFile(io.BytesIO(client.get("/install/agent.whl").content))
    assert "nodes/agent/protocol.py" in wheel.namelist()
    assert not [name for name in wheel.namelist() if name.startswith(("nodes/services", "interchain_site"))]


def test_the_gateway_may_ask_for_certificates_of_apps_only(client, box):
    placement.open_lease(workload=make_workload("blog"), by=None)
    assert client.get("/internal/tls-ask?domain=blog.apps.localhost").status_code == 200
    for other in ("nothing.apps.localhost", "blog.example", "apps.localhost", ""):
        assert client.get(f"/internal/tls-ask?domain={other}").status_code == 404


def test_staff_look_at_everything_in_admin(client, cast, box):
    lease = placement.open_lease(workload=make_workload(environment={"TOKEN": "s3cret"}), by=None)
    box.measures(lease, transfer=10)
    client.force_login(cast.staff)
    for model in ("device", "lease", "metertotal", "readingbatch", "wipereceipt", "gatewaycount"):
        assert client.get(f"/admin/nodes/{model}/").status_code == 200
    page = client.get(f"/admin/nodes/lease/{lease.pk}/change/")
    assert page.status_code == 200
    assert lease.environment_encrypted not in page.text


def test_a_second_device_is_another_owners(cast, box):
    make_device(cast.publisher, "Other")
    assert [device.name for device in queries.devices_of(cast.publisher)] == ["Other"]
