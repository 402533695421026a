"""The servers that are compared, each on a free port of loopback, all in front of the same upstream."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.test import override_settings

from interchain_site.testing.servers import free_port, running, wait_for_port
from nodes.gateway import config
from nodes.gateway.access_log import Tail
from nodes.gateway.board import Board
from nodes.gateway.pace import Pace

ROOT = Path(__file__).resolve().parents[2]
CADDY = str(ROOT / ".venv" / "bin" / "caddy")
DOMAIN = "apps.localhost"
BODY = "x" * 1024
AS_DEPLOYED = {"GOGC": "400"}  # docker-compose.yml
WORKLOAD_ID = "00000000-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Target:
    """Where wrk sends its requests, and under which Host."""

    name: str
    port: int
    host: str = "bench.localhost"


@contextmanager
def upstream(folder: Path, name: str) -> Iterator[int]:
    """An app: nginx that answers 1 kB at once."""
    port = free_port()
    with _nginx(folder / name, port, f'default_type text/plain; return 200 "{BODY}";'):
        yield port


@contextmanager
def plain_nginx(folder: Path, upstream_port: int) -> Iterator[Target]:
    port = free_port()
    passes = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://app;'
    pool = f"upstream app {{ server 127.0.0.1:{upstream_port}; keepalive 256; }}"
    with _nginx(folder / "nginx", port, passes, pool):
        yield Target("nginx", port)


@contextmanager
def plain_caddy(
    folder: Path, upstream_port: int, name: str = "Caddy", *, log: bool = False, env: Mapping[str, str] = {}
) -> Iterator[Target]:
    """Caddy as a person would set it up: one reverse proxy, nothing else.

    Args:
        log: with the access log that Caddy writes by itself.
    """
    port = free_port()
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{upstream_port}"}]}
    server: dict[str, Any] = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"handle": [proxy]}],
        "automatic_https": {"disable": True},
    }
    own = folder / name.replace(" ", "-")
    document: dict[str, Any] = {"apps": {"http": {"servers": {"plain": server}}}}
    if log:
        server["logs"] = {}
        document["logging"] = {"logs": {"default": {"writer": {"output": "file", "filename": str(own / "access.log")}}}}
    with caddy(own, document, env):
        yield Target(name, port)


@contextmanager
def gateway(
    folder: Path,
    name: str,
    routes: dict[str, dict[str, Any]],
    asked: str,
    *,
    change: Callable[[dict[str, Any]], None] = lambda document: None,
    env: Mapping[str, str] = AS_DEPLOYED,
    read: bool = False,
) -> Iterator[Target]:
    """Our gateway's Caddy with these routes, access log included; requests go to the app `asked`.

    Args:
        change: what is to be different in its configuration.
        env: environment of Caddy's beside ours.
        read: the log is read and counted meanwhile, into the Redis of the settings.
    """
    port = free_port()
    values = {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_DOMAIN": DOMAIN,
        "GATEWAY_PUBLIC_URL": f"http://{DOMAIN}:{port}",
        "GATEWAY_ACCESS_LOG": folder / name.replace(" ", "-") / "access.log",
    }
    slots = {name: len(route["upstreams"]) for name, route in routes.items()}
    with override_settings(**values):
        Board().show(routes, slots)
        document = config.build(routes, slots)
        change(document)
        tail: AbstractContextManager[None] = _reading() if read else nullcontext()
        with caddy(folder / name.replace(" ", "-"), document, env), tail:
            wait_for_port(port, 20)  # with many apps it listens a while after its admin port does
            yield Target(name, port, f"{asked}.{DOMAIN}")


@contextmanager
def _reading() -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=Tail(stop, Pace()).run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def caddy(folder: Path, document: dict[str, Any], env: Mapping[str, str] = {}) -> Iterator[int]:
    """A Caddy with this configuration; yields its admin port."""
    folder.mkdir(parents=True, exist_ok=True)
    admin = free_port()
    whole = {"admin": {"listen": f"127.0.0.1:{admin}", "config": {"persist": False}}, **document}
    whole["storage"] = {"module": "file_system", "root": str(folder / "storage")}
    (folder / "caddy.json").write_text(json.dumps(whole))
    command = [CADDY, "run", "--config", str(folder / "caddy.json")]
    with running(command, port=admin, log=folder / "caddy.log", env={**os.environ, **env}):
        yield admin


@contextmanager
def _nginx(folder: Path, port: int, location: str, more: str = "") -> Iterator[None]:
    folder.mkdir(parents=True)
    text = f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 4096; }}
        http {{
          access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
          uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; keepalive_requests 1000000; {more}
          server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {location} }} }}
        }}"""
    (folder / "nginx.conf").write_text(text)
    with ExitStack() as stack:
        stack.enter_context(running(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], port=port))
        yield
