"""Names that come, go and change cost other apps' clients nothing: real Caddy, real load; and what a client may write as Host."""

from __future__ import annotations

import socket
import time

import pytest

from interchain_site.testing.servers import free_port
from nodes.conftest import eventually, serving
from nodes.gateway import board, config
from nodes.gateway.log_lines import parsed
from nodes.tests.gateway_load import app, load, publish, set_options, shelve, unpublish


def ask(gateway, host):
    """Return the answer to a request with this Host, however wrong it is."""
    text = host if isinstance(host, bytes) else host.encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: " + text + b"\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer.decode()


def visits(gateway):
    return [visit for line in gateway.log.read_bytes().splitlines() if (visit := parsed(line))]


def test_new_names_domains_and_successions_fail_no_request_of_another_app(gateway, syncer):
    """Each client opens a connection for each request: these are what a new configuration loses."""
    busy, other, more = free_port(), free_port(), free_port()
    with app(busy, "busy"), app(other, "other"), app(more, "more"):
        publish("busy", f"127.0.0.1:{busy}")
        publish("known", f"127.0.0.1:{other}")
        publish("leaves", f"127.0.0.1:{other}")
        eventually(lambda: gateway.status("leaves") == 200)
        shelve(syncer)
        before = config.id_of(syncer._config)
        with load(gateway, "busy", keep_alive=False) as failed:
            for number in range(50):
                publish(f"new{number}", f"127.0.0.1:{other}")
                eventually(lambda name=f"new{number}": gateway.get(name).text == "other")
            unpublish("new3")
            unpublish("leaves")
            set_options("known", domains=["www.example.com"])
            publish("known", f"127.0.0.1:{more}", f"127.0.0.1:{other}")
            publish("new4", f"127.0.0.1:{more}", f"127.0.0.1:{other}")
            publish("new5", status="grace", grace_ends_at="2026-12-04T15:30:00+00:00")
            eventually(lambda: gateway.status("leaves") == gateway.status("new3") == 404)
            eventually(lambda: "more" in ask(gateway, "www.example.com"))
            eventually(lambda: gateway.get("known").text == gateway.get("new4").text == "more")
            eventually(lambda: "4 December 2026, 15:30 UTC" in gateway.get("new5").text)
        assert failed == []
        assert config.id_of(syncer._config) == before


@pytest.mark.parametrize("place", ["spare slot", "shelf"])
def test_an_app_that_gets_a_second_upstream_fails_over_to_it(gateway, syncer, place):
    first, second = free_port(), free_port()
    with app(first, "first") as process, app(second, "second"):
        publish("blog", f"127.0.0.1:{first}")
        eventually(lambda: gateway.status("blog") == 200)
        if place == "shelf":
            shelve(syncer)
        publish("blog", f"127.0.0.1:{first}", f"127.0.0.1:{second}")
        eventually(lambda: gateway.get("blog") and visits(gateway)[-1].first == f"127.0.0.1:{first}")
        with load(gateway, "blog", **{"X-Take": "0.02"}) as failed:
            process.kill()
            eventually(lambda: gateway.get("blog").text == "second")
        assert failed == []


def test_a_quiet_moment_makes_new_names_part_of_the_configuration_and_a_busy_one_does_not(gateway, syncer, monkeypatch):
    with serving("hello") as port:
        publish("blog", f"127.0.0.1:{port}")
        publish("goes", f"127.0.0.1:{port}")
        eventually(lambda: gateway.status("goes") == 200)
        monkeypatch.setattr("nodes.gateway.syncer.QUIET_SECONDS", 2.0)
        before = config.id_of(syncer._config)
        with load(gateway, "blog", clients=1):
            time.sleep(4)
            assert config.id_of(syncer._config) == before
        eventually(lambda: config.id_of(syncer._config) != before)
        assert gateway.get("blog").text == "hello"
        unpublish("goes")
        eventually(lambda: gateway.status("goes") == 404)
        publish("goes", f"127.0.0.1:{port}")
        eventually(lambda: gateway.status("goes") == 200)
        assert not syncer._spares.in_use, "as it was in the configuration"


def test_an_app_that_is_gone_from_a_shelf_is_unknown_and_no_other_app_s_requests_look_for_it(gateway, syncer):
    with serving("hello") as port, serving("two") as other:
        publish("goes", f"127.0.0.1:{port}")
        publish("pair", f"127.0.0.1:{other}", f"127.0.0.1:{port}")
        eventually(lambda: gateway.status("goes") == gateway.status("pair") == 200)
        shelve(syncer)
        seen = len(visits(gateway))
        unpublish("goes")
        unpublish("pair")
        eventually(lambda: gateway.status("goes") == gateway.status("pair") == 404)
        assert "There is no app at this address" in gateway.get("goes").text
        assert not (board.folder() / board.UNUSUAL).exists()
        assert not any(visit.reached_the_app for visit in visits(gateway)[seen:] if visit.status == 404)


