"""Archives that reach beyond themselves, or are larger than they look: each refused before Docker sees it, in words."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import platform
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from nodes.agent import archive_rules, archives, layer_rules
from nodes.agent.capacity import ARCHITECTURES
from nodes.agent.errors import LeaseError
from nodes.agent.protocol import Image, Reason

HERE = ARCHITECTURES.get(platform.machine(), platform.machine())
MB = 2**20


def layer(*members: "tuple[str, bytes] | tarfile.TarInfo") -> bytes:
    """Return a tar of (name, content) pairs; a TarInfo is added as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            data = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data or bytes(info.size)))
    return out.getvalue()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", device: "tuple[int, int]" = (0, 0)
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, (info.devmajor, info.devminor) = kind, link, device
    return info


def config(*layers: bytes, os: str = "linux", architecture: str = HERE) -> bytes:
    digests = ["sha256:" + hashlib.sha256(one).hexdigest() for one in layers]
    return json.dumps(
        {"os": os, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": digests}}
    ).encode()


GOOD = layer(
    ("etc/app", b"x"), entry("dev/null", tarfile.CHRTYPE, device=(1, 3)), entry("bin", tarfile.SYMTYPE, "/usr/bin")
)


def saved(
    path: Path, inside: bytes = GOOD, *, described: "bytes | None" = None, more: "Sequence[object]" = (), **about: str
) -> Path:
    """Write what `docker save` would, holding one layer. Args: described: the layer its config names."""
    described = inside if described is None else described
    document = config(described, **about)
    manifest = [{"Config": "config.json", "RepoTags": None, "Layers": ["one/layer.tar"]}]
    parts = [("manifest.json", json.dumps(manifest).encode()), ("config.json", document), ("one/layer.tar", inside)]
    path.write_bytes(layer(*parts, *more))  # type: ignore[arg-type]
    return path


def refusal(path: Path) -> str:
    """Return what the publisher is told; the whole check, as a download gets it."""
    document = config(GOOD)
    found = Image(
        archive_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        image_id="sha256:" + hashlib.sha256(document).hexdigest(),
    )
    with pytest.raises(LeaseError) as raised:
        archives.check(path, found)
    assert raised.value.reason is Reason.IMAGE_INVALID
    assert raised.value.permanent, "no device would take it"
    return str(raised.value)


def test_a_sound_archive_is_taken_gzipped_inside_or_not(tmp_path: Path) -> None:
    archive_rules.read(saved(tmp_path / "a.tar"))
    archive_rules.read(saved(tmp_path / "b.tar", gzip.compress(GOOD), described=GOOD))
    archive_rules.read(saved(tmp_path / "c.tar", more=[entry("two/layer.tar", tarfile.SYMTYPE, "../one/layer.tar")]))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (entry("../../etc/cron.d/x"), "points outside itself"),
        (entry("/etc/passwd"), "points outside itself"),
        (entry("here", tarfile.SYMTYPE, "/etc"), "points outside itself"),
        (entry("here", tarfile.SYMTYPE, "../../etc"), "points outside itself"),
        (entry("here", tarfile.LNKTYPE, "../../etc/shadow"), "points outside itself"),
        (entry("disk", tarfile.BLKTYPE, device=(8, 0)), "neither file nor folder"),
        (entry("memory", tarfile.CHRTYPE, device=(1, 1)), "neither file nor folder"),
        (entry("pipe", tarfile.FIFOTYPE), "neither file nor folder"),
    ],
)
def test_an_archive_that_reaches_beyond_itself(tmp_path: Path, more: tarfile.TarInfo, words: str) -> None:
    assert words in refusal(saved(tmp_path / "a.tar", more=[more]))


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (entry("../../etc/cron.d/x"), "points outside of it"),
        (entry("a/../../x"), "points outside of it"),
        (entry("/../x"), "points outside of it"),
        (entry("here", tarfile.LNKTYPE, "../../etc/shadow"), "points outside of it"),
        (entry("dev/sda", tarfile.BLKTYPE, device=(8, 0)), "a device of a computer"),
        (entry("dev/mem", tarfile.CHRTYPE, device=(1, 1)), "a device of a computer"),
    ],
)
def test_a_layer_that_reaches_beyond_its_image(tmp_path: Path, inside: tarfile.TarInfo, words: str) -> None:
    assert words in refusal(saved(tmp_path / "a.tar", layer(inside)))


