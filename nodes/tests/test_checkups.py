"""What a computer finds when it examines itself, live on its owner's page, before and after it is enrolled."""

from __future__ import annotations

import dataclasses

import pytest

from interchain_site.testing.devices import make_device
from nodes.agent.protocol import Check, CheckReport, to_json
from nodes.conftest import API, code
from nodes.models import Device
from nodes.services import enrolment

DOCKER = Check("docker", False, "No Docker Engine answers.", "Type: apt-get install docker.io")
DISK = Check("disk", True, "80.0 GB are free.")
PERF = Check("perf", False, "No hardware counter.", needed=False)


@pytest.fixture
def waiting(cast):
    return enrolment.create_device(owner=cast.owner, name="Attic", region="us")


def tell(client, token, *checks):
    body = to_json(CheckReport(checks, token))
    return client.post(f"{API}install-checks", body, content_type="application/json")


def test_the_install_command_ticks_on_the_waiting_page(client, cast, waiting):
    device, token = waiting
    client.force_login(cast.owner)
    url = f"/devices/{device.pk}/status/"
    assert "one line after the other" in client.get(url).text
    assert tell(client, token, DOCKER).status_code == 204
    assert "apt-get install docker.io" in client.get(url).text
    assert (
        tell(client, token, dataclasses.replace(DOCKER, ok=True, message="Docker answers.", mend=""), DISK).status_code
        == 204
    )
    page = client.get(url).text
    assert "apt-get" not in page
    assert ("Docker answers." in page, "80.0 GB" in page) == (True, True)


def test_a_token_that_speaks_for_nobody_is_refused(client, cast, waiting):
    assert code(tell(client, "nonsense", DISK)) == (404, "token_unknown")
    assert code(tell(client, "", DISK)) == (404, "token_unknown")
    assert not Device.objects.get().checks


def test_an_enrolled_device_signs_and_what_to_mend_comes_first(client, cast, agent, box):
    assert agent.send("checks", to_json(CheckReport((DISK, PERF, DOCKER)))).status_code == 204
    assert (
        client.post(f"{API}checks", to_json(CheckReport((DISK,))), content_type="application/json").status_code == 401
    )
    client.force_login(cast.owner)
    page = client.get(f"/devices/{box.id}/").text
    assert page.index("No Docker Engine") < page.index("No hardware counter")
    assert "1 of 3 are fine" in page


def test_what_a_device_says_is_cut_and_counted(agent, box):
    long = Check("x" * 99, False, "<b>" + "y" * 999, "z\x00")
    assert agent.send("checks", to_json(CheckReport((long,)))).status_code == 204
    kept = Device.objects.get().checks[0]
    assert (len(kept["name"]), len(kept["message"]), "\x00" in kept["mend"]) == (40, 400, False)
    many = tuple(Check(f"c{number}", True, "") for number in range(41))
    assert code(agent.send("checks", to_json(CheckReport(many)))) == (400, "malformed")


def test_one_device_cannot_speak_for_another(agent, box, cast):
    other = make_device(cast.publisher, "Other")
    agent.send("checks", to_json(CheckReport((DISK,))))
    assert Device.objects.get(pk=other.device.pk).checks == []
