"""Who signs our transactions: a key in an encrypted keystore, or a signer of its own behind HTTP.

A signer that is another program is not believed: what it returns is decoded and compared, field by field, with what was
asked, before anybody stores or sends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import requests
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from billing.chain.errors import SignerDisagrees, SignerUnavailable
from billing.chain.types import Call, Fees

TIMEOUT_SECONDS = 5  # a nonce's lock waits for the answer


@dataclass(frozen=True)
class Signed:
    raw: bytes
    hash: str


class Signer(Protocol):
    """Signs with one key; the key itself cannot be had from it."""

    address: str

    def sign(self, call: Call, *, chain_id: int, nonce: int, gas: int, fees: Fees) -> Signed:
        """Return the signed EIP-1559 transaction and its hash.

        Raises:
            SignerUnavailable: it does not answer, or refuses; nothing was signed for us.
            SignerDisagrees: it signed something else; it is never sent.
        """
        ...


class LocalSigner:
    """A key in this process, from a keystore or, in the embedded default, one of Anvil's."""

    def __init__(self, account: LocalAccount) -> None:
        self.address = str(account.address)
        self._account = account

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def sign(self, call: Call, *, chain_id: int, nonce: int, gas: int, fees: Fees) -> Signed:
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.priority_fee,
            "value": 0,
            "data": call.data,
        }
        if call.to is not None:
            fields["to"] = call.to
        signed = self._account.sign_transaction(fields)
        return Signed(raw=bytes(signed.raw_transaction), hash="0x" + bytes(signed.hash).hex())


class RemoteSigner:
    """A signer behind JSON-RPC: `eth_signTransaction` as Web3Signer's execution layer mode has it.

    Source: https://docs.web3signer.consensys.io/reference/api/json-rpc
    """

    def __init__(self, url: str, address: str, *, timeout_seconds: int = TIMEOUT_SECONDS) -> None:
        self.address = str(to_checksum_address(address))
        self._url, self._timeout = url, timeout_seconds

    def __repr__(self) -> str:
        return f"RemoteSigner({self.address})"

    def sign(self, call: Call, *, chain_id: int, nonce: int, gas: int, fees: Fees) -> Signed:
        asked = {
            "from": self.address,
            "nonce": hex(nonce),
            "gas": hex(gas),
            "maxFeePerGas": hex(fees.max_fee),
            "maxPriorityFeePerGas": hex(fees.priority_fee),
            "value": "0x0",
            "data": "0x" + call.data.hex(),
        }
        if call.to is not None:
            asked["to"] = call.to
        raw = self._ask("eth_signTransaction", asked)
        wanted = {
            "chainId": chain_id,
            "nonce": nonce,
            "gas": gas,
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.priority_fee,
            "value": 0,
            "data": call.data,
            "to": call.to.lower() if call.to else "",
            "accessList": (),
        }
        return _as_asked(raw, wanted, self.address)

    def _ask(self, method: str, *params: object) -> bytes:
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = requests.post(self._url, json=question, timeout=self._timeout)
            body = answer.json()
            result = body.get("result") if isinstance(body, dict) else None
            if isinstance(result, dict):  # some signers answer as geth does
                result = result.get("raw")
            if isinstance(result, str):
                return bytes(HexBytes(result))
        except (requests.RequestException, ValueError) as error:
            raise SignerUnavailable from error
        refusal = body.get("error") if isinstance(body, dict) else None
        said = str(refusal.get("message", "")) if isinstance(refusal, dict) else ""
        raise SignerUnavailable(f"{SignerUnavailable.message} It says: {said or 'nothing'}")


def _as_asked(raw: bytes, wanted: dict[str, Any], address: str) -> Signed:
    """Return the signed bytes if they are exactly what was asked, by the key that was asked."""
    try:
        decoded = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        signer = str(Account.recover_transaction(raw))
        found = {
            **{name: decoded[name] for name in wanted},
            "data": bytes(HexBytes(decoded["data"])),
            "to": _address(decoded["to"]),
            "accessList": tuple(decoded["accessList"]),
        }
    except Exception as error:
        raise SignerDisagrees("The external signer's answer is not a signed transaction.") from error
    wrong = sorted(name for name in wanted if found[name] != wanted[name])
    if signer != address:
        wrong.append("signer")
    if wrong:
        raise SignerDisagrees(f"The external signer signed something else than asked: {', '.join(wrong)} differ.")
    return Signed(raw=raw, hash="0x" + keccak(raw).hex())


def _address(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) and value else str(value or "").lower()
