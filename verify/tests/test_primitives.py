"""The program's own hash and signature code against the libraries everybody uses, and against the standards' examples."""

from __future__ import annotations

import ast
import base64
import http.client
import json
import random
import re
from pathlib import Path

import interchain_verify
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from interchain_verify import documents, ed25519
from interchain_verify.keccak import keccak256
from interchain_verify.report import Report
from interchain_verify.rpc import NoAnswer, Node
from joserfc import jws
from joserfc.jwk import OKPKey

SOURCES = sorted(Path(interchain_verify.__file__).parent.glob("*.py"))
RFC_8032 = [  # §7.1, tests 1 to 3: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@given(st.binary(max_size=500))
def test_keccak_is_ethereums(data):
    assert keccak256(data) == keccak(data)


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_the_examples_of_rfc_8032(key, message, signature):
    assert ed25519.verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


def test_signatures_of_cryptography_and_no_others():
    dice = random.Random(8032)
    for _ in range(20):
        key = Ed25519PrivateKey.generate()
        public, message = key.public_key().public_bytes_raw(), dice.randbytes(dice.randrange(200))
        signature = key.sign(message)
        assert ed25519.verify(public, message, signature)
        place = dice.randrange(64)
        assert not ed25519.verify(
            public, message, signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :]
        )
        assert not ed25519.verify(public, message + b"!", signature)
        malleable = int.from_bytes(signature[32:], "little") + ed25519._L
        assert not ed25519.verify(public, message, signature[:32] + malleable.to_bytes(32, "little"))


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"", b"\x02" + bytes(31)])
def test_no_key_that_signs_everything(public):
    assert not ed25519.verify(public, b"anything", public[:32].ljust(32, b"\0") + bytes(32))


@given(st.binary(min_size=20, max_size=20))
def test_addresses_need_their_checksum(raw):
    good = to_checksum_address(raw)
    assert documents.address_of(good, "it") == good.lower()
    swapped = good.swapcase().replace("X", "x", 1)
    if swapped != good:
        with pytest.raises(documents.Unreadable):
            documents.address_of(swapped, "it")


def test_a_jws_in_another_spelling_is_none():
    key = OKPKey.generate_key("Ed25519")
    token = jws.serialize_compact({"alg": "Ed25519"}, b'{"id":1}', key, algorithms=["Ed25519"])
    public = str(key.as_dict(private=False)["x"])
    assert documents.signed_payload(token, public) == {"id": 1}
    for changed in (token + "=", token[:-1] + chr(ord(token[-1]) ^ 1), token.replace(".", "..", 1), token + ".", ""):
        assert documents.signed_payload(changed, public) is None


@pytest.mark.parametrize(
    "header", [b'{"alg":"none"}', b'{"alg":"HS256"}', b'{"alg":"Ed25519","crit":["b64"],"b64":false}', b"[]", b"{"]
)
def test_a_signature_under_another_header_is_none(header):
    key = Ed25519PrivateKey.generate()

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = f"{text(header)}.{text(b'{}')}"
    token = f"{signed}.{text(key.sign(signed.encode()))}"
    assert documents.signed_payload(token, text(key.public_key().public_bytes_raw())) is None


def test_only_canonical_files_are_read():
    good = documents.canonical({"b": [1, None, "é"], "a": True})
    assert documents.parse(good) == {"b": [1, None, "é"], "a": True}
    for bad in (
        good + b"\n",
        json.dumps({"b": 1, "a": 2}).encode(),
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b"[]",
        b"\xff",
        b"{" * 9999,
    ):
        with pytest.raises(documents.Unreadable):
            documents.parse(bad)


def test_words_of_a_file_do_not_write_our_lines():
    report = Report("Bill line 1\n\nEverything that can be proven is proven.\x1b[8m")
    report.false("Contract: \x1b[2K\u202eno\nPROVEN")
    shown = report.text()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert [one for one in shown.splitlines() if one.startswith(("PROVEN", "Everything"))] == []
    assert shown.splitlines()[-1].startswith("NOT PROVEN")


def test_a_node_that_breaks_off_is_no_crash(monkeypatch):
    def broken(*_, **__):
        raise http.client.IncompleteRead(b"{")

    monkeypatch.setattr("urllib.request.urlopen", broken)
    with pytest.raises(NoAnswer):
        Node("http://127.0.0.1:1").number("eth_chainId")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_needs_python_3_9_and_nothing_else(path):
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    stdlib = {
        "argparse",
        "ast",
        "base64",
        "binascii",
        "dataclasses",
        "datetime",
        "hashlib",
        "http",
        "json",
        "math",
        "pathlib",
        "re",
    }
    stdlib |= {"sys", "textwrap", "time", "typing", "urllib", "collections", "__future__", "interchain_verify"}
    assert imported <= stdlib
    assert not re.search(r"^\s*match ", path.read_text(), re.MULTILINE)