def test_requests_in_spare_slots_are_logged_as_their_apps(gateway, syncer):
    one, two = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
    with serving("one") as first, serving("two") as second:
        publish("one", f"127.0.0.1:{first}", workload_id=one)
        publish("two", f"127.0.0.1:{second}", f"127.0.0.1:{first}", workload_id=two)
        set_options("one", domains=["www.example.com"])
        eventually(lambda: "one" in ask(gateway, "www.example.com") and gateway.get("two").text == "two")
        wanted = {
            (one, "127.0.0.1", f"127.0.0.1:{first}", ""),
            (two, "127.0.0.1", f"127.0.0.1:{second}", f"127.0.0.1:{second}"),
        }
        eventually(
            lambda: {(seen.workload_id, seen.client, seen.reached, seen.first) for seen in visits(gateway)} == wanted
        )
        before = len(visits(gateway))
        unpublish("one")
        unpublish("two")
        eventually(lambda: gateway.status("one") == gateway.status("two") == 404)
        assert [visit for visit in visits(gateway)[before:] if visit.status == 404] == [], (
            "nobody is charged for that page"
        )


def test_a_domain_that_moves_to_another_app_is_that_apps_alone(gateway, syncer):
    with serving("one") as first, serving("two") as second:
        publish("one", f"127.0.0.1:{first}")
        publish("two", f"127.0.0.1:{second}")
        set_options("one", domains=["www.example.com"])
        eventually(lambda: ask(gateway, "www.example.com").endswith("one"))
        set_options("one")
        eventually(lambda: "404" in ask(gateway, "www.example.com").split("\r\n")[0])
        set_options("two", domains=["www.example.com"])
        eventually(lambda: ask(gateway, "www.example.com").endswith("two"))
        set_options("one", domains=["www.example.com"])
        set_options("two")
        eventually(lambda: ask(gateway, "www.example.com").endswith("one"))
        eventually(lambda: visits(gateway)[-1].workload_id == "w-one")


@pytest.mark.parametrize("place", ["spare slot", "shelf"])
def test_a_host_made_up_by_a_client_reaches_no_app(gateway, syncer, place):
    with serving("of blog") as port:
        publish("blog", f"127.0.0.1:{port}")
        eventually(lambda: gateway.status("blog") == 200)
        if place == "shelf":
            set_options("blog", domains=["www.example.com"])
            eventually(lambda: "of blog" in ask(gateway, "www.example.com"))
            shelve(syncer)
            set_options("blog")
            eventually(lambda: "404" in ask(gateway, "www.example.com").split("\r\n")[0])
            assert syncer._spares.superseded == {"www.example.com"}, "so all of this is looked up as well"
        assert ask(gateway, "blog.apps.localhost:8080").endswith("of blog")
        host = "blog.apps.localhost"
        wrong = [
            *(
                "*",
                "*.apps.localhost",
                "*log.apps.localhost",
                "?log.apps.localhost",
                "[b]log.apps.localhost",
                "[a-z]*",
                "[!x]*",
            ),
            *(
                f"{host}\\",
                f"\\{host}",
                f"blo\\g{host[4:]}",
                f"\\*{host[1:]}",
                "\\*",
                "blog\\.apps.localhost",
                "[",
                "]",
                "[[",
                "\\[",
            ),
            *(
                "",
                " ",
                ".",
                "..",
                "../..",
                "/",
                f"/{host}",
                f"{host}/",
                f"{host}/.",
                f"x/../{host}",
                f"./{host}",
                f"../hosts/{host}",
            ),
            *(
                f"{host}/*",
                f"{host}.",
                f".{host}",
                f"{host}/s0.0",
                f"{host}%2f",
                f"%62{host[1:]}",
                f"{host}\x00",
                "s0.0",
            ),
            *(
                "{env.HOME}",
                "{http.request.host}",
                "{file./etc/passwd}",
                "${1}",
                "hosts",
                "superseded",
                "=200",
                "a" * 5000,
            ),
            *(
                f"{'a.' * 126}a",
                f"{'a' * 256}",
                b"\xff\xfe",
                "blög.apps.localhost".encode(),
                f"x@{host}",
                f"{host}, {host}",
            ),
        ]
        for made_up in wrong:
            answer = ask(gateway, made_up)
            status = answer.split(" ")[1]
            assert "of blog" not in answer, made_up
            assert status in ("400", "404", "431"), (made_up, answer[:200])
        assert ask(gateway, host).endswith("of blog")


def test_the_first_slots_used_up_under_real_routes_are_shelved_at_once(gateway, syncer, monkeypatch):
    monkeypatch.setattr("nodes.gateway.spares.SHELVES", 1)
    monkeypatch.setattr("nodes.gateway.spares.SHELF_SLOTS", 2)
    with serving("hello") as port:
        for number in range(7):
            publish(f"app{number}", f"127.0.0.1:{port}")
            eventually(lambda name=f"app{number}": gateway.status(name) == 200)
        assert {gateway.status(f"app{number}") for number in range(7)} == {200}
        assert len(list(board.folder().glob("spare-*"))) <= 2, "those of older configurations are removed"
