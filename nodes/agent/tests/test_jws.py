"""Our compact JWS is the one joserfc writes and reads; a key file is the one every other library writes and reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as jose
from joserfc.jwk import OKPKey

from nodes.agent import jws, keys
from nodes.agent.errors import SetupError

ALGORITHMS = ["Ed25519"]
# One fixed key: the names of tests must be the same in every process that collects them.
THEIRS = OKPKey.import_key(keys.DeviceKey(keys.SigningKey(bytes(range(32)))).to_pem())
X = str(THEIRS.as_dict(private=False)["x"])


def theirs(payload: bytes, **header: object) -> str:
    return jose.serialize_compact({"alg": "Ed25519", **header}, payload, THEIRS, algorithms=ALGORITHMS)


@given(st.binary(max_size=300))
def test_what_one_signs_the_other_reads(payload: bytes) -> None:
    assert jws.verified(theirs(payload, kid="1"), X) == payload
    ours = keys.SigningKey.generate()
    x = jws.encode(bytes(ours.verify_key))
    compact = jws.sign(payload, ours)
    assert jws.verified(compact, x) == payload
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
    assert jose.deserialize_compact(compact, key, algorithms=ALGORITHMS).payload == payload


@given(st.integers(0, 10_000), st.sampled_from("AZaz09-_.=\n é"))
def test_no_character_can_be_changed(place: int, other: str) -> None:
    compact = theirs(b'{"n": 1}')
    place %= len(compact)
    changed = compact[:place] + other + compact[place + 1 :]
    if changed != compact:
        with pytest.raises(jws.BadSignature):
            jws.verified(changed, X)


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "EdDSA"},
        {"alg": "HS256"},
        {},
        [],
        "Ed25519",
        {"alg": "Ed25519", "crit": ["exp"], "exp": 1},
        {"alg": "Ed25519", "b64": False, "crit": ["b64"]},
    ],
)
def test_another_header_is_refused_though_the_key_signed_it(header: object) -> None:
    ours = keys.SigningKey.generate()
    signed = f"{jws.encode(json.dumps(header).encode())}.{jws.encode(b'x')}"
    compact = f"{signed}.{jws.encode(ours.sign(signed.encode()).signature)}"
    with pytest.raises(jws.BadSignature):
        jws.verified(compact, jws.encode(bytes(ours.verify_key)))


@pytest.mark.parametrize("compact", ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "[" * 5000 + ".a.b", theirs(b"") + "="])
def test_what_is_no_jws_is_refused(compact: str) -> None:
    with pytest.raises(jws.BadSignature):
        jws.verified(compact, X)


@pytest.mark.parametrize("x", ["", "AAAA", "A" * 43, X + "=", X[:-1], "é" * 43])
def test_what_is_no_key_has_signed_nothing(x: str) -> None:
    with pytest.raises(jws.BadSignature):
        jws.verified(theirs(b"x"), x)


def test_a_key_file_is_what_other_libraries_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    made = keys.create(path)
    read = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(read, Ed25519PrivateKey)
    assert jws.encode(read.public_key().public_bytes_raw()) == made.public_x
    path.write_bytes(THEIRS.as_pem(private=True))
    assert keys.load(path).public_x == X


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n",
        THEIRS.as_pem(private=False),
        OKPKey.generate_key("X25519").as_pem(private=True),
        THEIRS.as_pem(private=True)[:-30],
        b"\xff\xfe",
    ],
    ids=range(8),
)
def test_a_damaged_key_file_is_said_to_be_damaged(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "device.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(SetupError, match="damaged"):
        keys.load(path)
