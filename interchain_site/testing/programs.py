"""Three ordinary Debian programs as images, each by a Dockerfile an ordinary user would write; kept in the cache once built."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from interchain_site.local import images
from interchain_site.testing import docker as engine

DOCKERFILES = {
    "nginx": """\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends nginx && rm -rf /var/lib/apt/lists/*
EXPOSE 80
CMD ["nginx", "-g", "daemon off;"]
""",
    "redis-server": """\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
EXPOSE 6379
CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/var/lib/redis"]
""",
    "postgresql": """\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
RUN echo "listen_addresses = '*'" > /etc/postgresql/15/main/conf.d/network.conf && \\
    echo "host all all all scram-sha-256" >> /etc/postgresql/15/main/pg_hba.conf
USER postgres
EXPOSE 5432
CMD ["pg_ctlcluster", "--foreground", "15", "main", "start"]
""",
}


def image(program: str) -> str:
    """Return the id of the program's image on this machine's Engine, built unless the cache has it."""
    text = DOCKERFILES[program]
    stamp = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = f"interchain-test/{program}:{stamp}"
    kept = images.cache() / f"program-{program}-{stamp}.tar"
    if not _there(name):
        if kept.exists():
            engine.docker("load", "-q", "-i", str(kept))
        else:
            _build(name, text, kept)
    return engine.docker("image", "inspect", "-f", "{{.Id}}", name)


def _there(name: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def _build(name: str, text: str, kept: Path) -> None:
    images.base_image("debian:bookworm-slim")
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    command = ["docker", "build", "-q", "-t", name, "-"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    partial = kept.with_suffix(".partial")
    engine.docker("save", "-o", str(partial), name)
    partial.rename(kept)
