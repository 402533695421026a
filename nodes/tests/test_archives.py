"""Uploaded image archives: what is taken, and what is refused with words that help."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from nodes.agent import archive_rules
from nodes.errors import ArchiveInvalid, NotFound
from nodes.services import archives, image_tar


def tar(*members, **links) -> bytes:
    """Return a tar of (name, content) pairs; a TarInfo is added as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


LAYER = tar(("hello.txt", b"hello"))
CONFIG = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "9090": {}}, "Volumes": {"/data": {}}, "User": "app"},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(LAYER).hexdigest()]},
}


def parts(config=CONFIG, layer=LAYER, **manifest):
    """Return the members of a good archive, changed as asked."""
    config_bytes = json.dumps(config).encode()
    document = {"Config": "config.json", "RepoTags": ["app:1"], "Layers": ["one/layer.tar"]} | manifest
    return [
        ("manifest.json", json.dumps([document]).encode()),
        ("config.json", config_bytes),
        ("one/layer.tar", layer),
    ]


def store(data: bytes):
    return archives.store(io.BytesIO(data))


def stored_files(settings) -> list[str]:
    return [path.name for path in (Path(settings.MEDIA_ROOT) / "archives").iterdir()]


def test_a_good_archive_is_kept_by_its_hash(settings):
    data = tar(*parts())
    info = store(data)
    assert archives.path_of(info.sha256).read_bytes() == data
    assert info == image_tar.ArchiveInfo(
        sha256=hashlib.sha256(data).hexdigest(),
        bytes=len(data),
        image_id="sha256:" + hashlib.sha256(json.dumps(CONFIG).encode()).hexdigest(),
        architecture="amd64",
        ports=(8080, 9090),
        volumes=("/data",),
        user="app",
        tags=("app:1",),
    )
    assert store(data) == info
    assert stored_files(settings) == [info.sha256]
    archives.remove(info.sha256)
    archives.remove(info.sha256)
    with pytest.raises(NotFound):
        archives.path_of(info.sha256)


def test_gzip_outside_and_inside_is_taken_and_kept_plain():
    data = tar(*parts(layer=gzip.compress(LAYER)))
    info = store(gzip.compress(data))
    assert archives.path_of(info.sha256).read_bytes() == data


