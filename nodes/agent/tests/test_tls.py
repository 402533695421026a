"""Authorities kept in one file are trusted one by one, none more and none less, and are read anew when the system's file changes."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import WebSocketException

from nodes.agent import link, protocol, tls
from nodes.agent.errors import PortalUnreachable
from nodes.agent.server_api import Portal
from nodes.agent.tests.portal import FakePortal


def authority(folder: Path, name: str) -> Path:
    """Make a certificate that is its own authority; its key lies beside it."""
    path = folder / f"{name}.pem"
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path.with_suffix(".key")]
    command = ["openssl", "req", "-x509", *key, *names, "-out", path, "-days", "2"]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's one file; two authorities are in it."""
    everything = tmp_path / "everything.pem"
    everything.write_text("".join(f"# {name}\n{authority(tmp_path, name).read_text()}" for name in ("one", "two")))
    paths = ssl.get_default_verify_paths()._replace(cafile=str(everything), capath=None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.setattr(tls, "_spread", [])
    tls.context.cache_clear()
    yield everything
    tls.context.cache_clear()


def told(certificate: Path) -> Any:
    """Return what a portal with this certificate answers."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with FakePortal(tls=server) as portal:
        enrolment = protocol.Enrolment("good", "x", "1", protocol.Capacity(1, 1, 1), protocol.Benchmark(1, 1))
        return Portal(portal.url).enrol(enrolment)


def test_each_authority_of_the_file_is_trusted_and_no_other(known: Path, tmp_path: Path) -> None:
    assert tls.spread_authorities(tmp_path / "authorities")
    assert tls.context().cert_store_stats()["x509"] == 0, "none is held before it is needed"
    for name in ("one", "two"):
        assert told(tmp_path / f"{name}.pem").device_id
    with pytest.raises(PortalUnreachable, match="certificate"):
        told(authority(tmp_path, "stranger"))


def test_the_folder_follows_the_systems_file(known: Path, tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    assert tls.spread_authorities(folder)
    made = (folder / "0000.pem").stat().st_ino
    assert tls.spread_authorities(folder)
    assert (folder / "0000.pem").stat().st_ino == made, "made once"
    known.write_text((tmp_path / "two.pem").read_text())
    os.utime(known, ns=(1, 1))
    assert tls.spread_authorities(folder)
    assert told(tmp_path / "two.pem").device_id
    with pytest.raises(PortalUnreachable, match="certificate"):
        told(tmp_path / "one.pem")


def test_half_a_folder_is_made_anew(known: Path, tmp_path: Path) -> None:
    folder = tmp_path / "authorities"
    assert tls.spread_authorities(folder)
    (folder / tls.STAMP).unlink()
    (folder / "0000.pem").unlink()
    assert tls.spread_authorities(folder)
    assert (folder / "0000.pem").exists()


def test_where_it_cannot_be_the_systems_file_is_used(known: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not tls.spread_authorities(tmp_path / "file" / "authorities")
    assert not tls._spread


def opens(url: str) -> bool:
    """Whether a link can be opened there; tried again, because a server that has just begun now and then drops the first."""
    for _ in range(20):
        with suppress(OSError, WebSocketException), link.opened(url):
            return True
        time.sleep(0.5)
    return False


TALK = """
import json, sys, time
from nodes.agent import link, server_api
assert server_api.Portal(sys.argv[1]).answers()
for left in reversed(range(20)):
    try:
        with link.opened(sys.argv[2]):
            break
    except Exception:
        assert left, "no link"
        time.sleep(0.5)
print(json.dumps(sorted(sys.modules)))
"""


def test_talking_to_the_portal_loads_no_tables_of_names_beyond_ascii(tmp_path: Path) -> None:
    certificate = authority(tmp_path, "portal")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with FakePortal(tls=server) as portal:
        done = subprocess.run(
            [sys.executable, "-c", TALK, portal.url, portal.link_url],
            env={**os.environ, "SSL_CERT_FILE": str(certificate)}, capture_output=True, text=True, check=False, timeout=240,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "websockets.sync.client" in done.stdout
    assert not {"encodings.idna", "stringprep", "unicodedata"} & set(json.loads(done.stdout))


@pytest.mark.parametrize("name", ["127.0.0.2", "localhost", "bücher.example"])
def test_another_name_than_the_certificates_is_refused(known: Path, tmp_path: Path, name: str) -> None:
    """By both ways to the portal: none of them compares less for being given the name as bytes."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "one.pem", tmp_path / "one.key")
    assert tls.spread_authorities(tmp_path / "authorities")
    with FakePortal(tls=server) as portal:
        assert opens(portal.link_url)
        assert Portal(portal.url).answers()
        assert not Portal(portal.url.replace("127.0.0.1", name)).answers()
        with pytest.raises(OSError), link.opened(portal.link_url.replace("127.0.0.1", name)):  # noqa: PT011 (a certificate's, or the resolver's)
            pass