@pytest.mark.parametrize("name", ["config.json", "one/layer.tar", "manifest.json"])
def test_an_entry_that_is_there_twice(tmp_path: Path, name: str) -> None:
    first, link = (name, b"{}"), entry(name, tarfile.SYMTYPE, "other")
    for again in (first, link):
        with pytest.raises(archive_rules.ArchiveUnsound, match=r"twice|not a plain file"):
            archive_rules.read(saved(tmp_path / "image.tar", more=[("other", b"{}"), again]))


@pytest.mark.parametrize("about", [{"architecture": "s390x"}, {"os": "windows"}])
def test_an_image_for_another_computer(tmp_path: Path, about: "dict[str, str]") -> None:
    assert f"this device is linux/{HERE}" in refusal(saved(tmp_path / "a.tar", **about))


def test_a_layer_that_is_not_the_one_the_config_names(tmp_path: Path) -> None:
    assert "not what the image's config says" in refusal(
        saved(tmp_path / "a.tar", layer(("etc/app", b"y")), described=GOOD)
    )


def test_a_damaged_layer_and_gzip_in_gzip(tmp_path: Path) -> None:
    assert "damaged" in refusal(saved(tmp_path / "a.tar", gzip.compress(GOOD)[:-20], described=GOOD))
    twice = gzip.compress(gzip.compress(GOOD))
    assert "damaged" in refusal(saved(tmp_path / "b.tar", twice, described=GOOD))


ZSTD = bytes.fromhex(
    "28b52ffd045891000068656c6c6f2066726f6d2061206c61796572b68862d7"
)  # what the program makes of a few words


@pytest.mark.parametrize(
    ("program", "packed"), [("zstd", ZSTD), ("xz", lzma.compress(GOOD)), ("bzip2", bz2.compress(GOOD))]
)
def test_a_layer_that_is_compressed_otherwise_is_refused_by_that_name(
    tmp_path: Path, program: str, packed: bytes
) -> None:
    """As images of other registries are, and as a Docker that keeps them in containerd's store saves them."""
    said = refusal(saved(tmp_path / "a.tar", packed, described=GOOD))
    assert f"compressed by {program}" in said
    assert "compression=gzip" in said
    assert "damaged" not in said


def test_a_bomb_of_zeros_in_a_gzipped_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_rules, "MOST_UNPACKED_BYTES", 8 * MB)
    bomb = gzip.compress(layer(("zeros", bytes(9 * MB))))
    assert len(bomb) < MB
    assert "unpacks to more" in refusal(saved(tmp_path / "a.tar", bomb))
    after_the_end = gzip.compress(GOOD + bytes(9 * MB))
    assert "unpacks to more" in refusal(saved(tmp_path / "b.tar", after_the_end))


def test_a_file_of_holes_that_docker_would_write_out(tmp_path: Path) -> None:
    info = tarfile.TarInfo("holes")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(2**40),
        "GNU.sparse.map": "0,0",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    assert "unpacks to more" in refusal(saved(tmp_path / "a.tar", out.getvalue()))


def test_too_many_entries_and_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [entry(f"empty/{number}") for number in range(archive_rules.MOST_MEMBERS)]
    assert "more than 2000 entries" in refusal(saved(tmp_path / "a.tar", more=many))
    monkeypatch.setattr(layer_rules, "MOST_FILES", 1000)
    assert "more than 1,000 files" in refusal(saved(tmp_path / "b.tar", layer(*many)))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_many_megabytes_is_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    huge = entry("x", kind)
    huge.size = archive_rules.MOST_READ_BYTES + MB
    assert "header that is far too large" in refusal(saved(tmp_path / "a.tar", more=[huge]))
    assert "header that is far too large" in refusal(saved(tmp_path / "b.tar", layer(huge)))


@pytest.mark.parametrize(
    "name",
    ["d/" * 10_000 + "f", "d" * 256, "/".join(["d" * 255] * 17), "a/" * 2_000_000 + "f"],
    ids=["deep", "long name", "long path", "four million parts"],
)
def test_paths_no_computer_can_have_take_no_time(tmp_path: Path, name: str) -> None:
    began = time.process_time()
    assert "a path that no computer can have" in refusal(
        saved(tmp_path / "a.tar", more=[entry(name), entry("l", tarfile.SYMTYPE, "x")])
    )
    assert "a path that no computer can have" in refusal(saved(tmp_path / "b.tar", layer(entry(name))))
    assert time.process_time() - began < 20, "days, where each folder above is looked up"


def test_the_longest_names_there_are_are_taken(tmp_path: Path) -> None:
    deep = layer(("/".join(["d" * 255] * 15), b"x"), ("d/" * 2_000 + "f", b"x"))
    assert archive_rules.read(saved(tmp_path / "a.tar", deep)).unpacked_bytes >= len(deep)
