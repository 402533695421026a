"""A Docker whose disk fills up under a working agent, in a network of its own. Run by test_full_docker.py.

Usage: unshare --net python -m nodes.agent.tests.full_docker FOLDER
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interchain_site.testing import docker as ordinary
from nodes.agent import sandbox
from nodes.agent.diagnosis import DISK_FULL
from nodes.agent.protocol import DesiredLease, HealthCheck, Image, Meter, Observed, Reason, Status, Workload
from nodes.agent.tests.conftest import AgentProcess, lease, told_in_full, workload
from nodes.agent.tests.portal import FakePortal
from nodes.agent.tests.private_engine import PrivateEngine, private_engine
from nodes.agent.tests.sized_disk import Disk, disk

SECONDS = 120.0
LARGE_BYTES, LEFT_BYTES = 24 * 2**20, 12 * 2**20
COMMAND = ["/bin/sh", "-c", "httpd -f -p 8080 -h /www"]
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Made:
    """An image with one layer that does not compress, in both forms it can come in."""

    id: str
    config: bytes
    layer: bytes

    @property
    def archive(self) -> bytes:
        """As `docker save` writes it."""
        name = f"{self.id.partition(':')[2]}.json"
        manifest = json.dumps([{"Config": name, "RepoTags": None, "Layers": ["layer.tar"]}]).encode()
        return tar_of({name: self.config, "layer.tar": self.layer, "manifest.json": manifest})


def made() -> Made:
    root = io.BytesIO(ordinary.busybox_root())
    with tarfile.open(fileobj=root, mode="a") as tar:
        info = tarfile.TarInfo("large")
        info.size = LARGE_BYTES
        tar.addfile(info, io.BytesIO(os.urandom(LARGE_BYTES)))
    layer = root.getvalue()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {
        "architecture": machine,
        "os": "linux",
        "config": {"Cmd": COMMAND},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    }
    text = json.dumps(config).encode()
    return Made(digest(text), text, layer)


def tar_of(files: "dict[str, bytes]") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def registry(image: Made) -> Iterator[str]:
    """Serve the image as a registry does (OCI distribution, pull only); yields its reference by digest."""
    packed = gzip.compress(image.layer, 1)
    described = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(image.config),
            "digest": image.id,
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(packed),
                "digest": digest(packed),
            }
        ],
    }
    manifest = json.dumps(described).encode()
    held = {image.id: image.config, digest(packed): packed, digest(manifest): manifest}

    class Handler(http.server.BaseHTTPRequestHandler):
        default_request_version = "HTTP/1.0"  # so that TLS is answered with a status line: Docker then tries without

        def do_GET(self) -> None:
            wanted = self.path.rpartition("/")[2]
            body = b"{}" if self.path == "/v2/" else held.get(wanted)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", MANIFEST if wanted == digest(manifest) else "application/octet-stream")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}/app@{digest(manifest)}"
    finally:
        server.shutdown()


def main(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with (
        disk(folder / "data", "ext4") as full,
        private_engine(folder, data=full.folder, options=[], network=False) as docker,
        FakePortal() as portal,
    ):
        agent = AgentProcess(folder / "home", portal, engine=docker.address)
        agent.enrol()
        agent.start()
        try:
            scenario(docker, portal, full)
        finally:
            agent.kill(15)
            sys.stderr.write(agent.log)


def scenario(docker: PrivateEngine, portal: FakePortal, full: Disk) -> None:
    """A neighbour runs all the while. No room to load an archive, to pull, to start: it says so, and goes on once there is room."""
    base = docker.docker("import", "-", "busybox:test", input=ordinary.busybox_root()).strip()
    text = f"FROM {base}\nCMD {json.dumps(COMMAND)}\n"
    small = Image(reference=docker.docker("build", "-q", "-", input=text.encode()).strip())
    neighbour = lease(of(small))
    portal.want(neighbour)
    portal.wait_for(neighbour.lease_id, Observed.RUNNING, SECONDS)
    before = docker.docker("inspect", "-f", "{{.State.StartedAt}}", sandbox.container_name(neighbour.lease_id))

    loaded, pulled = made(), made()
    archive = loaded.archive
    sha256 = hashlib.sha256(archive).hexdigest()
    portal.archives[sha256] = archive
    with registry(pulled) as reference:
        for layer, image in (
            (loaded.layer, Image(archive_sha256=sha256, archive_bytes=len(archive), image_id=loaded.id)),
            (pulled.layer, Image(reference=reference)),
        ):
            full.fill(but=LEFT_BYTES)
            wanted = lease(of(image))
            tried(docker, portal, neighbour, wanted, full, lacks=digest(layer))
            found = docker.docker("inspect", "-f", "{{.Image}}", sandbox.container_name(wanted.lease_id)).strip()
            assert layers(docker, found) == [digest(layer)], "what runs is the image that was released"

    full.fill()
    tried(docker, portal, neighbour, lease(of(small)), full)
    status = portal.wait_for(neighbour.lease_id, Observed.RUNNING, SECONDS)
    assert urllib.request.urlopen(f"http://127.0.0.1:{status.host_port}/", timeout=10).status == 200
    after = docker.docker("inspect", "-f", "{{.State.StartedAt}}", sandbox.container_name(neighbour.lease_id))
    assert after == before, "the neighbour was not started anew"
    uptime = portal.totals(neighbour.lease_id)[Meter.UPTIME]
    portal.wait(lambda: portal.totals(neighbour.lease_id)[Meter.UPTIME] > uptime, SECONDS, "the neighbour's uptime")
    told_in_full(portal, neighbour.lease_id)


def of(image: Image) -> Workload:
    return workload(image=image, health=HealthCheck(kind="http", interval_seconds=1, start_seconds=60))


def tried(
    docker: PrivateEngine,
    portal: FakePortal,
    neighbour: DesiredLease,
    wanted: DesiredLease,
    full: Disk,
    *,
    lacks: str = "nothing",
) -> None:
    """There is no room for the lease: it says so and no half of its image is there. There is room again: it runs."""
    portal.want(neighbour, wanted)

    def refused() -> "Status | None":
        status = portal.status(wanted.lease_id)
        return status if status is not None and status.message else None

    status = portal.wait(refused, SECONDS, "a word on why it does not run")
    assert (status.reason, status.message) == (Reason.DEVICE_ERROR, DISK_FULL)
    assert status.observed is not Observed.RUNNING
    assert lacks not in layers(docker, *docker.docker("images", "-aq", "--no-trunc").split())
    full.empty()
    portal.wait_for(wanted.lease_id, Observed.RUNNING, SECONDS)
    assert (
        urllib.request.urlopen(
            f"http://127.0.0.1:{portal.wait_for(wanted.lease_id, Observed.RUNNING).host_port}/", timeout=10
        ).status
        == 200
    )


def layers(docker: PrivateEngine, *images: str) -> "list[str]":
    """Return the digests of the images' layers; an image's own id differs from store to store."""
    return docker.docker("image", "inspect", "-f", "{{range .RootFS.Layers}}{{.}} {{end}}", *images).split()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
