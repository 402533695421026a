"""Permit documents: the token's own domain and nonce, and only its owner's signature."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak

from billing.chain import permits
from billing.chain.errors import Reverted
from billing.chain.types import Call

TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
SPENDER = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
OWNER = Account.from_key("0x" + "11" * 32)


class Token:
    """A chain on which only one token lives."""

    def __init__(self, *, version: str = "1", says_version: bool = False, name: str = "Intercoin") -> None:
        separator = keccak(
            encode(
                ["bytes32", "bytes32", "bytes32", "uint256", "address"],
                [permits.DOMAIN_TYPE, keccak(text=name), keccak(text=version), 31337, TOKEN],
            )
        )
        answers = {
            "nonces(address)": encode(["uint256"], [7]),
            "DOMAIN_SEPARATOR()": separator,
            "name()": encode(["string"], [name]),
        }
        if says_version:
            answers["version()"] = encode(["string"], [version])
        self.answers = {function_signature_to_4byte_selector(name): value for name, value in answers.items()}

    def read(self, call: Call) -> bytes:
        if call.data[:4] not in self.answers:
            raise Reverted
        return self.answers[call.data[:4]]


def document(chain: Any) -> dict[str, Any]:
    return permits.document(
        chain=chain, token=TOKEN, owner=OWNER.address, spender=SPENDER, value=5 * 10**9, deadline=2**40, chain_id=31337
    )


def signed(text: dict[str, Any]) -> str:
    numbers = {name: int(text["message"][name]) for name in ("value", "nonce", "deadline")}
    full = {**text, "message": {**text["message"], **numbers}}
    return "0x" + OWNER.sign_typed_data(full_message=full).signature.hex()


@pytest.mark.parametrize(
    ("token", "version"),
    [(Token(), "1"), (Token(version="2"), "2"), (Token(version="3", says_version=True), "3")],
)
def test_domain_is_the_tokens_own(token, version):
    made = document(token)
    assert made["domain"]["version"] == version
    assert made["message"]["nonce"] == "7"


def test_token_with_another_domain_takes_no_permits():
    with pytest.raises(permits.NoPermit):
        document(Token(version="9"))


def test_token_without_nonces_takes_no_permits():
    token = Token()
    token.answers.clear()
    with pytest.raises(permits.NoPermit):
        document(token)


def test_signature_of_the_owner_is_taken_apart():
    made = document(Token())
    signature = signed(made)
    parts = permits.read_signature(made, signature)
    assert (parts.r + parts.s + bytes([parts.v])).hex() == signature[2:]


def test_wallets_that_count_v_from_nought_are_understood():
    made = document(Token())
    signature = signed(made)
    low = signature[:-2] + f"{int(signature[-2:], 16) - 27:02x}"
    assert permits.read_signature(made, low).v in (27, 28)


@pytest.mark.parametrize("change", ["value", "nonce", "deadline", "spender"])
def test_signature_of_another_permit_is_refused(change):
    made = document(Token())
    signature = signed(made)
    other = {**made, "message": {**made["message"], change: TOKEN if change == "spender" else "1"}}
    with pytest.raises(permits.BadPermit):
        permits.read_signature(other, signature)


@pytest.mark.parametrize("text", ["", "0x", "0x12", "no", "0x" + "ff" * 65])
def test_what_is_no_signature_is_refused(text):
    with pytest.raises(permits.BadPermit):
        permits.read_signature(document(Token()), text)
