"""From a one-use token to a device, through HTTP."""

from __future__ import annotations

import dataclasses

import pytest
from joserfc.jwk import OKPKey

from interchain_site.testing.devices import BENCHMARK, CAPACITY, make_workload
from nodes.agent import cli, protocol
from nodes.conftest import API, code
from nodes.models import Device
from nodes.services import enrolment, placement


@pytest.fixture
def enrolling(client, cast):
    device, token = enrolment.create_device(owner=cast.owner, name="Attic", region="us")
    key = OKPKey.generate_key("Ed25519").as_dict(private=False)["x"]
    message = protocol.Enrolment(token, key, "1.0", CAPACITY, BENCHMARK, "10.0.0.7")

    def send(headers=None, **changes):
        body = protocol.to_json(dataclasses.replace(message, **changes))
        return client.post(API + "enrol", body, content_type="application/json", headers=headers or {})

    send.device = device
    return send


def test_a_token_makes_a_device_once_and_a_resend_is_the_same_device(enrolling):
    first, again = enrolling(), enrolling()
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["device_id"] == again.json()["device_id"] == str(enrolling.device.pk)
    assert first.json()["link_url"].startswith("ws://")
    enrolling.device.refresh_from_db()
    assert (enrolling.device.state, enrolling.device.endpoint_host) == ("online", "10.0.0.7")


def test_no_token_can_be_taken_for_an_option_of_a_command(cast, monkeypatch):
    monkeypatch.setattr(enrolment.secrets, "token_urlsafe", lambda _size: "-dashed")
    _, token = enrolment.create_device(owner=cast.owner, name="Attic", region="us")
    arguments = cli.make_parser().parse_args(["enrol", "--portal", "http://localhost", "--token", token])
    assert arguments.token == token == "enrol_-dashed"


def test_a_resent_token_does_not_open_what_runs_on_the_device(enrolling):
    enrolling()
    placement.open_lease(workload=make_workload(environment={"PASSWORD": "hush"}), by=None)
    again = enrolling()
    assert again.status_code == 201
    assert "hush" not in again.text


def test_a_device_that_names_no_host_is_reached_where_the_trusted_proxy_saw_it(enrolling, monkeypatch):
    monkeypatch.setattr("rest_framework.settings.api_settings.NUM_PROXIES", 1, raising=False)
    enrolling(endpoint_host="", headers={"X-Forwarded-For": "203.0.113.66, 198.51.100.7"})
    enrolling.device.refresh_from_db()
    assert enrolling.device.endpoint_host == "198.51.100.7"


def test_without_a_proxy_nobody_is_believed_about_his_address(enrolling):
    enrolling(endpoint_host="", headers={"X-Forwarded-For": "203.0.113.66"})
    enrolling.device.refresh_from_db()
    assert enrolling.device.endpoint_host == "127.0.0.1"


def test_a_used_token_does_not_make_a_second_device(enrolling):
    enrolling()
    other = OKPKey.generate_key("Ed25519").as_dict(private=False)["x"]
    assert code(enrolling(public_key=other)) == (409, "token_used")


def test_an_unknown_or_expired_token(enrolling):
    assert code(enrolling(token="x")) == (404, "token_unknown")
    enrolling.device.tokens.update(expires_at="2020-01-01T00:00Z")
    assert code(enrolling()) == (410, "token_expired")
    assert not Device.objects.exclude(public_key="").exists()


def test_a_key_belongs_to_one_device(enrolling, box):
    assert code(enrolling(public_key=box.device.public_key)) == (409, "conflict")
    enrolling.device.refresh_from_db()
    assert enrolling.device.state == "pending"
    assert enrolling().status_code == 201  # the token was not spent by the refusal


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"public_key": "short"}, "public_key"),
        ({"public_key": "!" * 43}, "public_key"),
        ({"capacity": dataclasses.replace(CAPACITY, memory_bytes=0)}, "capacity.memory_bytes"),
        ({"capacity": dataclasses.replace(CAPACITY, cpu_millis=2**63)}, "capacity.cpu_millis"),
        ({"benchmark": protocol.Benchmark(10**12)}, "benchmark.instructions_per_second"),
        ({"endpoint_host": "not a host"}, "endpoint_host"),
    ],
)
def test_what_a_device_cannot_be_is_refused_by_field(enrolling, changes, field):
    answer = enrolling(**changes)
    assert code(answer) == (400, "invalid")
    assert field in answer.json()["fields"]
    enrolling.device.refresh_from_db()
    assert enrolling.device.state == "pending"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.0.0.7", "169.254.169.254", "localhost", "::1", "224.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"],
)
def test_on_a_public_portal_a_device_cannot_point_the_gateway_inside(enrolling, settings, host):
    settings.PRIVATE_ENDPOINTS = False
    assert code(enrolling(endpoint_host=host)) == (400, "invalid")


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize(
    "host", ["2606:4700::1%]:1", "2606:4700::1%{env.HOME}", "fe80::1%eth0", "a.example\n", "{env.HOME}"]
)
def test_a_host_is_nothing_but_a_host(enrolling, settings, host, private):
    settings.PRIVATE_ENDPOINTS = private
    assert code(enrolling(endpoint_host=host + "x")) == (400, "invalid")
