"""Permits (EIP-2612): a signature instead of an approval, so that depositing or buying is one transaction.

The document a wallet signs (EIP-712) is written here, with the nonce and the domain read from the token itself; the
domain is compared with the token's own `DOMAIN_SEPARATOR`, so that a wrong one is found before anybody signs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak

from billing.chain.errors import ChainError, Reverted
from billing.chain.types import Call, Chain

DOMAIN_FIELDS = (("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address"))
DOMAIN_TYPE = keccak(text=f"EIP712Domain({','.join(f'{kind} {name}' for name, kind in DOMAIN_FIELDS)})")
PERMIT_FIELDS = (
    ("owner", "address"),
    ("spender", "address"),
    ("value", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
)
VERSIONS = ("1", "2")  # OpenZeppelin's and USDC's, for tokens that do not say
SIGNATURE_BYTES = 65
# Half the curve's order: a signature with a higher s is a copy with another face, and tokens refuse it (EIP-2).
HIGHEST_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


class NoPermit(ChainError):
    code = "no_permit"
    message = "This token takes no permits. Approve the amount first, then pay."


class BadPermit(ChainError):
    code, status = "bad_permit", 400
    message = "This is not the wallet's signature of the permit. Connect the wallet again and sign the new one."


@dataclass(frozen=True)
class PermitSignature:
    """A signature in the parts contracts take."""

    v: int
    r: bytes
    s: bytes


def document(
    *, chain: Chain, token: str, owner: str, spender: str, value: int, deadline: int, chain_id: int
) -> dict[str, Any]:
    """Return the EIP-712 document that lets `spender` take `value` base units from `owner` until `deadline`.

    Numbers above 2^53 are text, because browsers read JSON numbers as floats; wallets take both.

    Args:
        deadline: seconds since 1970.

    Raises:
        NoPermit: the token has no permits, or its domain is none we can name.
        ChainUnavailable: the node does not answer.
    """
    try:
        nonce = _number(chain, token, "nonces(address)", encode(["address"], [owner]))
        domain = _domain(chain, token, chain_id)
    except Reverted:
        raise NoPermit from None
    return {
        "types": {
            "EIP712Domain": [{"name": name, "type": kind} for name, kind in DOMAIN_FIELDS],
            "Permit": [{"name": name, "type": kind} for name, kind in PERMIT_FIELDS],
        },
        "primaryType": "Permit",
        "domain": domain,
        "message": {
            "owner": owner,
            "spender": spender,
            "value": str(value),
            "nonce": str(nonce),
            "deadline": str(deadline),
        },
    }


def read_signature(document: dict[str, Any], signature: str) -> PermitSignature:
    """Return the parts of a permit's signature, after making sure that its owner's key made it.

    Raises:
        BadPermit: it is no signature, another key's, or of another document.
    """
    raw = _bytes(signature)
    if len(raw) != SIGNATURE_BYTES:
        raise BadPermit
    v = raw[64] + 27 if raw[64] in (0, 1) else raw[64]
    parts = PermitSignature(v, raw[:32], raw[32:64])
    if int.from_bytes(parts.s) > HIGHEST_S:
        raise BadPermit
    if _signer(document, raw[:64] + bytes([v])) != document["message"]["owner"]:
        raise BadPermit
    return parts


def _signer(document: dict[str, Any], signature: bytes) -> str:
    message = {
        **document["message"],
        **{name: int(document["message"][name]) for name in ("value", "nonce", "deadline")},
    }
    try:
        signable = encode_typed_data(full_message={**document, "message": message})
        return str(Account.recover_message(signable, signature=signature))
    except Exception:
        return ""


def _domain(chain: Chain, token: str, chain_id: int) -> dict[str, Any]:
    """Return the domain whose hash is the token's own separator."""
    separator = _ask(chain, token, "DOMAIN_SEPARATOR()")
    name = _text(chain, token, "name()")
    versions = list(VERSIONS)
    with suppress(Reverted, DecodingError):
        versions.insert(0, _text(chain, token, "version()"))
    for version in versions:
        values = (keccak(text=name), keccak(text=version), chain_id, token)
        types = ["bytes32", "bytes32", "bytes32", "uint256", "address"]
        if keccak(encode(types, [DOMAIN_TYPE, *values])) == separator:
            return {"name": name, "version": version, "chainId": chain_id, "verifyingContract": token}
    raise NoPermit


def _ask(chain: Chain, token: str, function: str, arguments: bytes = b"") -> bytes:
    return chain.read(Call(token, function_signature_to_4byte_selector(function) + arguments))


def _number(chain: Chain, token: str, function: str, arguments: bytes = b"") -> int:
    try:
        return int(decode(["uint256"], _ask(chain, token, function, arguments))[0])
    except DecodingError:
        raise NoPermit from None


def _text(chain: Chain, token: str, function: str) -> str:
    return str(decode(["string"], _ask(chain, token, function))[0])


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        return b""
