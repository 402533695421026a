"""Apps that can be killed, routes for them as the portal publishes them, and clients that count what fails."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest

from interchain_site.core import redis
from interchain_site.testing.servers import running
from nodes.conftest import eventually
from nodes.services import routes

APP = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one piece: a kill between its head and its body would be the app's failure
    def do_GET(self):
        time.sleep(float(self.headers.get("X-Take", "0")))
        body = sys.argv[2].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"])); self.do_GET()
    def log_message(self, *_): pass
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
"""


def app(port, text):
    """An app that can be killed, as a process of its own."""
    return running([sys.executable, "-c", APP, str(port), text], port=port)


def publish(name, *upstreams, status="live", **more):
    document = {"name": name, "workload_id": "w-" + name, "status": status, "upstreams": list(upstreams), **more}
    client = redis.connection()
    client.hset(routes.ROUTES_KEY, name, json.dumps(document))
    client.set(routes.COMPLETE_KEY, "1")
    client.publish(routes.CHANGED_CHANNEL, name)


@contextmanager
def load(gateway, name, clients=4, method="GET", *, keep_alive=True, **headers):
    """Ask all the time; yields the list of what did not come as 200. Without keep_alive each request is a connection."""
    stop, failed, answered = threading.Event(), [], []

    def ask():
        url, host = f"http://127.0.0.1:{gateway.port}/", {"Host": f"{name}.apps.localhost", **headers}
        limits = httpx.Limits(max_keepalive_connections=None if keep_alive else 0)
        with httpx.Client(trust_env=False, timeout=20, limits=limits) as client:
            while not stop.is_set():
                try:
                    answer = client.request(method, url, headers=host)
                    (answered if answer.status_code == 200 else failed).append(answer.status_code)
                except httpx.HTTPError as error:
                    failed.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: answered or failed)
        yield failed
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def unpublish(name):
    redis.connection().hdel(routes.ROUTES_KEY, name)
    redis.connection().publish(routes.CHANGED_CHANNEL, name)


def set_options(name, **options):
    """What the portal says of a name beside its place: domains, limits, dates."""
    redis.connection().hset(routes.OPTIONS_KEY, name, json.dumps(options))
    redis.connection().publish(routes.CHANGED_CHANNEL, name)


def shelve(syncer):
    """Wait until the configuration has all names itself, as after a quiet moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nodes.gateway.syncer.QUIET_SECONDS", 0.0)
        eventually(lambda: not syncer._spares.in_use)
