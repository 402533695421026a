"""Images of the demo apps: built by the machine's Docker from base images that are pulled, or made from Debian packages offline."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from interchain_site.local import system
from interchain_site.local.steps import ROOT, Stop, command, fingerprint, once

PULL_SECONDS = 20  # a registry that cannot be reached mostly says so at once
BUSYBOX = "busybox:stable"
DEBIAN = ("debian:bookworm-slim", "python:3.11-slim")
SUITE = "bookworm"
SLIM = "rm -rf var/lib/apt/lists/* var/cache/apt/* usr/share/doc/* usr/share/man/* usr/share/locale/* usr/share/info/*"


@dataclass(frozen=True)
class DemoApp:
    """One of `interapps/`: how it is built, and how a publisher would describe it."""

    slug: str
    base: tuple[str, ...]
    port: int = 8080
    memory_bytes: int = 64_000_000
    cpu_millis: int = 250
    disk_bytes: int = 50_000_000
    volume_path: str = "/data"
    health: str = "tcp"
    health_path: str = "/"

    @property
    def tag(self) -> str:
        return f"interapps/{self.slug}:demo"


WEBSITE = DemoApp("website", (BUSYBOX,), memory_bytes=32_000_000)
MESSAGING = DemoApp("messaging", (DEBIAN[1],), health="http", health_path="/healthz")
SIMULATION = DemoApp("simulation", (DEBIAN[0],), cpu_millis=500, health="http")
APPS = (WEBSITE, MESSAGING, SIMULATION)
TWO_REPLICAS = ("harbour", "Harbour Café, on two devices")


def cache() -> Path:
    """Return the folder for what is dear to make and belongs to no site: base images."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "interchain"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def archive(app: DemoApp, folder: Path) -> Path:
    """Return the app's `docker save` archive in `folder`, built unless its sources are unchanged."""
    target = folder / f"{app.slug}.tar"
    source = ROOT / "interapps" / app.slug
    if not target.exists():
        (folder / f"{app.slug}.stamp").unlink(missing_ok=True)
    once(folder / f"{app.slug}.stamp", fingerprint([source], extra=repr(app)), lambda: _build(app, source, target))
    return target


def _build(app: DemoApp, source: Path, target: Path) -> None:
    for name in app.base:
        base_image(name)
    env = {**os.environ, "DOCKER_BUILDKIT": "0"}  # the classic builder takes base images from the Engine alone
    command(
        ["docker", "build", "-q", "-t", app.tag, str(source)],
        failure=f"The image of {app.slug} cannot be built",
        env=env,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    command(["docker", "save", "-o", str(target), app.tag], failure=f"The image of {app.slug} cannot be saved")


def base_image(name: str) -> None:
    """See to it that the Engine has this base image.

    Raises:
        Stop: it can neither be pulled nor made here.
    """
    if _has(name) or (_registry_answers() and _pull(name)):
        return
    if name == BUSYBOX:
        _import_busybox()
    else:
        _import_debian()


def _has(name: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def _registry_answers() -> bool:
    return _has("hello-world:latest") or _pull("hello-world:latest", PULL_SECONDS)


def _pull(name: str, seconds: float = 600) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return (
            subprocess.run(["docker", "pull", "-q", name], capture_output=True, check=False, timeout=seconds).returncode
            == 0
        )
    return False


def _import_busybox() -> None:
    """Make busybox:stable from Debian's static build."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "root"
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev"):
            (root / folder).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        (root / "etc" / "group").write_text("root:x:0:\nnobody:x:65534:\n")
        busybox = root / "bin" / "busybox"
        shutil.copy2(_busybox_program(Path(work)), busybox)
        for applet in command([str(busybox), "--list"], failure="busybox does not run").split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        _import(root, BUSYBOX, ["--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin"])


def _busybox_program(work: Path) -> Path:
    failure = "busybox:stable can neither be pulled nor made from Debian's busybox-static. Is there a network?"
    if shutil.which("apt-get") is None:
        raise Stop("busybox:stable cannot be pulled. Is there a network? Type: docker pull busybox:stable")
    command(["apt-get", "download", "-q", "busybox-static"], failure=failure, cwd=work)
    package = next(work.glob("busybox-static_*.deb"))
    command(["dpkg-deb", "-x", str(package), str(work / "package")], failure=failure)
    found = [path for path in (work / "package").rglob("busybox") if path.is_file() and path.parent.name == "bin"]
    return found[0]


def _import_debian() -> None:
    """Make the Debian-based images from one small system with Python, kept in the cache folder."""
    tarball = cache() / f"debian-{SUITE}.tar.gz"
    if not tarball.exists():
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Stop(f"{DEBIAN[0]} cannot be pulled. Is there a network? Type: docker pull {DEBIAN[0]}")
        system.install(system.IMAGES)
        _debootstrap(tarball)
    image = command(["docker", "import", str(tarball)], failure="The Debian base image cannot be imported").strip()
    for name in DEBIAN:
        if not _has(name):
            command(["docker", "tag", image, name], failure=f"{name} cannot be tagged")


def _debootstrap(tarball: Path) -> None:
    failure = "A Debian system for base images cannot be made. Is there a network?"
    said = command(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], failure=failure)
    mirror = next(iter(said.split()), "")
    if not mirror:
        raise Stop("apt-get knows no package source to make base images from. Type: apt-get update")
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "root"
        options = ["--variant=minbase", "--include=python3-minimal,libpython3-stdlib,ca-certificates"]
        command(["debootstrap", *options, SUITE, str(root), mirror], failure=failure)
        command(["sh", "-c", SLIM], failure=failure, cwd=root)
        partial = tarball.with_suffix(".partial")
        command(["tar", "-C", str(root), "-czf", str(partial), "."], failure=failure)
        partial.rename(tarball)


def _import(root: Path, name: str, options: list[str]) -> None:
    tarball = root.parent / "root.tar"
    command(
        ["tar", "-C", str(root), "--owner=0", "--group=0", "-cf", str(tarball), "."], failure=f"{name} cannot be made"
    )
    command(["docker", "import", *options, str(tarball), name], failure=f"{name} cannot be imported")
