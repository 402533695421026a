"""Our check of a compact JWS, held to a real JOSE library: never more lenient, and as lenient for what devices send."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey

from nodes.agent.protocol import MAX_BODY_BYTES, MAX_READINGS_PER_BATCH, Meter, Method, Reading, ReadingBatch, to_json
from nodes.errors import BadSignature
from nodes.services import signatures

KEY = OKPKey.generate_key("Ed25519")
PUBLIC = str(KEY.as_dict(private=False)["x"])
OTHER = OKPKey.generate_key("Ed25519")
ORDER = 2**252 + 27742317777372353535851937790883648493


def b64(data: bytes | dict) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def signed(header: bytes | dict, payload: bytes = b'{"a":1}', key: OKPKey = KEY) -> str:
    """Sign any header, those a library would refuse to sign included."""
    covered = f"{b64(header)}.{b64(payload)}"
    return f"{covered}.{b64(key.private_key.sign(covered.encode()))}"


def ours(token: str | bytes) -> bytes | None:
    try:
        return signatures.verified_payload(token, PUBLIC)
    except BadSignature:
        return None


def theirs(token: str | bytes) -> bytes | None:
    try:
        key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": PUBLIC})
        return bytes(jws.deserialize_compact(token, key, algorithms=["Ed25519"]).payload or b"")
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None


GOOD = jws.serialize_compact({"alg": "Ed25519"}, b'{"a":1}', KEY, algorithms=["Ed25519"])


# --- what a real library signs is taken --------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(payload=st.binary(max_size=2000))
def test_what_joserfc_signs_is_taken_as_it_was_said(payload):
    token = jws.serialize_compact({"alg": "Ed25519"}, payload, KEY, algorithms=["Ed25519"])
    assert ours(token) == ours(token.encode()) == payload == theirs(token)


def test_a_jwt_of_joserfc_with_its_usual_header_is_taken():
    token = jwt.encode({"alg": "Ed25519", "typ": "JWT", "kid": "1"}, {"iss": "x"}, KEY, algorithms=["Ed25519"])
    assert json.loads(ours(token)) == {"iss": "x"}


def test_the_largest_batch_fits():
    lease = "00000000-0000-4000-8000-000000000000"
    moment = "2026-11-27T08:00:00.000000+00:00"
    reading = Reading(lease, 2**31, Meter.TRANSFER, 2**63 - 1, moment, Method.INTERFACE)
    batch = to_json(ReadingBatch(lease, lease, moment, (reading,) * MAX_READINGS_PER_BATCH))
    assert ours(signed({"alg": "Ed25519"}, batch)) == batch


# --- what must not be --------------------------------------------------------------------------------------------

head, body, tail = GOOD.split(".")
signature = unb64(tail)
higher = signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
hmac_key = OctKey.import_key(unb64(PUBLIC))

ATTACKS = {
    "alg none": f"{b64({'alg': 'none'})}.{body}.",
    "alg none, signature kept": f"{b64({'alg': 'none'})}.{body}.{tail}",
    "alg nOnE": f"{b64({'alg': 'nOnE'})}.{body}.",
    "no alg": signed({"typ": "JWT"}),
    "alg is a list": signed({"alg": ["Ed25519"]}),
    "alg in other letters": signed({"alg": "ed25519"}),
    "alg with a space": signed({"alg": "Ed25519 "}),
    "HMAC with the public key": jws.serialize_compact({"alg": "HS256"}, b'{"a":1}', hmac_key, algorithms=["HS256"]),
    "HMAC called Ed25519": jws.serialize_compact({"alg": "HS256"}, b'{"a":1}', hmac_key, algorithms=["HS256"]).replace(
        b64({"alg": "HS256"}), head
    ),
    "another algorithm": jws.serialize_compact(
        {"alg": "ES256"}, b"{}", ECKey.generate_key("P-256"), algorithms=["ES256"]
    ),
    "another key": signed({"alg": "Ed25519"}, key=OTHER),
    "another key, sent along": signed({"alg": "Ed25519", "jwk": OTHER.as_dict(private=False)}, key=OTHER),
    "an address of a key": signed({"alg": "Ed25519", "jku": "https://evil.example/keys"}),
    "crit": signed({"alg": "Ed25519", "crit": ["exp"], "exp": 1}),
    "crit without what it names": signed({"alg": "Ed25519", "crit": []}),
    "unencoded payload": signed({"alg": "Ed25519", "b64": False, "crit": ["b64"]}),
    "unencoded payload, not critical": signed({"alg": "Ed25519", "b64": False}),
    "alg twice, ours last": signed(b'{"alg":"none","alg":"Ed25519"}'),
    "alg twice, ours first": signed(b'{"alg":"Ed25519","alg":"none"}'),
    "alg twice, one escaped": signed(b'{"alg":"none","\\u0061lg":"Ed25519"}'),
    "header is a list": signed(b'["alg","Ed25519"]'),
    "header is text": signed(b'"Ed25519"'),
    "header is deep": signed(b'{"alg":' * 20_000),
    "header is no JSON": signed(b"Ed25519"),
    "header is not UTF-8": signed(b'{"alg":"Ed25519","kid":"\xff"}'),
    "NaN for alg": signed(b'{"alg":NaN}'),
    "no signature": f"{head}.{body}.",
    "two parts": f"{head}.{body}",
    "four parts": f"{GOOD}.{tail}",
    "short signature": f"{head}.{body}.{b64(signature[:-1])}",
    "long signature": f"{head}.{body}.{b64(signature + b'0')}",
    "signature of zeros": f"{head}.{body}.{b64(bytes(64))}",
    "signature plus the group's order": f"{head}.{body}.{b64(higher)}",
    "signature's text with stray bits": f"{head}.{body}.{tail[:-1]}{'BCD'[0] if tail[-1] == 'A' else chr(ord(tail[-1]) + 1)}",
    "padding": f"{head}.{body}.{tail}==",
    "padding in the payload": f"{head}.{body}==.{tail}",
    "a line break": f"{head}.{body}.{tail}\n",
    "a space in the payload": f"{head}.{body[:4]} {body[4:]}.{tail}",
    "the other base64 alphabet": signed({"alg": "Ed25519"}, b"\xff\xff\xfe").replace("_", "/").replace("-", "+"),
    "other letters than ASCII": f"{head}.{body}é.{tail}",
    "nothing": "",
    "dots": "..",
    "JSON serialization": json.dumps({"payload": body, "protected": head, "signature": tail}),
}


@pytest.mark.parametrize("token", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused(token):
    assert ours(token) is None
    assert ours(token.encode()) is None


def test_an_oversized_token_is_refused_before_it_is_read():
    assert ours("a" * (MAX_BODY_BYTES + 1)) is None
    assert ours(signed({"alg": "Ed25519"}, b" " * MAX_BODY_BYTES)) is None


def test_keys_of_small_order_sign_nothing():
    """Under such a key (here the point of order one) a forged signature would hold for every message."""
    weak = b64((1).to_bytes(32, "little"))
    forged = f"{head}.{body}.{b64((1).to_bytes(32, 'little') + bytes(32))}"
    with pytest.raises(BadSignature):
        signatures.verified_payload(forged, weak)


@pytest.mark.parametrize("public", ["", "x", "é" * 43, b64(bytes(31)), PUBLIC + "=", PUBLIC[:-1]], ids=range(6))
def test_what_is_no_key_proves_nothing(public):
    with pytest.raises(BadSignature):
        signatures.verified_payload(GOOD, public)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_changed_ours_takes_nothing_that_joserfc_refuses(data):
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "add"]))
        letter = data.draw(st.sampled_from(b"ABab01-_=.+/ \n\xff"))
        text[place : place + (change != "add")] = b"" if change == "cut" else bytes([letter])
    token = bytes(text)
    if token != GOOD.encode():
        assert ours(token) is None
    assert theirs(token) == ours(token) or ours(token) is None


# --- what was signed, as JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [b'{"total":1,"total":2}', b'{"a":{"b":1,"b":1}}', b"[]", b"1", b"", b"[" * 100_000, b"\xff"]
)
def test_json_that_could_be_read_in_two_ways_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        signatures.json_object(text)