def test_a_link_inside_is_followed_as_docker_load_does():
    link = tarfile.TarInfo("two/layer.tar")
    link.type, link.linkname = tarfile.SYMTYPE, "../one/layer.tar"
    config = CONFIG | {"rootfs": {"diff_ids": CONFIG["rootfs"]["diff_ids"] * 2}}
    assert store(tar(*parts(config=config, Layers=["one/layer.tar", "two/layer.tar"]), link)).bytes


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def described(layer: bytes) -> dict[str, object]:
    """Return a config that names this layer."""
    return CONFIG | {"rootfs": {"diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}


NODE = tar(member("dev/sda", tarfile.BLKTYPE))
BAD = {
    "empty": (b"", "not a tar"),
    "text": (b"hello" * 1000, "not a tar"),
    "cut off": (tar(*parts())[:1500], "damaged|lacks|manifest"),
    "damaged gzip": (gzip.compress(tar(*parts()))[:-20], "damaged"),
    "no manifest": (tar(*parts()[1:]), "no manifest.json"),
    "manifest is no list": (tar(("manifest.json", b"{}")), "cannot be read"),
    "manifest is deep": (tar(("manifest.json", b"[" * 100_000)), "cannot be read"),
    "two images": (tar(("manifest.json", b"[{},{}]")), "holds 2 images"),
    "no image": (tar(("manifest.json", b"[]")), "holds 0 images"),
    "odd manifest": (tar(("manifest.json", b'[{"Config": 5}]')), "does not describe"),
    "no config": (tar(*parts(Config="other.json")), "lacks 'other.json'"),
    "no layer": (tar(*parts(Layers=["x/layer.tar"])), "lacks 'x/layer.tar'"),
    "no layers": (tar(*parts(Layers=[])), "do not match"),
    "another layer": (tar(*parts(layer=tar(("evil.txt", b"evil")))), "not what the image's config says"),
    "zstd": (
        tar(*parts(layer=bytes.fromhex("28b52ffd045891000068656c6c6f2066726f6d2061206c61796572b68862d7"))),
        "compressed by zstd.*compression=gzip",
    ),
    "windows": (tar(*parts(config=CONFIG | {"os": "windows"})), "windows/amd64"),
    "other processor": (tar(*parts(config=CONFIG | {"architecture": "s390x"})), "linux/s390x"),
    "absolute name": (tar(*parts(), ("/etc/passwd", b"x")), "outside itself"),
    "climbing name": (tar(*parts(), ("../../x", b"x")), "outside itself"),
    "climbing link": (tar(*parts(), member("a", tarfile.SYMTYPE, "../x")), "outside itself"),
    "absolute link": (tar(*parts(), member("a", tarfile.SYMTYPE, "/etc/passwd")), "outside itself"),
    "hard link out": (tar(*parts(), member("a", tarfile.LNKTYPE, "../x")), "outside itself"),
    "device": (tar(*parts(), member("a", tarfile.CHRTYPE)), "neither file nor folder"),
    "pipe": (tar(*parts(), member("a", tarfile.FIFOTYPE)), "neither file nor folder"),
    "device in a layer": (
        tar(*parts(config=described(NODE), layer=NODE)),
        "a device of a computer",
    ),
    "manifest behind a link": (
        tar(*parts(), member("manifest.json", tarfile.SYMTYPE, "config.json")),
        "not a plain file",
    ),
    "link loop": (
        tar(*parts(Layers=["a"]), member("a", tarfile.SYMTYPE, "b"), member("b", tarfile.SYMTYPE, "a")),
        "lacks 'a'",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_sound_image_is_refused_and_not_kept(settings, what):
    data, words = BAD[what]
    with pytest.raises(ArchiveInvalid, match=words):
        store(data)
    assert stored_files(settings) == []


def test_too_large_is_refused_while_it_arrives(settings):
    settings.IMAGE_ARCHIVE_MAX_BYTES = 3_000_000

    class Endless:
        taken = 0

        def read(self, size):
            self.taken += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(ArchiveInvalid, match="larger than 3 MB"):
        archives.store(stream)
    assert stream.taken < 6_000_000
    assert stored_files(settings) == []


def test_a_gzip_bomb_outside_is_refused(settings):
    settings.IMAGE_ARCHIVE_MAX_BYTES = 3_000_000
    with pytest.raises(ArchiveInvalid, match="larger than"):
        store(gzip.compress(b"\0" * 50_000_000))


def test_a_gzip_bomb_inside_is_refused(settings):
    settings.IMAGE_ARCHIVE_MAX_BYTES = 1_000_000
    with pytest.raises(ArchiveInvalid, match="unpacks to more"):
        store(tar(*parts(layer=gzip.compress(b"\0" * 50_000_000))))


def test_too_many_entries_are_refused(settings, monkeypatch):
    monkeypatch.setattr(archive_rules, "MOST_MEMBERS", 5)
    with pytest.raises(ArchiveInvalid, match="more than 5 entries"):
        store(tar(*parts(), *[(f"f{n}", b"") for n in range(5)]))


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a" * 63, "A" * 64])
def test_only_hashes_name_archives(name):
    with pytest.raises(NotFound):
        archives.path_of(name)


def test_what_follows_a_gzip_file_does_not_pile_up_in_memory():
    stream = io.BytesIO(gzip.compress(tar(*parts())) + bytes(8 * archives.CHUNK_BYTES))
    archives.store(stream)
    assert stream.tell() <= 2 * archives.CHUNK_BYTES


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_many_megabytes_is_not_read_into_memory(kind):
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 64 * 10**6
    with pytest.raises(ArchiveInvalid, match="header"):
        store(header.tobuf(tarfile.USTAR_FORMAT) + bytes(64 * 10**6) + tar(*parts()))


def test_numbers_that_are_none_in_a_header_are_a_damaged_archive():
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.map": "a,b", "GNU.sparse.size": "1"}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(ArchiveInvalid, match="not a tar archive"):
        store(out.getvalue())
