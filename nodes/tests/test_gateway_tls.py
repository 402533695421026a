"""Certificates on demand: a real Caddy with its internal CA asks the real portal before it makes one."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from interchain_site.testing.devices import make_workload
from nodes.conftest import eventually, in_thread, serving
from nodes.gateway.syncer import Syncer
from nodes.services import placement, route_options, routes


def ask(port, host):
    """Return what a client gets over TLS for this host; "" when there is no certificate for it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            secure.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while part := secure.recv(65536):
                answer += part
            return answer.decode()
    except (ssl.SSLError, ConnectionError):
        return ""


@pytest.fixture
def https(gateway, settings, live_server):
    settings.GATEWAY_PUBLIC_URL = f"https://apps.localhost:{gateway.port}"
    settings.GATEWAY_PORTAL_UPSTREAM = live_server.url.removeprefix("http://")
    settings.GATEWAY_CERTIFICATE_ISSUER = "internal"
    settings.ALLOWED_HOSTS = ["*"]
    stop = threading.Event()
    with gateway.caddy(), in_thread(Syncer(stop).run, stop):
        yield gateway


@pytest.mark.filterwarnings("ignore:No directory at")
@pytest.mark.django_db(transaction=True)
def test_apps_and_proven_domains_get_certificates_and_nothing_else_does(box, https):
    with serving("hello over TLS") as port:
        lease = placement.open_lease(workload=make_workload("blog"), by=None)
        box.runs(lease, host_port=port)
        routes.republish_all()
        eventually(lambda: "hello over TLS" in ask(https.port, "blog.apps.localhost"), 30)
        assert ask(https.port, "www.example.com") == ""
        assert ask(https.port, "nothing.apps.localhost") == ""
        route_options.set_domain(host="www.example.com", name="blog")
        eventually(lambda: "hello over TLS" in ask(https.port, "www.example.com"), 30)
        route_options.drop_domain(host="www.example.com", name="blog")
        eventually(lambda: "hello over TLS" not in ask(https.port, "www.example.com"), 30)
        assert route_options.is_served("www.example.com") is False


@pytest.mark.django_db
def test_a_domain_of_a_name_that_runs_nowhere_gets_none(client):
    route_options.set_domain(host="www.example.com", name="gone")
    assert client.get("/internal/tls-ask?domain=www.example.com").status_code == 404


@pytest.mark.django_db
def test_only_the_gateway_itself_may_ask_and_not_without_end(client, box, settings):
    placement.open_lease(workload=make_workload("blog"), by=None)
    ask_portal = "/internal/tls-ask?domain=blog.apps.localhost"
    assert client.get(ask_portal).status_code == 200
    assert client.get(ask_portal, headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 404
    settings.GATEWAY_ASKS_PER_MINUTE = 3
    assert 429 in [client.get(ask_portal).status_code for _ in range(5)]
