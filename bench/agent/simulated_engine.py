"""A Docker Engine that starts nothing, so that thousands of container lives take minutes: a socket of its own before the real Engine.

Containers and networks are kept in memory and answered as Docker 20.10 answers; all else (version, info, images, volumes) is passed on to the
real Engine. What the agent reads past Docker is real: each network is a bridge of this name, each lease has a cgroup where Docker would make it,
every container has the network of one process that sleeps, and what "runs" answers on 127.0.0.1. Root, and cgroups as Docker's cgroupfs driver.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import socketserver
import subprocess
import threading
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nodes.agent.sandbox import LABEL

REAL = "/var/run/docker.sock"
NEVER = "0001-01-01T00:00:00Z"
ADDRESS = "127.0.0.1"
CGROUPS = next(root for root in (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup")) if root.exists())


class Simulated:
    """What is there: containers by id, networks by name."""

    def __init__(self, process: int) -> None:
        """Args: process: whose network every container has."""
        self.process, self.lock = process, threading.Condition()
        self.containers: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.ended: list[str] = []  # ids, in order

    def find(self, name: str) -> dict[str, Any] | None:
        return self.containers.get(name) or next((c for c in self.containers.values() if c["Name"] == f"/{name}"), None)

    def create(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        if (body.get("HostConfig") or {}).get("StorageOpt"):
            return 500, {"message": "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"}
        if (body.get("HostConfig") or {}).get("Mounts"):
            return 500, {"message": "volumes are not simulated"}
        number = uuid.uuid4().hex * 2
        host = body["HostConfig"]
        labels = body.get("Labels") or {}
        if f"{LABEL}address" in labels:  # where it is asked whether it is well
            labels[f"{LABEL}address"] = ADDRESS
        bridge = next(iter((body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}), "")
        self.containers[number] = {
            "Id": number, "Name": f"/{name}", "Created": _now(), "Path": "/bin/sh", "Args": ["-c", "httpd -f -p 8080 -h /www"],
            "State": {"Status": "created", "Running": False, "Paused": False, "Restarting": False, "OOMKilled": False, "Dead": False,
                      "Pid": 0, "ExitCode": 0, "Error": "", "StartedAt": NEVER, "FinishedAt": NEVER},
            "Image": body["Image"], "RestartCount": 0, "Driver": "overlay2", "Platform": "linux", "MountLabel": "", "ProcessLabel": "",
            "ResolvConfPath": f"/var/lib/docker/containers/{number}/resolv.conf", "HostsPath": f"/var/lib/docker/containers/{number}/hosts",
            "HostnamePath": f"/var/lib/docker/containers/{number}/hostname", "LogPath": f"/var/lib/docker/containers/{number}/{number}-json.log",
            "HostConfig": host, "Config": {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")},
            "GraphDriver": {"Name": "overlay2", "Data": {f"{part}Dir": f"/nowhere/{number}/{part.lower()}" for part in ("Lower", "Merged", "Upper", "Work")}},
            "Mounts": [], "NetworkSettings": {"Bridge": "", "SandboxID": number, "Ports": {}, "Networks": {bridge: {"IPAddress": ADDRESS, "NetworkID": number}} if bridge else {}},
        }  # fmt: skip
        return 201, {"Id": number, "Warnings": []}

    def start(self, container: dict[str, Any]) -> tuple[int, Any]:
        container["State"] |= {"Status": "running", "Running": True, "Pid": self.process, "StartedAt": _now()}
        parent = container["HostConfig"].get("CgroupParent")
        if parent:
            (CGROUPS / parent.lstrip("/")).mkdir(parents=True, exist_ok=True)
        return 204, None

    def end(self, container: dict[str, Any]) -> tuple[int, Any]:
        if container["State"]["Running"]:
            container["State"] |= {
                "Status": "exited",
                "Running": False,
                "Pid": 0,
                "ExitCode": 143,
                "FinishedAt": _now(),
            }
            self.ended.append(container["Id"])
            self.lock.notify_all()
        return 204, None

    def remove(self, container: dict[str, Any]) -> tuple[int, Any]:
        self.end(container)
        del self.containers[container["Id"]]
        return 204, None

    def connect(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["Name"]
        self.networks[name] = {"Name": name, "Id": name, "Labels": body.get("Labels") or {}}
        subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True, capture_output=True)
        return 201, {"Id": name, "Warning": ""}

    def disconnect(self, name: str) -> tuple[int, Any]:
        if self.networks.pop(name, None) is None:
            return 404, {"message": f"network {name} not found"}
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
        return 204, None


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "123Z")


def _matches(labels: dict[str, str], query: dict[str, str]) -> bool:
    for wanted in json.loads(query.get("filters", "{}")).get("label", []):
        name, _, value = wanted.partition("=")
        if name not in labels or (value and labels[name] != value):
            return False
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Simulated

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        path, query = re.sub(r"^/v[0-9.]+", "", url.path), dict(urllib.parse.parse_qsl(url.query))
        data = self._body()
        if path == "/events":
            self._events()
        elif path.endswith("/attach"):
            self._attach(path.split("/")[2])
        else:
            with self.engine.lock:
                answer = self._answer(path.strip("/").split("/"), query, data)
            self._send(*answer) if answer is not None else self._pass_on(data)

    do_POST = do_DELETE = do_GET

    def _answer(self, path: list[str], query: dict[str, str], data: bytes) -> tuple[int, Any] | None:
        here, method = self.engine, self.command
        body = json.loads(data) if data and self.headers.get("Content-Type") == "application/json" else {}
        match (method, *path):
            case ("GET", "containers", "json"):
                return 200, [
                    _listed(c) for c in here.containers.values() if _matches(c["Config"].get("Labels", {}), query)
                ]
            case ("POST", "containers", "create"):
                return here.create(query.get("name", ""), body)
            case ("GET", "networks"):
                return 200, [network for network in here.networks.values() if _matches(network["Labels"], query)]
            case ("POST", "networks", "create"):
                return here.connect(body)
            case ("DELETE", "networks", name):
                return here.disconnect(name)
            case (_, "containers", name, *rest):
                container = here.find(name)
                if container is None:
                    return 404, {"message": f"No such container: {name}"}
                return self._one(container, method, rest[0] if rest else "", query)
        return None

    def _one(self, container: dict[str, Any], method: str, verb: str, query: dict[str, str]) -> tuple[int, Any]:
        match (method, verb):
            case ("DELETE", ""):
                return self.engine.remove(container)
            case ("GET", "json"):
                return 200, container
            case ("POST", "start"):
                return self.engine.start(container)
            case ("POST", "stop" | "kill"):
                return self.engine.end(container)
            case ("POST", "rename"):
                container["Name"] = f"/{query['name']}"
                return 204, None
        return 500, {"message": f"not simulated: {method} {verb}"}

    def _events(self) -> None:
        known = len(self.engine.ended)
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with self.engine.lock:
            self.engine.lock.wait_for(lambda: len(self.engine.ended) > known)
        for number in self.engine.ended[known:]:
            self.wfile.write(
                json.dumps({"status": "die", "id": number, "Type": "container", "Action": "die"}).encode() + b"\n"
            )
        self.close_connection = True

    def _attach(self, name: str) -> None:
        with self.engine.lock:
            container = self.engine.find(name)
            if container is None:
                self._send(404, {"message": "No such container"})
                return
            self.wfile.write(
                b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            )
            self.engine.lock.wait_for(lambda: not container["State"]["Running"])
        self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _pass_on(self, data: bytes) -> None:
        connection = http.client.HTTPConnection("docker")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(REAL)
        connection.request(
            self.command,
            self.path,
            data or None,
            {"Content-Type": self.headers.get("Content-Type") or "application/json"},
        )
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        self._send(answer.status, text)

    def _send(self, status: int, answer: Any) -> None:
        text = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if text:
            self.wfile.write(text)

    def address_string(self) -> str:
        return "agent"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _listed(container: dict[str, Any]) -> dict[str, Any]:
    state, host = container["State"], container["HostConfig"]
    return {"Id": container["Id"], "Names": [container["Name"]], "Image": container["Image"], "Labels": container["Config"].get("Labels") or {},
            "State": state["Status"], "HostConfig": {"NetworkMode": host.get("NetworkMode", "default")}, "Mounts": [], "Ports": []}  # fmt: skip


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class _App(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def simulated(socket_path: Path, port: int = 8080) -> Iterator[Simulated]:
    """Answer as an Engine on a socket, and as every app on one port, while the block lasts."""
    sleeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    engine = Simulated(sleeper.pid)
    server = _Server(str(socket_path), type("Handler", (_Handler,), {"engine": engine}))
    app = ThreadingHTTPServer((ADDRESS, port), _App)
    try:
        for each in (server, app):
            threading.Thread(target=each.serve_forever, daemon=True).start()
        yield engine
    finally:
        for each in (server, app):
            each.shutdown()
            each.server_close()
        for name in list(engine.networks):
            with suppress(OSError):
                engine.disconnect(name)
        sleeper.kill()
        sleeper.wait()
