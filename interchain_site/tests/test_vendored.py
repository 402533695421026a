"""What is vendored is exactly what the manifest says, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from django.conf import settings

VENDOR = Path(settings.BASE_DIR) / "static" / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())


def test_every_vendored_file_has_the_hash_in_the_manifest():
    expected = {path: digest for package in MANIFEST for path, digest in package["files"].items()}
    found = {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert found == expected


def test_every_package_has_a_version_and_a_licence_file():
    for package in MANIFEST:
        assert package["version"]
        assert package["licence"]
        assert any(path.endswith("/LICENSE") for path in package["files"])


def test_no_source_map_is_promised():
    # collectstatic with a manifest fails on a sourceMappingURL whose file is absent.
    assert not [
        path
        for path in VENDOR.rglob("*.*")
        if path.suffix in {".css", ".js"} and b"sourceMappingURL" in path.read_bytes()
    ]
