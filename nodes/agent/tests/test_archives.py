"""Archives: exactly the one that was released, and no name of its own."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from nodes.agent import archive_rules, archives
from nodes.agent.errors import ArchiveUnsound, LeaseError
from nodes.agent.protocol import Image
from nodes.agent.tests.test_archive_rules import config, layer

LAYER = layer(("hello.txt", b"hello" * 1000))
CONFIG = config(LAYER)
CONFIG_ID = hashlib.sha256(CONFIG).hexdigest()


def archive(path: Path, *, images: int = 1, names: list[str] | None = None) -> Path:
    manifest = [
        {"Config": f"{CONFIG_ID}.json", "RepoTags": names or ["postgres:16"], "Layers": ["x/layer.tar"]}
    ] * images
    index = {
        "schemaVersion": 2,
        "manifests": [{"digest": "sha256:1", "annotations": {"io.containerd.image.name": "postgres:16"}}],
    }
    with tarfile.open(path, "w") as tar:
        for name, data in (
            (f"{CONFIG_ID}.json", CONFIG),
            ("x/layer.tar", LAYER),
            ("manifest.json", json.dumps(manifest).encode()),
            ("index.json", json.dumps(index).encode()),
            ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
            ("repositories", b'{"postgres":{"16":"x"}}'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("y/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../x/layer.tar"
        tar.addfile(link)
    return path


def test_the_released_archive_passes(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    layers = archives.check(path, Image(archive_sha256=digest, image_id=f"sha256:{CONFIG_ID}"))
    assert layers == (f"sha256:{hashlib.sha256(LAYER).hexdigest()}",)
    with pytest.raises(LeaseError, match="not the one that was released"):
        archives.check(path, Image(archive_sha256="0" * 64, image_id=f"sha256:{CONFIG_ID}"))
    with pytest.raises(LeaseError, match="The archive holds image"):
        archives.check(path, Image(archive_sha256=digest, image_id="sha256:" + "0" * 64))


@pytest.mark.parametrize("images", [0, 2])
def test_one_archive_one_image(tmp_path: Path, images: int) -> None:
    with pytest.raises(ArchiveUnsound, match="exactly one image"):
        archive_rules.read(archive(tmp_path / "a.tar", images=images))


@pytest.mark.parametrize("data", [b"", b"text", b"\0" * 20_000])
def test_not_an_archive(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ArchiveUnsound, match="docker save"):
        archive_rules.read(tmp_path / "a.tar")


def test_names_and_a_second_description_stay_outside(tmp_path: Path) -> None:
    stream = b"".join(archives.nameless(archive(tmp_path / "a.tar")))
    assert b"postgres" not in stream
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert tar.getnames() == [f"{CONFIG_ID}.json", "x/layer.tar", "manifest.json", "y/layer.tar"]
        assert tar.extractfile("x/layer.tar").read() == LAYER
        assert tar.getmember("y/layer.tar").linkname == "../x/layer.tar"
        assert json.load(tar.extractfile("manifest.json"))[0]["RepoTags"] is None
    (tmp_path / "b.tar").write_bytes(stream)
    assert archive_rules.read(tmp_path / "b.tar").image_id == f"sha256:{CONFIG_ID}"


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, target
    return link


@pytest.mark.parametrize(
    "smuggled",
    [
        ["./manifest.json"],
        ["x/../manifest.json"],
        ["/manifest.json"],
        ["./index.json"],
        ["./repositories"],
        ["other.json", _link("manifest.json", "other.json")],
        ["other.json", _link("manifest.json", "other.json", tarfile.LNKTYPE)],
        ["other.json", _link("./index.json", "other.json")],
        [_link("here", "."), "here/manifest.json"],
    ],
)
def test_a_name_cannot_be_smuggled_in(tmp_path: Path, smuggled: list[str | tarfile.TarInfo]) -> None:
    path = archive(tmp_path / "a.tar")
    named = json.dumps(
        [{"Config": f"{CONFIG_ID}.json", "RepoTags": ["postgres:16"], "Layers": ["x/layer.tar"]}]
    ).encode()
    with tarfile.open(path, "a") as tar:
        for member in smuggled:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(named) if info.isreg() and not info.linkname else 0
            tar.addfile(info, io.BytesIO(named) if info.size else None)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(LeaseError, match=r"plain file|behind a link|points outside"):
        archives.check(path, Image(archive_sha256=digest, image_id=f"sha256:{CONFIG_ID}"))


def test_a_list_of_names_too_long_to_hold_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar")
    info = tarfile.TarInfo("index.json")
    info.size = archive_rules.MOST_JSON_BYTES + 1
    with tarfile.open(path, "a") as tar:
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(LeaseError, match="plain file"):
        archives.check(path, Image(archive_sha256=digest, image_id=f"sha256:{CONFIG_ID}"))
